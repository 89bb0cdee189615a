//! Why a node or a component does not come up: the component's own error message instead of a symptom.

use serde_json::Value;

use crate::cluster::health::ask::output;
use crate::cluster::health::pulls;
use crate::engine::Engine;
use crate::error::{Code, Error, FREE_DISK};
use crate::host::check::{Check, first_failure};

/// Lines of a log that are shown.
const MAX_LINES: usize = 12;
/// Restarts of a node's container after which coracle gives up.
const MAX_RESTARTS: u64 = 2;
/// A container that ends within this many seconds did not merely wait for another one.
const MAX_SHORT_LIFE: i64 = 8;
/// Free bytes below which nothing starts: ext4 counts 16 MiB as free that not even root can use.
const MIN_FREE: u64 = 24 * 1024 * 1024;

/// Components that need only the control plane itself, and so end early only if their own settings are wrong.
const COMPONENTS: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns"];

/// The first failure of a node that will not go away by itself: the node stopped, or a component keeps failing.
pub async fn find_failure(engine: &dyn Engine, node: &str) -> Option<Error> {
    first_failure(checks(engine, node).await)
}

/// Checks a node for failures that will not go away by themselves. Nothing can be asked of a node that stopped.
pub async fn checks(engine: &dyn Engine, node: &str) -> Vec<Check> {
    if let Some(error) = stopped(engine, node).await {
        return vec![check("container", Some(error))];
    }
    vec![
        check("container", None),
        check("disk space", full_disk(engine, node).await),
        check("kubelet", kubelet(engine, node).await),
        check("images", pulls::find_failure(engine, node).await),
        check("components", component(engine, node).await),
    ]
}

fn check(name: &'static str, failure: Option<Error>) -> Check {
    Check::new(name, failure.map_or(Ok(()), Err))
}

async fn stopped(engine: &dyn Engine, node: &str) -> Option<Error> {
    let inspected = match engine.inspect(node).await {
        Err(error) if error.code() == Code::EngineUnreachable => return Some(error),
        inspected => inspected.ok()??,
    };
    // If a node ends again and again, the engine starts it again and again, and reports it as running in between.
    let gone = !inspected.running || inspected.restart_count >= MAX_RESTARTS;
    if gone { Some(exited(engine, node, inspected.exit_code).await) } else { None }
}

async fn exited(engine: &dyn Engine, node: &str, code: i64) -> Error {
    let log = engine.logs(node, Some(20)).await.unwrap_or_default();
    Error::new(Code::NodeExited, "the node stopped")
        .on_node(node)
        .because(format!("its container exited with {code}"))
        .with_lines(last_lines(&String::from_utf8_lossy(&log), MAX_LINES))
        .hint("keep the nodes with `--retain`, then read `coracle export logs`")
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

/// Whether almost nothing is free, from the output of `stat`: free blocks and their size.
fn is_full(output: &str) -> bool {
    let mut numbers = output.split_whitespace().map_while(|word| word.parse::<u64>().ok());
    let free = numbers.next().zip(numbers.next()).map(|(blocks, size)| blocks.saturating_mul(size));
    free.is_some_and(|free| free < MIN_FREE)
}

/// The kubelet restarts every second if its configuration or a flag is wrong.
async fn kubelet(engine: &dyn Engine, node: &str) -> Option<Error> {
    let command = ["systemctl", "show", "kubelet", "--property=NRestarts", "--value"];
    let restarts: u32 = output(engine, node, &command).await?.trim().parse().ok()?;
    if restarts < 2 {
        return None;
    }
    let journal =
        output(engine, node, &["journalctl", "--unit=kubelet", "--no-pager", "--output=cat", "--lines=200"]).await?;
    let lines = relevant_lines(&journal);
    Some(
        Error::new(Code::ComponentFailed, "the kubelet keeps failing")
            .on_node(node)
            .because(lines.last().cloned().unwrap_or_else(|| "it exits at once".to_owned()))
            .with_lines(lines)
            .hint("check `kubelet` and `featureGates` in the configuration"),
    )
}

/// A container of a static pod or an add-on that ended shortly after each of its starts.
async fn component(engine: &dyn Engine, node: &str) -> Option<Error> {
    let listed = output(engine, node, &["crictl", "ps", "--all", "--state=Exited", "--output=json"]).await?;
    let listed: Value = serde_json::from_str(&listed).ok()?;
    for container in listed["containers"].as_array()? {
        let name = container["metadata"]["name"].as_str().unwrap_or_default();
        let attempt = container["metadata"]["attempt"].as_u64().unwrap_or_default();
        let id = container["id"].as_str().unwrap_or_default();
        // An add-on may have failed because another one did not run yet.
        let least = match container["labels"]["io.kubernetes.pod.namespace"].as_str() {
            Some("kube-system") if COMPONENTS.contains(&name) => 1,
            Some("kube-system") => 2,
            _ => continue,
        };
        if attempt < least {
            continue;
        }
        let details: Value = serde_json::from_str(&output(engine, node, &["crictl", "inspect", id]).await?).ok()?;
        if !is_short_failure(&details["status"]) {
            continue;
        }
        let log = engine.exec(node, &["crictl", "logs", "--tail=60", id], None).await.ok()?;
        let text = format!("{}\n{}", String::from_utf8_lossy(&log.stdout), String::from_utf8_lossy(&log.stderr));
        return Some(component_error(node, name, &text));
    }
    None
}

fn component_error(node: &str, name: &str, log: &str) -> Error {
    let lines = relevant_lines(log);
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
        .because(lines.last().cloned().unwrap_or_else(|| "it exits at once".to_owned()))
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

/// The lines that name an error, else the last ones; each once, without the usage text that follows a wrong flag.
fn relevant_lines(log: &str) -> Vec<String> {
    let words = ["error", "fatal", "panic", "unknown flag", "not defined", "invalid", "failed"];
    let is_relevant = |line: &&str| {
        let lower = line.to_lowercase();
        let usage = line.starts_with(char::is_whitespace);
        // From systemd, and only that the unit failed, which is known.
        let known = line.starts_with("kubelet.service: ");
        !usage && !known && words.iter().any(|word| lower.contains(word))
    };
    let relevant: Vec<String> = log.lines().filter(is_relevant).map(str::to_owned).collect();
    let chosen = if relevant.is_empty() { last_lines(log, MAX_LINES) } else { relevant };
    let mut unique: Vec<String> = Vec::new();
    for line in chosen {
        let line: String = line.trim_end().chars().take(400).collect();
        if !unique.iter().any(|known| without_time(known) == without_time(&line)) {
            unique.push(line);
        }
    }
    let skip = unique.len().saturating_sub(MAX_LINES);
    unique.into_iter().skip(skip).collect()
}

/// A line without klog's date, time and process, which differ between equal messages.
fn without_time(line: &str) -> &str {
    let mut start = line.chars();
    let klog = start.next().is_some_and(|letter| "IWEF".contains(letter))
        && start.by_ref().take(4).filter(char::is_ascii_digit).count() == 4;
    if klog { line.split_once(']').map_or(line, |(_, text)| text) } else { line }
}

fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_names_the_error_is_found_in_a_usage_text() {
        let log = "Error: unknown flag: --nonsense\nUsage:\n  kube-apiserver [flags]\n      --error-thing  a flag\n";
        assert_eq!(relevant_lines(log), ["Error: unknown flag: --nonsense"]);
    }

    #[test]
    fn a_disk_is_full_when_almost_nothing_is_free() {
        assert!(is_full("4099 4096\n"));
        assert!(!is_full("65536 4096\n"));
        assert!(!is_full(""));
    }

    #[test]
    fn etcds_usage_is_left_out_too() {
        let log =
            "flag provided but not defined: -no-such-flag\nUsage:\n\n  etcd [flags]\n    Start an etcd server. error\n";
        assert_eq!(relevant_lines(log), ["flag provided but not defined: -no-such-flag"]);
    }

    #[test]
    fn a_message_of_every_start_is_shown_once() {
        let log = "E1121 11:02:32.118564      67 run.go:72] \"command failed\" err=\"maxPods\"\n\
                   kubelet.service: Failed with result 'exit-code'.\n\
                   E1121 11:02:33.710645      74 run.go:72] \"command failed\" err=\"maxPods\"\n";
        assert_eq!(
            relevant_lines(log),
            ["E1121 11:02:32.118564      67 run.go:72] \"command failed\" err=\"maxPods\""]
        );
    }

    #[test]
    fn only_a_quick_end_with_an_error_counts() {
        let status = |code: i64, end: &str| serde_json::json!({"exitCode": code, "startedAt": "2026-01-01T00:00:00.5Z", "finishedAt": end});
        assert!(is_short_failure(&status(1, "2026-01-01T00:00:01Z")));
        assert!(!is_short_failure(&status(0, "2026-01-01T00:00:01Z")));
        assert!(!is_short_failure(&status(1, "2026-01-01T00:00:30Z")));
    }
}
