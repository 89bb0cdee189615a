//! What someone has changed by hand about the container of a node: its name, or its address in the cluster's network. The
//! node keeps the ones that it was made with, so that neither it nor its cluster works as before.

use crate::cluster::found::{Cluster, Node};
use crate::engine::spec::Container;
use crate::engine::{Engine, REPLACED};
use crate::error::{Code, Error, Result};
use crate::plan::node::container::{network_name, own_volume};

/// What was changed about a node, and how to change it back; nothing if all is as it was.
pub(super) fn trouble(node: &Node) -> Option<Error> {
    if let Some(before) = former_name(node) {
        return Some(
            Error::new(Code::StepFailed, format!("the container of node `{before}` is called `{}` now", node.name))
                .because("a node keeps its name, by which everything finds it")
                .hint(format!("`docker rename {} {before}` renames it back", node.name)),
        );
    }
    let (address, now) = lost_address(node)?;
    Some(Error::new(Code::StepFailed, format!("its address is {now}, and not {address} any more")).because(format!(
        "it was connected to a network by hand; `coracle node restart {}` gives it its address back",
        node.name
    )))
}

/// Fails if the container of a node has another name than the node.
pub(super) fn require_names(cluster: &Cluster) -> Result<()> {
    let renamed = cluster.nodes.iter().find(|node| former_name(node).is_some());
    renamed.and_then(trouble).map_or(Ok(()), Err)
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
    if node.name.ends_with(REPLACED) {
        // coracle itself has renamed it, to make another one in its place.
        return None;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::found::group;
    use crate::engine::spec::{Labels, State};
    use crate::plan::labels;

    fn node(name: &str, addresses: &[&str]) -> Node {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let container = Container {
            id: String::new(),
            name: name.to_owned(),
            image: String::new(),
            state: State::Running,
            labels: Labels::from([
                label(labels::CLUSTER, "dev"),
                label(labels::ROLE, "worker"),
                label(labels::ADDRESS, "172.18.0.4,fd00::4"),
            ]),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            networks: Vec::new(),
            network_ids: Vec::new(),
            volumes: vec!["dev-volumes".to_owned(), "dev-worker-var".to_owned()],
            ports: Vec::new(),
            created: 0,
        };
        group(vec![container]).remove(0).nodes.remove(0)
    }

    #[test]
    fn a_node_under_another_name_or_address_is_told_with_what_changes_it_back() {
        let trouble_of = |name: &str, addresses: &[&str]| trouble(&node(name, addresses));
        assert!(trouble_of("dev-worker", &["172.18.0.4"]).is_none());
        let renamed = trouble_of("dev-other", &["172.18.0.4"]).unwrap();
        assert!(renamed.hints()[0].contains("docker rename dev-other dev-worker"), "{renamed:?}");
        let moved = trouble_of("dev-worker", &["172.18.2.0"]).unwrap();
        assert!(moved.message().contains("172.18.2.0, and not 172.18.0.4"), "{moved:?}");
        // One that is being replaced, and one that is in no network.
        assert!(trouble_of(&format!("dev-worker{REPLACED}"), &["172.18.0.4"]).is_none());
        assert!(trouble_of("dev-worker", &[]).is_none());
    }
}
