//! The nodes that forwarders send to.

use coracle_shared::forward::{ForwardNode, Forwarding, PATH};

use crate::cluster::found::{Cluster, Node};
use crate::cluster::upload::write_files;
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::error::Result;
use crate::plan::FileTree;
use crate::plan::beside::port;

/// The nodes of a cluster: workers first, because pods are there if there are workers.
pub(super) fn of(cluster: &Cluster) -> Vec<ForwardNode> {
    let mut nodes: Vec<_> = cluster.nodes.iter().filter(|node| !node.addresses.is_empty()).collect();
    nodes.sort_by_key(|node| std::cmp::Reverse(node.role));
    let node = |node: &Node| ForwardNode { name: node.name.clone(), addresses: node.addresses.clone() };
    nodes.into_iter().map(node).collect()
}

/// Tells the forwarders which nodes there are now: after a node came or went.
pub async fn follow_nodes(engine: &dyn Engine, cluster: &Cluster) -> Result<()> {
    let nodes = of(cluster);
    for forwarder in &cluster.ports {
        let Some(text) = read_file(engine, &forwarder.id, PATH).await? else { continue };
        let Ok(known) = serde_json::from_slice::<Forwarding>(&text) else { continue };
        if known.nodes != nodes {
            let mut files = FileTree::default();
            files.text(PATH, port::text(&Forwarding { nodes: nodes.clone(), ..known })?);
            write_files(engine, &forwarder.id, &files).await?;
        }
    }
    Ok(())
}
