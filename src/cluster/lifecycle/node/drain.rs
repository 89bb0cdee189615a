//! Emptying nodes: their pods are evicted, as `kubectl drain` does it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::error::{Code, Error, Result, counted};
use crate::kubernetes::drain::{self, Fate, fate, has_own_data};
use crate::kubernetes::{Client, object};
use crate::ui::Step;

/// Pause between two looks at the pods that are on their way.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Pause before an eviction that a budget refused is asked for again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// A node that takes no new pods.
#[derive(Debug)]
pub(super) struct Cordoned {
    name: String,
    /// It took pods before.
    was_schedulable: bool,
}

/// Keeps new pods off nodes.
pub(super) async fn cordon(client: &Client, nodes: &[String]) -> Result<Vec<Cordoned>> {
    let mut cordoned = Vec::new();
    for name in nodes {
        let Some(object) = drain::find_node(client, name).await? else { continue };
        let was_schedulable = object["spec"]["unschedulable"] != true;
        drain::set_schedulable(client, name, false).await?;
        cordoned.push(Cordoned { name: name.clone(), was_schedulable });
    }
    Ok(cordoned)
}

/// Lets pods come again to nodes that are not removed after all.
pub(super) async fn uncordon(client: &Client, nodes: &[Cordoned]) -> Result<()> {
    let nodes = nodes.iter().filter(|node| node.was_schedulable);
    try_join_all(nodes.map(|node| drain::set_schedulable(client, &node.name, true)))
        .await
        .map(drop)
        .map_err(Error::from)
}

/// Fails if a pod of these nodes has no controller: nothing would replace it.
pub(super) async fn require_replaceable(client: &Client, nodes: &[String]) -> Result<()> {
    let mut lost = Vec::new();
    for node in nodes {
        let pods = drain::pods_on(client, node).await?;
        lost.extend(
            pods.iter().filter(|pod| fate(pod) == Fate::Lost).map(|pod| format!("{} on {node}", object::key(pod))),
        );
    }
    if lost.is_empty() {
        return Ok(());
    }
    let (pods, replaces) = (counted(lost.len(), "pod"), if lost.len() == 1 { "it" } else { "them" });
    Err(Error::new(Code::NodeInUse, format!("{pods} would be lost with {}", nodes.join(", ")))
        .because(format!("no controller recreates {replaces} on another node"))
        .with_lines(lost)
        .hint("delete the pods with kubectl, or add `--force` to lose them"))
}

/// What was drained.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Drained {
    /// Pods that were evicted.
    pub(super) evicted: usize,
    /// Those of them whose directories ended with them.
    pub(super) with_data: usize,
}

/// Evicts all pods of nodes that are replaced elsewhere, and waits until they are gone.
pub(super) async fn evict(client: &Client, nodes: &[String], deadline: Instant, step: &Step) -> Result<Drained> {
    let mut known: BTreeMap<String, bool> = BTreeMap::new();
    loop {
        let mut pods = Vec::new();
        for node in nodes {
            let here = drain::pods_on(client, node).await?;
            pods.extend(here.into_iter().filter(|pod| fate(pod) == Fate::Evicted));
        }
        known.extend(pods.iter().map(|pod| (uid(pod), has_own_data(pod))));
        if pods.is_empty() {
            return Ok(Drained { evicted: known.len(), with_data: known.values().filter(|data| **data).count() });
        }
        let staying: Vec<&Value> = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect();
        let allowed = try_join_all(staying.iter().map(|pod| drain::evict(client, pod))).await?;
        let refused: Vec<&Value> = staying.into_iter().zip(allowed).filter(|(_, ok)| !ok).map(|(pod, _)| pod).collect();
        step.detail("waiting for", &format!("{} to end", counted(pods.len(), "pod")));
        if Instant::now() >= deadline {
            return Err(late(client, nodes, &pods, &refused).await);
        }
        sleep(if refused.is_empty() { POLL_INTERVAL } else { REFUSED_PAUSE }).await;
    }
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

/// The error of a drain whose time is over: what every pod that is still there waits for.
async fn late(client: &Client, nodes: &[String], pods: &[Value], refused: &[&Value]) -> Error {
    let (mut lines, mut causes) = (Vec::new(), BTreeSet::new());
    for pod in pods {
        let is_refused = refused.iter().any(|other| uid(other) == uid(pod));
        let budgets =
            if is_refused { drain::blocking_budgets(client, pod).await.unwrap_or_default() } else { Vec::new() };
        let reason = match (is_refused, budgets.is_empty()) {
            (false, _) => "it is still ending".to_owned(),
            (true, true) => "a PodDisruptionBudget forbids it".to_owned(),
            (true, false) => budgets.join("; "),
        };
        lines.push(format!("{}: {reason}", object::key(pod)));
        causes.insert(reason);
    }
    Error::new(Code::NodeInUse, format!("{} cannot leave {}", counted(pods.len(), "pod"), nodes.join(", ")))
        .because(causes.into_iter().collect::<Vec<_>>().join("; "))
        .with_lines(lines)
        .hint("add nodes or replicas so that the pods may go, or give it more time, such as `--timeout 10m`")
        .hint("`--force` removes the node with its pods")
}
