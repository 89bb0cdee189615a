//! Why a node or a component does not come up: the component's own error message instead of a symptom.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::health::ask::output;
use crate::cluster::health::lines::{MAX_LINES, code, last_lines, relevant_lines};
use crate::cluster::health::probe::is_full;
use crate::cluster::health::{over, pulls};
use crate::engine::Engine;
use crate::error::{Code, Error, FREE_DISK, counted};
use crate::host::limits;

/// Restarts of a node's container, or of a kubelet, after which it is suspected.
const MAX_RESTARTS: u64 = 2;
/// A container that ends within this many seconds did not merely wait for another one.
const MAX_SHORT_LIFE: i64 = 8;
/// Where a kubelet says that it is well.
const KUBELET: &str = "http://127.0.0.1:10248/healthz";

/// Components that need only the control plane itself, and so end early only if their own settings are wrong.
const COMPONENTS: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns"];

/// Words of a mistake in a setting, which no further start can correct.
const OF_SETTINGS: [&str; 7] =
    ["flag", "invalid", "unrecognized", "unknown", "not defined", "cannot unmarshal", "failed to parse"];

/// What fails in a node, now.
#[derive(Debug, Clone)]
pub struct Failure {
    pub error: Error,
    /// How often it has failed, if it may also be well from now on: on a slow machine something ends early because another
    /// thing was not there yet. It will not go away if it fails again.
    pub times: Option<u64>,
}

impl Failure {
    /// It will not go away by itself.
    pub(super) fn lasting(error: Error) -> Self {
        Self { error, times: None }
    }

    /// Whether this is the same failure as that one, which was seen earlier, and it will not go away.
    pub(super) fn confirms(&self, earlier: &Self) -> bool {
        let again = match (earlier.times, self.times) {
            (Some(before), Some(now)) => now > before,
            _ => true,
        };
        again && self.error.message() == earlier.error.message()
    }
}

/// The first failure of a node: it stopped, its disk is full, or a component keeps failing. What failed earlier and is well
/// now is none. Nothing can be asked of a node that stopped.
pub async fn find_failure(engine: &dyn Engine, node: &str) -> Option<Failure> {
    if let Some(failure) = stopped(engine, node).await {
        return Some(failure);
    }
    if let Some(error) = full_disk(engine, node).await {
        return Some(Failure::lasting(error));
    }
    if let Some(failure) = kubelet(engine, node).await {
        return Some(failure);
    }
    if let Some(error) = pulls::find_failure(engine, node).await {
        return Some(Failure::lasting(error));
    }
    component(engine, node).await
}

async fn stopped(engine: &dyn Engine, node: &str) -> Option<Failure> {
    let inspected = match engine.inspect(node).await {
        Err(error) if error.code() == Code::EngineUnreachable => return Some(Failure::lasting(error)),
        inspected => inspected.ok()??,
    };
    let log = async || {
        let log = engine.logs(node, Some(20)).await.unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    };
    if !inspected.running {
        if let Some(error) = over::find(engine, node, &inspected).await {
            return Some(Failure::lasting(error));
        }
        let (cause, log) = (format!("its container exited with {}", code(inspected.exit_code)), log().await);
        let error = exited(engine, node, cause, &log).await;
        return Some(Failure::lasting(error.with_lines(last_lines(&log, MAX_LINES))));
    }
    // If a node ends again and again, the engine starts it again and again, and reports it as running in between: its
    // state and its log are then those of the new start.
    if inspected.restart_count < MAX_RESTARTS {
        return None;
    }
    let last = engine.last_exit(node).await.ok().flatten();
    let last = last.map_or_else(String::new, |last| format!("; its last exit code was {}", code(last)));
    let times = counted(inspected.restart_count, "time");
    let cause = format!("its container ended {times}, and the engine started it again{last}");
    let error = exited(engine, node, cause, &log().await).await;
    Some(Failure { error, times: Some(inspected.restart_count) })
}

async fn exited(engine: &dyn Engine, node: &str, cause: String, log: &str) -> Error {
    let error = Error::new(Code::NodeExited, "the node stopped").on_node(node);
    match few_inotify(engine, log).await {
        Some(reason) => error.because(format!("{cause}; {reason}")).hint(limits::MORE_INOTIFY),
        None => error.because(cause).hint("keep the nodes with `--retain`, then read `coracle export logs`"),
    }
}

/// Whether too few inotify instances may be the reason that a node stopped: systemd ends without them, and may say so.
async fn few_inotify(engine: &dyn Engine, log: &str) -> Option<String> {
    if log.contains("Too many open files") {
        return Some("the kernel refused it an inotify instance".to_owned());
    }
    let info = engine.info().await.ok()?;
    let containers = engine.containers(&[]).await.ok()?;
    limits::scarce_inotify(&info, &containers)
}

/// The kubelet says "too many open files" where inotify instances are lacking, which the host's containers share.
fn out_of_inotify(node: &str, lines: &[String]) -> Option<Error> {
    let is_one = |line: &&String| {
        let line = line.to_lowercase();
        line.contains("too many open files") && ["notify", "watcher"].iter().any(|word| line.contains(word))
    };
    let line = lines.iter().find(is_one)?;
    Some(
        Error::new(Code::InotifyLimit, "the kernel allows no more inotify instances")
            .on_node(node)
            .because(line)
            .hint(limits::MORE_INOTIFY),
    )
}

/// On a full disk nothing starts, and nothing reports it, because no log can be written either.
async fn full_disk(engine: &dyn Engine, node: &str) -> Option<Error> {
    let command = ["stat", "--file-system", "--format=%f %S", "/var"];
    let full = match engine.exec(node, &command, None).await {
        Ok(output) => is_full(&String::from_utf8_lossy(&output.stdout)),
        // The command itself could not be started.
        Err(error) => error.code() == Code::DiskFull,
    };
    full.then(|| {
        Error::new(Code::DiskFull, "the engine's disk is full")
            .on_node(node)
            .because("no space left on device")
            .hint(format!("{FREE_DISK}; then create the cluster again"))
    })
}

/// The kubelet restarts every second if its configuration or a flag is wrong.
async fn kubelet(engine: &dyn Engine, node: &str) -> Option<Failure> {
    let command = ["systemctl", "show", "kubelet", "--property=NRestarts", "--value"];
    let restarts: u64 = output(engine, node, &command).await?.trim().parse().ok()?;
    if restarts < MAX_RESTARTS {
        return None;
    }
    // A kubelet that has come up serves its health, until it fails again.
    if output(engine, node, &["curl", "--silent", "--fail", "--max-time", "2", KUBELET]).await.is_some() {
        return None;
    }
    let lines = log(engine, node, "kubelet").await;
    if let Some(error) = out_of_inotify(node, &lines) {
        return Some(Failure::lasting(error));
    }
    let error = Error::new(Code::ComponentFailed, "the kubelet keeps failing")
        .on_node(node)
        .because(lines.last().cloned().unwrap_or_else(|| "it exits at once".to_owned()))
        .with_lines(lines)
        .hint("check `kubelet` and `featureGates` in the configuration");
    Some(Failure { error, times: Some(restarts) })
}

/// The relevant lines of the log of a component, or of the kubelet if that has not started it.
pub(super) async fn log(engine: &dyn Engine, node: &str, component: &str) -> Vec<String> {
    let is_unit = ["kubelet", "containerd"].contains(&component);
    if !is_unit && let Some(container) = containers(engine, node).await.into_iter().find(|of| of.name == component) {
        return container.log(engine, node).await;
    }
    let unit = format!("--unit={}", if is_unit { component } else { "kubelet" });
    let command = ["journalctl", &unit, "--no-pager", "--output=cat", "--lines=200"];
    relevant_lines(&output(engine, node, &command).await.unwrap_or_default())
}

/// A container of a static pod or an add-on that ended shortly after each of its starts, and does not run now.
async fn component(engine: &dyn Engine, node: &str) -> Option<Failure> {
    for container in containers(engine, node).await {
        // An add-on may have failed because another one did not run yet.
        let least = if COMPONENTS.contains(&container.name.as_str()) { 1 } else { 2 };
        if !container.ended || container.number < least {
            continue;
        }
        let details = output(engine, node, &["crictl", "inspect", &container.id]).await?;
        let details: Value = serde_json::from_str(&details).ok()?;
        if !is_short_failure(&details["status"]) {
            continue;
        }
        let lines = container.log(engine, node).await;
        let cause = lines.last().cloned().unwrap_or_else(|| "it exits at once".to_owned());
        let lower = cause.to_lowercase();
        let is_mistake = OF_SETTINGS.iter().any(|word| lower.contains(word));
        return Some(Failure {
            times: (!is_mistake).then_some(container.number),
            error: component_error(node, &container.name, cause, lines),
        });
    }
    None
}

/// The last container of each container of the pods in `kube-system`.
async fn containers(engine: &dyn Engine, node: &str) -> Vec<Attempt> {
    let listed = output(engine, node, &["crictl", "ps", "--all", "--output=json"]).await;
    listed.and_then(|text| serde_json::from_str(&text).ok()).map(|list: Value| last_attempts(&list)).unwrap_or_default()
}

/// A container, one of several attempts of its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attempt {
    id: String,
    name: String,
    /// How many there were before it.
    number: u64,
    /// When it was made, in nanoseconds, and its number, which begins anew when the pod's manifest was changed.
    order: (u64, u64),
    ended: bool,
}

impl Attempt {
    async fn log(&self, engine: &dyn Engine, node: &str) -> Vec<String> {
        let Ok(log) = engine.exec(node, &["crictl", "logs", "--tail=60", &self.id], None).await else {
            return Vec::new();
        };
        relevant_lines(&format!("{}\n{}", String::from_utf8_lossy(&log.stdout), String::from_utf8_lossy(&log.stderr)))
    }
}

fn last_attempts(list: &Value) -> Vec<Attempt> {
    let mut newest: BTreeMap<(&str, &str), Attempt> = BTreeMap::new();
    for container in list["containers"].as_array().into_iter().flatten() {
        let label = |key: &str| container["labels"][format!("io.kubernetes.pod.{key}")].as_str().unwrap_or_default();
        if label("namespace") != "kube-system" {
            continue;
        }
        let name = container["metadata"]["name"].as_str().unwrap_or_default();
        let number = container["metadata"]["attempt"].as_u64().unwrap_or_default();
        let made = container["createdAt"].as_str().and_then(|time| time.parse().ok()).unwrap_or_default();
        let attempt = Attempt {
            id: container["id"].as_str().unwrap_or_default().to_owned(),
            name: name.to_owned(),
            number,
            order: (made, number),
            ended: container["state"] == "CONTAINER_EXITED",
        };
        let kept = newest.entry((label("name"), name)).or_insert_with(|| attempt.clone());
        if kept.order < attempt.order {
            *kept = attempt;
        }
    }
    newest.into_values().collect()
}

fn component_error(node: &str, name: &str, cause: String, lines: Vec<String>) -> Error {
    let hint = match name {
        "etcd" => "check `etcd` and `featureGates` in the configuration",
        "kube-apiserver" => "check `apiServer` and `featureGates` in the configuration",
        "kube-controller-manager" => "check `controllerManager` and `featureGates` in the configuration",
        "kube-scheduler" => "check `scheduler` and `featureGates` in the configuration",
        "coredns" => {
            "check `coreDNS` in the configuration; with `--retain` the nodes are kept for `coracle export logs`"
        }
        "kube-proxy" => "check `kubeProxy` and `featureGates` in the configuration",
        _ => "keep the nodes with `--retain`, then read `coracle export logs`",
    };
    Error::new(Code::ComponentFailed, format!("{name} keeps failing"))
        .on_node(node)
        .because(cause)
        .with_lines(lines)
        .hint(hint)
}

/// Whether it ended with an error within seconds; a component that waited for another one lives longer.
fn is_short_failure(status: &Value) -> bool {
    let failed = status["exitCode"].as_i64().is_some_and(|code| code != 0);
    let time = |key: &str| {
        let text = status[key].as_str()?;
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
    };
    let lived = time("finishedAt").zip(time("startedAt")).map(|(end, start)| (end - start).whole_seconds());
    failed && lived.is_some_and(|seconds| seconds < MAX_SHORT_LIFE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::{ContainerSpec, ExecOutput};

    #[tokio::test]
    async fn a_node_that_was_killed_twice_is_told_with_how_it_ended() {
        let engine = FakeEngine::new(&["node"]);
        engine.create_container(&ContainerSpec::new("t-node", "node")).await.unwrap();
        engine.start_container("t-node").await.unwrap();
        for _ in 0..2 {
            assert!(stopped(&engine, "t-node").await.is_none());
            engine.restarts_after("t-node", 137);
        }
        let error = stopped(&engine, "t-node").await.unwrap().error;
        let cause = error.cause().unwrap_or_default();
        assert!(cause.starts_with("its container ended 2 times, and the engine started it again;"), "{cause}");
        assert!(cause.contains("its last exit code was 137, which is SIGKILL"), "{cause}");
        // The log is that of the new start.
        assert!(error.lines().is_empty());
        engine.stop_container("t-node", 0).await.unwrap();
        let error = stopped(&engine, "t-node").await.unwrap().error;
        assert!(error.cause().unwrap().starts_with("its container exited with 0"), "{error}");
    }

    #[test]
    fn only_a_quick_end_with_an_error_counts() {
        let status = |code: i64, end: &str| serde_json::json!({"exitCode": code, "startedAt": "2026-01-01T00:00:00.5Z", "finishedAt": end});
        assert!(is_short_failure(&status(1, "2026-01-01T00:00:01Z")));
        assert!(!is_short_failure(&status(0, "2026-01-01T00:00:01Z")));
        assert!(!is_short_failure(&status(1, "2026-01-01T00:00:30Z")));
    }

    #[tokio::test]
    async fn a_node_that_got_no_inotify_instance_is_told_as_one() {
        let log = "Failed to create control group inotify object: Too many open files";
        let reason = few_inotify(&FakeEngine::new(&["node"]), log).await;
        assert_eq!(reason.as_deref(), Some("the kernel refused it an inotify instance"));
    }

    fn container(attempt: u64, state: &str) -> Value {
        let labels = json!({"io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.pod.name": "etcd-a"});
        let metadata = json!({"name": "etcd", "attempt": attempt});
        json!({"id": format!("c{attempt}"), "metadata": metadata, "state": state, "labels": labels})
    }

    /// A node whose kubelet was restarted this often, and answers or not, with these containers.
    async fn node(restarts: u64, answers: bool, containers: Vec<Value>, log: &str) -> Option<Failure> {
        let log = log.to_owned();
        let engine = FakeEngine::new(&["node"]).on_exec(move |_, command, _| {
            let (exit_code, stdout) = match *command {
                ["stat", ..] => (0, "65536 4096".to_owned()),
                ["systemctl", ..] => (0, restarts.to_string()),
                ["curl", ..] => (i64::from(!answers), String::new()),
                ["crictl", "ps", ..] => (0, json!({"containers": containers}).to_string()),
                ["crictl", "inspect", _] => {
                    let status = json!({"exitCode": 1, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"});
                    (0, json!({"status": status}).to_string())
                }
                ["crictl", "logs", ..] => (0, log.clone()),
                ["journalctl", .., "--grep", _] => (1, String::new()),
                _ => (0, "error: it broke".to_owned()),
            };
            ExecOutput { exit_code, stdout: stdout.into(), stderr: Vec::new() }
        });
        engine.create_container(&ContainerSpec::new("a", "node")).await.unwrap();
        engine.start_container("a").await.unwrap();
        find_failure(&engine, "a").await
    }

    #[tokio::test]
    async fn a_kubelet_that_is_well_now_is_no_failure_and_one_that_fails_must_fail_again() {
        assert!(node(5, true, Vec::new(), "").await.is_none());
        let failing = async |restarts| node(restarts, false, Vec::new(), "").await.unwrap();
        let (first, same, again) = (failing(2).await, failing(2).await, failing(3).await);
        assert_eq!(first.error.message(), "the kubelet keeps failing");
        assert!(!same.confirms(&first) && again.confirms(&first));
    }

    #[tokio::test]
    async fn a_component_that_runs_now_is_no_failure() {
        let ended = || container(2, "CONTAINER_EXITED");
        assert!(node(0, true, vec![ended(), container(3, "CONTAINER_RUNNING")], "").await.is_none());
        let failing = node(0, true, vec![ended()], "error: no such host").await.unwrap();
        assert_eq!(failing.error.to_string(), "etcd keeps failing on node `a`: error: no such host");
        // It may only have been too early.
        assert!(!failing.confirms(&failing));
        let mistaken = node(0, true, vec![ended()], "error: unknown flag: --x").await.unwrap();
        assert!(mistaken.confirms(&mistaken));
    }

    #[test]
    fn a_lack_of_inotify_instances_is_not_taken_for_a_mistake_in_the_settings() {
        let lines = |line: &str| ["E1 cannot do it".to_owned(), line.to_owned()];
        for line in [
            "E2 \"Failed to start cAdvisor\" err=\"inotify_init: too many open files\"",
            "E2 err=\"error initializing watcher: too many open files\"",
            "Failed to create inotify object: Too many open files",
        ] {
            let error = out_of_inotify("a", &lines(line)).unwrap();
            assert_eq!((error.code(), error.cause()), (Code::InotifyLimit, Some(line)));
        }
        assert!(out_of_inotify("a", &lines("E2 accept4: too many open files")).is_none());
    }
}
