//! `node remove`: a node's pods go elsewhere, then its container, its volume and its Node object.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::found::{Cluster, Node};
use crate::cluster::lifecycle::delete::{remove_container, remove_volume};
use crate::cluster::lifecycle::node::{drain, planes, remove_objects, running, update_dependents};
use crate::config::{ClusterName, Role};
use crate::engine::SharedEngine;
use crate::engine::finishing::{LastSteps, interrupted, run_to_end};
use crate::error::{Code, Error, Result};
use crate::kubernetes::{Client, drain as nodes};
use crate::plan::labels;
use crate::plan::node::container::own_volume;
use crate::ui::Ui;

/// How to remove nodes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Names of nodes.
    pub nodes: Vec<String>,
    /// Remove them with their pods.
    pub force: bool,
    /// How long the pods may take.
    pub timeout: Duration,
}

/// Nodes that were removed.
#[derive(Debug)]
pub struct NodeRemoval {
    pub nodes: Vec<String>,
    /// How many pods were evicted.
    pub evicted: usize,
    /// How many of them had data in an `emptyDir`.
    pub with_data: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Removes nodes. Until their pods are gone, a failure or an interruption leaves the nodes as they were; after that, the same
/// command can be repeated.
pub async fn remove(
    engine: &SharedEngine,
    name: &ClusterName,
    options: &Options,
    ui: &Ui,
    stop: &CancellationToken,
) -> Result<NodeRemoval> {
    let (cluster, client) = running(&**engine, name).await?;
    let mut names = options.nodes.clone();
    names.sort();
    names.dedup();
    let found = select(&cluster, &client, &names).await?;
    if found.iter().any(|node| node.role == Role::ControlPlane) {
        planes::require_others(&cluster, &names)?;
        planes::require_majority(&**engine, &cluster, &names).await?;
    }
    let drained = if options.force {
        drain::Drained::default()
    } else {
        drain::require_replaceable(&client, &names).await?;
        empty(&client, &names, options.timeout, ui, stop).await?
    };
    let work = async |engine: SharedEngine| {
        // The pods are gone: the rest is quick, and half of it helps no one.
        let _last = LastSteps::current().begin();
        let shown = ui.step(format!("Removing {}", names.join(", ")));
        planes::leave(&engine, &cluster, &names).await?;
        take_away(&engine, &client, name, &found, &names).await?;
        update_dependents(&*engine, name).await?;
        shown.finish();
        Ok(())
    };
    run_to_end(engine, stop, work).await?;
    let left: Vec<&Node> = cluster.nodes.iter().filter(|node| !names.contains(&node.name)).collect();
    let warnings = idle(&client, &left).await;
    Ok(NodeRemoval { nodes: names, evicted: drained.evicted, with_data: drained.with_data, warnings })
}

/// The nodes of these names whose containers exist. One whose container is gone, but whose Node object is not, is removed too.
async fn select<'c>(cluster: &'c Cluster, client: &Client, names: &[String]) -> Result<Vec<&'c Node>> {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        match cluster.nodes.iter().find(|node| node.name == *name) {
            Some(node) => found.push(node),
            None => match nodes::find_node(client, name).await? {
                Some(object) if is_of(&cluster.name, &object) => {}
                Some(_) => return Err(foreign(cluster, name)),
                None => unknown.push(format!("`{name}`")),
            },
        }
    }
    if unknown.is_empty() {
        return Ok(found);
    }
    let what = if unknown.len() == 1 { "there is no node" } else { "there are no nodes" };
    Err(Error::new(Code::NotFound, format!("{what} {}", unknown.join(", "))).hint(format!(
        "the nodes of cluster `{}` are: {}",
        cluster.name,
        cluster.node_names().join(", ")
    )))
}

/// Whether a Node object is that of a node of this cluster: its kubelet was started by coracle.
fn is_of(cluster: &ClusterName, object: &Value) -> bool {
    let provider = object["spec"]["providerID"]
        .as_str()
        .and_then(|id| ["coracle://", "kind://"].iter().find_map(|scheme| id.strip_prefix(scheme)));
    provider.is_some_and(|id| id.split('/').nth(1) == Some(cluster.as_str()))
}

fn foreign(cluster: &Cluster, name: &str) -> Error {
    Error::new(Code::NodeInUse, format!("node `{name}` was not made by coracle"))
        .because(format!("cluster `{}` has no container for it", cluster.name))
        .hint(format!("remove it with the tool that made it, or only its Node object: `kubectl delete node {name}`"))
}

/// Evicts the pods; if that fails or is interrupted, pods may come again.
async fn empty(
    client: &Client,
    names: &[String],
    timeout: Duration,
    ui: &Ui,
    stop: &CancellationToken,
) -> Result<drain::Drained> {
    let shown = ui.step(format!("Moving the pods of {} elsewhere", names.join(", ")));
    let cordoned = drain::cordon(client, names).await?;
    let result = tokio::select! {
        result = drain::evict(client, names, Instant::now() + timeout, &shown) => result,
        () = stop.cancelled() => Err(interrupted()),
    };
    match result {
        Ok(drained) => {
            shown.finish();
            Ok(drained)
        }
        Err(error) => {
            if let Err(left) = drain::uncordon(client, &cordoned).await {
                ui.warn(format!("{} takes no new pods: {left}; `kubectl uncordon` undoes that", names.join(", ")));
            }
            Err(error)
        }
    }
}

/// Removes containers and volumes, then what the API has: a kubelet that runs would create its Node object again.
async fn take_away(
    engine: &SharedEngine,
    client: &Client,
    cluster: &ClusterName,
    found: &[&Node],
    names: &[String],
) -> Result<()> {
    let removals = join_all(found.iter().map(|node| remove_container(engine, &node.container))).await;
    removals.into_iter().collect::<Result<Vec<()>>>()?;
    let own: Vec<String> = names.iter().map(|name| own_volume(name)).collect();
    let volumes = engine.volumes(&[format!("{}={cluster}", labels::CLUSTER)]).await?;
    let volumes = volumes.iter().filter(|volume| own.contains(&volume.name));
    try_join_all(volumes.map(|volume| remove_volume(engine, volume))).await?;
    for name in names {
        remove_objects(client, name).await?;
    }
    Ok(())
}

/// A warning if no node is left that takes workloads.
async fn idle(client: &Client, left: &[&Node]) -> Vec<String> {
    for node in left {
        let Ok(Some(object)) = nodes::find_node(client, &node.name).await else { return Vec::new() };
        let taints = object["spec"]["taints"].as_array().cloned().unwrap_or_default();
        if taints.iter().all(|taint| taint["effect"] == "PreferNoSchedule") {
            return Vec::new();
        }
    }
    let [only] = left else { return Vec::new() };
    vec![format!(
        "no node is left that takes workloads; to let the control plane take them: \
         `kubectl taint node {} node-role.kubernetes.io/control-plane:NoSchedule-`",
        only.name
    )]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_object_without_a_container_is_ours_only_if_its_kubelet_was() {
        let cluster = "dev".parse().unwrap();
        let is_ours = |provider: Value| is_of(&cluster, &json!({"spec": {"providerID": provider}}));
        assert!(is_ours(json!("coracle://docker/dev/dev-worker")));
        assert!(is_ours(json!("kind://docker/dev/dev-worker")));
        assert!(!is_ours(json!("coracle://docker/dev-2/dev-worker")));
        assert!(!is_ours(json!("kwok://dev-worker")) && !is_ours(Value::Null));
    }
}
