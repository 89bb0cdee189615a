//! Waiting until nodes that were started are usable again. What the API has of them may be from before they were stopped,
//! and what looks well there may be dead: only what was said since counts.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cluster::health::api::{self, Api};
use crate::cluster::health::probe;
use crate::cluster::health::wait::pause_since;
use crate::cluster::health::watch::watched;
use crate::cluster::run::Run;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::kubernetes::ready::{Condition, unready};
use crate::kubernetes::{Client, object, workload};
use crate::ui::Step;

/// How long an answer of the nodes holds, while DNS starts.
const FRESH: Duration = Duration::from_secs(5);
/// What the step says it is doing.
const WAITING: &str = "waiting for";
const NODES: &str = "/api/v1/nodes";
pub(super) const PODS: &str = "/api/v1/namespaces/kube-system/pods";
/// The label of the pods that are waited for, its values on every node, and that of the cluster's DNS servers, one of which
/// is enough.
pub(super) const LABEL: &str = "k8s-app";
pub(super) const OF_NODES: [&str; 3] = ["kube-proxy", "coracle-agent", "kindnet"];
const DNS: &str = "kube-dns";

/// What must be usable.
#[derive(Debug, Clone, Copy)]
pub struct Needed<'a> {
    /// These nodes.
    pub nodes: &'a [String],
    /// The cluster has a CNI plugin and kube-proxy from `create`; without them, no one knows when a node is ready.
    pub is_complete: bool,
    /// The cluster's DNS.
    pub dns: bool,
}

/// Waits until all that is needed is usable.
pub async fn until_back(run: &Run, client: &Client, needed: &Needed<'_>, step: &Step) -> Result<()> {
    let mut since = BTreeMap::new();
    for node in needed.nodes {
        since.insert(node.as_str(), started_at(&*run.engine, node).await?);
    }
    let asked = Cell::new(None);
    let look = async || look(&*run.engine, client, needed, &since, &asked).await;
    watched(run, client, needed.nodes, Some(step), until(run.deadline, step, look)).await
}

/// Waits until the API server answers, and has no node that is not Ready.
pub async fn until_answers(run: &Run, client: &Client, nodes: &[String], step: &Step) -> Result<()> {
    let look = async || match silence(client).await {
        None => Condition::NodesReady(0).check(client).await.unwrap_or_else(|failure| Some(failure.text().to_owned())),
        cause => cause,
    };
    watched(run, client, nodes, Some(step), until(run.deadline, step, look)).await
}

/// Looks until nothing is missing.
async fn until(deadline: Instant, step: &Step, look: impl AsyncFn() -> Option<String>) -> Result<()> {
    let began = Instant::now();
    while let Some(cause) = look().await {
        step.detail(WAITING, &cause);
        if Instant::now() >= deadline {
            return Err(Error::new(Code::NotReady, "gave up waiting for the cluster").because(cause));
        }
        sleep(pause_since(began)).await;
    }
    step.settle(WAITING);
    Ok(())
}

/// When a container was started last, by the clock of the engine's host, which is also that of its nodes.
async fn started_at(engine: &dyn Engine, node: &str) -> Result<String> {
    let inspected = engine.inspect(node).await?;
    Ok(inspected.map(|inspected| inspected.started_at).unwrap_or_default())
}

/// What is missing. The nodes are asked while DNS starts, since that takes 0.1 s; `asked` is when nothing was wrong with them.
async fn look(
    engine: &dyn Engine,
    client: &Client,
    needed: &Needed<'_>,
    since: &BTreeMap<&str, String>,
    asked: &Cell<Option<Instant>>,
) -> Option<String> {
    if let Some(cause) = silence(client).await {
        return Some(cause);
    }
    let mut dns = None;
    if needed.is_complete {
        let (nodes, pods) = tokio::join!(client.get(NODES), client.get(PODS));
        match nodes.and_then(|nodes| Ok((nodes, pods?))) {
            Ok((nodes, pods)) => {
                if let Some(cause) = absent(&nodes, &pods, needed, since) {
                    return Some(cause);
                }
                dns = without_dns(&pods, needed, since);
            }
            Err(failure) => return Some(failure.text().to_owned()),
        }
    }
    if asked.get().is_none_or(|then| then.elapsed() > FRESH) {
        if let Some(fault) = fault(engine, needed.nodes).await {
            return Some(fault);
        }
        asked.set(Some(Instant::now()));
    }
    dns
}

/// What the nodes themselves say is wrong.
async fn fault(engine: &dyn Engine, nodes: &[String]) -> Option<String> {
    let asked = join_all(nodes.iter().map(|node| probe::ask(engine, node))).await;
    for (node, found) in nodes.iter().zip(asked) {
        match found.map(|found| found.faults.into_iter().next()) {
            Ok(None) => {}
            Ok(Some(fault)) => return Some(format!("{node}: {}: {}", fault.message(), fault.cause)),
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}

/// Why the API server is not ready.
async fn silence(client: &Client) -> Option<String> {
    match api::ask(client).await {
        Api::Ready => None,
        Api::Unready(cause) | Api::Silent(cause) => Some(format!("the API server: {cause}")),
    }
}

/// What the API has not heard of since the nodes were started.
fn absent(nodes: &Value, pods: &Value, needed: &Needed<'_>, since: &BTreeMap<&str, String>) -> Option<String> {
    for name in needed.nodes {
        let since = since.get(name.as_str()).map(String::as_str).unwrap_or_default();
        let Some(node) = object::items(nodes).iter().find(|node| object::name(node) == name) else {
            return Some(format!("{name} to register"));
        };
        let cause = unready(node).or_else(|| {
            let ready = workload::find(node, "Ready")?;
            is_before(&ready["lastHeartbeatTime"], since).then(|| "its kubelet has not reported yet".to_owned())
        });
        if let Some(cause) = cause {
            return Some(format!("{name}: {cause}"));
        }
    }
    let of_nodes = |pod: &Value| OF_NODES.iter().any(|name| pod["metadata"]["labels"][LABEL] == *name);
    let mut late = pods_of(pods, since).filter(|(pod, since)| of_nodes(pod) && !runs_since(pod, since));
    late.next().map(|(pod, _)| format!("pod {}", object::name(pod)))
}

/// Whether the cluster has DNS servers, and none of them is ready.
fn without_dns(pods: &Value, needed: &Needed<'_>, since: &BTreeMap<&str, String>) -> Option<String> {
    let mut servers = pods_of(pods, since).filter(|(pod, _)| pod["metadata"]["labels"][LABEL] == DNS).peekable();
    let is_missing = needed.dns && servers.peek().is_some() && !servers.any(|(pod, since)| runs_since(pod, since));
    is_missing.then(|| "CoreDNS".to_owned())
}

/// The pods on these nodes, each with when its node was started.
fn pods_of<'a>(pods: &'a Value, since: &'a BTreeMap<&str, String>) -> impl Iterator<Item = (&'a Value, &'a str)> {
    let on = |pod: &Value| pod["spec"]["nodeName"].as_str().and_then(|node| since.get(node)).map(String::as_str);
    object::items(pods).iter().filter_map(move |pod| Some((pod, on(pod)?)))
}

/// Whether a pod is ready with containers that were started since then.
fn runs_since(pod: &Value, since: &str) -> bool {
    let statuses = pod["status"]["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_new = |status: &Value| {
        status["ready"] == true
            && status["state"]["running"]["startedAt"].is_string()
            && !is_before(&status["state"]["running"]["startedAt"], since)
    };
    workload::is_ready(pod) && statuses.iter().all(is_new)
}

/// Whether a time of the API is before one of the engine. Both are in UTC and in the same form, but for the fractions of a
/// second, which the API does not have.
fn is_before(time: &Value, since: &str) -> bool {
    const SECONDS: usize = "2026-11-28T21:11:38".len();
    let seconds = |text: &str| text.get(..SECONDS).unwrap_or_default().to_owned();
    seconds(time.as_str().unwrap_or_default()) < seconds(since)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const STARTED: &str = "2026-11-28T21:11:38.447874525Z";

    fn missing(heartbeat: &str, proxy: &str, dns: &str) -> Option<String> {
        let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat});
        let nodes = json!({"items": [{"metadata": {"name": "a"}, "status": {"conditions": [ready]}}]});
        let pod = |name: &str, started: &str| {
            json!({
                "metadata": {"name": name, "labels": {"k8s-app": name}}, "spec": {"nodeName": "a"},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [{"ready": true, "state": {"running": {"startedAt": started}}}],
                },
            })
        };
        let pods = json!({"items": [pod("kube-proxy", proxy), pod("kube-dns", dns)]});
        let needed = Needed { nodes: &["a".to_owned()], is_complete: true, dns: true };
        let since = BTreeMap::from([("a", STARTED.to_owned())]);
        absent(&nodes, &pods, &needed, &since).or_else(|| without_dns(&pods, &needed, &since))
    }

    #[test]
    fn what_was_well_before_the_stop_does_not_count() {
        let (before, after) = ("2026-11-28T21:11:30Z", "2026-11-28T21:11:38Z");
        assert_eq!(missing(after, after, after), None);
        assert_eq!(missing(before, after, after).as_deref(), Some("a: its kubelet has not reported yet"));
        assert_eq!(missing(after, before, after).as_deref(), Some("pod kube-proxy"));
        assert_eq!(missing(after, after, before).as_deref(), Some("CoreDNS"));
    }
}
