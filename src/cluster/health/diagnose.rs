//! Why a node or a component does not come up: the component's own error message instead of a symptom.

use crate::cluster::health::causes::{self, Cause, Evidence, find_among};
use crate::cluster::health::facts::{self, Attempt, End, Facts, container_log};
use crate::cluster::health::lines::{MAX_LINES, code, klog_time, last_lines};
use crate::cluster::health::{over, pulls};
use crate::engine::Engine;
use crate::engine::spec::Inspected;
use crate::error::{Code, Error, counted};
use crate::host::limits;

/// Restarts of a node's container, or of a kubelet, after which it is suspected.
const MAX_RESTARTS: u64 = 2;
/// A container that ends within this many seconds did not merely wait for another one.
const MAX_SHORT_LIFE: i64 = 8;

/// Words of a mistake in a flag, which is found before anything else.
const OF_FLAGS: [&str; 5] =
    ["unknown flag", "flag provided but not defined", "invalid value \"", "invalid argument \"", "is not a valid"];

/// The exit code of what was killed.
const KILLED: i64 = 137;

/// Components that need only the control plane itself, and so end early only if their own settings are wrong.
const COMPONENTS: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns"];

/// What fails in a node, now.
#[derive(Debug, Clone)]
pub struct Failure {
    pub error: Error,
    /// Whether it goes away by itself.
    pub outlook: Outlook,
}

/// Whether a failure goes away by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// Never: it is told at the first sight.
    Final,
    /// Not if it is seen again.
    Lasting,
    /// It may also be well from now on: on a slow machine something ends early because another thing was not there yet. It
    /// will not go away if it has failed more often than this at the next look.
    Times(u64),
}

impl Failure {
    /// It will not go away by itself.
    pub(super) fn lasting(error: Error) -> Self {
        Self { error, outlook: Outlook::Lasting }
    }

    /// Whether this is the same failure as that one, which was seen earlier, and it will not go away.
    pub(super) fn confirms(&self, earlier: &Self) -> bool {
        let again = match (earlier.outlook, self.outlook) {
            (Outlook::Times(before), Outlook::Times(now)) => now > before,
            _ => true,
        };
        again && self.is_same(earlier)
    }

    /// Whether the same thing fails, or for the same reason: short memory ends one program after the other.
    pub(super) fn is_same(&self, earlier: &Self) -> bool {
        let cause = self.error.cause_id();
        self.error.message() == earlier.error.message() || (cause.is_some() && cause == earlier.error.cause_id())
    }
}

/// The first failure of a node: it stopped, its disk is full, a component keeps failing, or one of its parts does not work.
/// What failed earlier and is well now is none. Nothing can be asked of a node that stopped.
pub async fn find_failure(engine: &dyn Engine, node: &str) -> Option<Failure> {
    let inspected = match engine.inspect(node).await {
        Err(error) if error.code() == Code::EngineUnreachable => return Some(Failure::lasting(error)),
        inspected => inspected.ok()?,
    };
    let Some(inspected) = inspected else {
        let error = Error::new(Code::StepFailed, "the container of the node is gone").on_node(node);
        let error = error.because("it was removed, for example by `coracle delete cluster`");
        return Some(Failure { error, outlook: Outlook::Final });
    };
    if let Some(failure) = stopped(engine, node, &inspected).await {
        return Some(failure);
    }
    let facts = facts::look(engine, node, &id(&inspected)).await?;
    let nothing = Evidence { facts: &facts, lines: &[] };
    if let Some(found) = find_among(&[Cause::DiskFull, Cause::Clock], &nothing) {
        let outlook = if found.cause == Cause::Clock { Outlook::Final } else { Outlook::Lasting };
        return Some(Failure { error: found.error(Code::StepFailed).on_node(node), outlook });
    }
    if let Some(failure) = kubelet(engine, node, &facts).await {
        return Some(failure);
    }
    if let Some(error) = pulls::find_failure(engine, node, &facts).await {
        return Some(Failure::lasting(error));
    }
    match component(engine, node, &facts).await {
        Some(failure) => Some(failure),
        None => of_signs(node, &facts),
    }
}

/// The ID of a container, by which the kernel tells of it.
pub(super) fn id(inspected: &Inspected) -> String {
    if inspected.id.is_empty() { "no container".to_owned() } else { inspected.id.clone() }
}

/// What the node itself shows.
fn of_signs(node: &str, facts: &Facts) -> Option<Failure> {
    let found = find_among(&causes::OF_NODES, &Evidence { facts, lines: &facts.signs })?;
    let outlook = match found.cause {
        cause if cause.row().is_final => Outlook::Final,
        Cause::Cni => Outlook::Lasting,
        // It has gone on if the next look finds a newer line.
        _ => Outlook::Times(facts.signs.iter().filter_map(|line| klog_time(line)).max().unwrap_or_default()),
    };
    Some(Failure { error: found.error(Code::NotReady).on_node(node), outlook })
}

async fn stopped(engine: &dyn Engine, node: &str, inspected: &Inspected) -> Option<Failure> {
    let log = async || {
        let log = engine.logs(node, Some(20)).await.unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    };
    if !inspected.running {
        if let Some(error) = over::find(engine, node, inspected).await {
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
    let cause = format!("its container exited {times} and was restarted by the engine{last}");
    let error = exited(engine, node, cause, &log().await).await;
    Some(Failure { error, outlook: Outlook::Times(inspected.restart_count) })
}

async fn exited(engine: &dyn Engine, node: &str, cause: String, log: &str) -> Error {
    let error = Error::new(Code::NodeExited, "the node stopped").on_node(node);
    match few_inotify(engine, log).await {
        Some(reason) => {
            error.because(format!("{cause}; {reason}")).hint(limits::MORE_INOTIFY).of_cause(Cause::FewInotify.row().id)
        }
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

/// The kubelet restarts every second if its configuration or a flag is wrong.
async fn kubelet(engine: &dyn Engine, node: &str, facts: &Facts) -> Option<Failure> {
    // A kubelet that has come up serves its health, until it fails again.
    if facts.restarts == 0 || facts.is_well {
        return None;
    }
    let lines = facts::log(engine, node, facts, "kubelet").await;
    let error = Error::new(Code::ComponentFailed, "the kubelet keeps failing")
        .on_node(node)
        .because(lines.last().cloned().unwrap_or_else(|| "it exits at once".to_owned()))
        .hint("check `kubelet`, `kubeletFlags` and `featureGates` in the configuration");
    let failure = caused(error, facts, lines, Outlook::Times(facts.restarts));
    (facts.restarts >= MAX_RESTARTS || failure.outlook == Outlook::Final).then_some(failure)
}

/// The failure of a component, with its cause if that is known.
fn caused(error: Error, facts: &Facts, lines: Vec<String>, outlook: Outlook) -> Failure {
    match find_among(&causes::OF_COMPONENTS, &Evidence { facts, lines: &lines }) {
        Some(found) => {
            let outlook = match found.cause {
                cause if cause.row().is_final => Outlook::Final,
                Cause::OutOfMemory => Outlook::Times(u64::try_from(facts.killed.len()).unwrap_or_default()),
                _ => outlook,
            };
            Failure { error: found.explain(error).with_lines(lines), outlook }
        }
        None => Failure { error: error.with_lines(lines), outlook },
    }
}

/// A container of a static pod or an add-on that ended shortly after each of its starts, and does not run now.
async fn component(engine: &dyn Engine, node: &str, facts: &Facts) -> Option<Failure> {
    for container in facts.containers.iter().filter(|container| container.ended) {
        // An add-on may have failed because another one did not run yet.
        let is_own = COMPONENTS.contains(&container.name.as_str());
        let least = if is_own { 1 } else { 2 };
        // What it lacks of the kernel, kube-proxy finds out before it needs anything.
        if container.number < least && !is_own && container.name != "kube-proxy" {
            continue;
        }
        let Some(end) = facts::end(engine, node, container).await.filter(|end| is_short_failure(end, facts)) else {
            continue;
        };
        let lines = container_log(engine, node, container).await;
        // What was killed has no last words: the line before is about something else.
        let said = lines.last().filter(|_| end.code != KILLED).cloned();
        let cause = said.unwrap_or_else(|| format!("it exits at once with {}", code(end.code)));
        let failure = caused(component_error(node, container, cause), facts, lines, Outlook::Times(container.number));
        if container.number >= least || is_sure(&failure.error) {
            return Some(failure);
        }
    }
    None
}

/// Whether the first attempt shows it: the program has ended before it needed anything, or because of what it found out.
fn is_sure(error: &Error) -> bool {
    let is = |cause: Cause| error.cause_id() == Some(cause.row().id);
    let says = |word: &str| error.cause().is_some_and(|cause| cause.contains(word));
    is(Cause::DnsLoop) || is(Cause::NoIpvs) || (is(Cause::Setting) && OF_FLAGS.iter().any(|word| says(word)))
}

fn component_error(node: &str, container: &Attempt, cause: String) -> Error {
    let name = container.name.as_str();
    let hint = match name {
        "etcd" => "check `etcd` and `featureGates` in the configuration",
        "kube-apiserver" => {
            "check `apiServer` (`runtimeConfig` in a file of kind) and `featureGates` in the configuration"
        }
        "kube-controller-manager" => "check `controllerManager` and `featureGates` in the configuration",
        "kube-scheduler" => "check `scheduler` and `featureGates` in the configuration",
        "coredns" => {
            "check `coreDNS` in the configuration; with `--retain` the nodes are kept for `coracle export logs`"
        }
        "kube-proxy" => "check `kubeProxy` and `featureGates` in the configuration",
        _ => "keep the nodes with `--retain`, then read `coracle export logs`",
    };
    Error::new(Code::ComponentFailed, format!("{name} keeps failing")).on_node(node).because(cause).hint(hint)
}

/// Whether it ended with an error within seconds, since a component that waited for another one lives longer; or was killed
/// where memory is short.
fn is_short_failure(end: &End, facts: &Facts) -> bool {
    let is_killed = end.code == KILLED && !facts.killed.is_empty();
    is_killed || (end.code != 0 && end.lived < MAX_SHORT_LIFE)
}

#[cfg(test)]
#[path = "diagnose_tests.rs"]
mod tests;
