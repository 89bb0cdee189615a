//! What somebody has changed by hand about the container of a node: its name, or its address in the cluster's network. The
//! node keeps the ones that it was made with, so that neither it nor its cluster works as before.

use crate::cluster::found::{Cluster, Node};
use crate::config::ClusterName;
use crate::engine::Engine;
use crate::engine::spec::Container;
use crate::error::{Code, Error, Result};
use crate::plan::node::container::{network_name, own_volume};

/// What was changed about a node, and how to change it back; nothing if all is as it was.
pub(super) fn trouble(node: &Node, cluster: &ClusterName) -> Option<Error> {
    if let Some(before) = former_name(node) {
        return Some(
            Error::new(Code::StepFailed, format!("the container of node `{before}` is called `{}` now", node.name))
                .because("a node keeps its name, by which everything finds it")
                .hint(format!("`docker rename {} {before}` renames it back", node.name)),
        );
    }
    let (address, now) = lost_address(node)?;
    Some(
        Error::new(Code::StepFailed, format!("its address is {now}, and not {address} any more"))
            .because(format!(
                "it was connected to a network by hand; `coracle node restart {}` gives it its address back",
                node.name
            ))
            .on_node(&node.name)
            .hint(format!("cluster `{cluster}` works again after `coracle node restart {}`", node.name)),
    )
}

/// Fails if the container of a node has another name than the node.
pub(super) fn require_names(cluster: &Cluster) -> Result<()> {
    let renamed = cluster.nodes.iter().find(|node| former_name(node).is_some());
    renamed.and_then(|node| trouble(node, &cluster.name)).map_or(Ok(()), Err)
}

/// Gives those of the containers their addresses back that are nodes and have lost them. Call it while they do not run: a
/// kubelet notices another address of its node late, or never.
pub(super) async fn reconnect(
    engine: &dyn Engine,
    cluster: &Cluster,
    containers: impl Iterator<Item = &Container>,
) -> Result<()> {
    let network = network_name(cluster.name.as_str());
    for container in containers {
        let node = cluster.nodes.iter().find(|node| node.container.id == container.id);
        let Some(node) = node.filter(|node| !has_address(node)) else { continue };
        engine.disconnect_network(&network, &container.id).await?;
        engine.connect_network(&network, &container.id, &node.name, &node.addresses).await?;
    }
    Ok(())
}

/// The name that a renamed node was made with, which its volume still has.
fn former_name(node: &Node) -> Option<&str> {
    let volumes = &node.container.volumes;
    if volumes.iter().any(|volume| *volume == own_volume(&node.name)) {
        return None;
    }
    // What the volumes of nodes are called, with a node of no name.
    let end = own_volume("");
    volumes.iter().find_map(|volume| volume.strip_suffix(end.as_str()))
}

/// The address of a node, and the ones that its container has instead of it.
fn lost_address(node: &Node) -> Option<(String, String)> {
    if has_address(node) || node.container.addresses.is_empty() {
        return None;
    }
    let now = node.container.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Some((node.addresses.first()?.to_string(), now))
}

fn has_address(node: &Node) -> bool {
    node.addresses.first().is_none_or(|address| node.container.addresses.contains(address))
}
