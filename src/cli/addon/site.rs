//! Where add-ons are enabled and disabled.

use crate::cluster;
use crate::cluster::addon::Site;
use crate::cluster::found::Cluster;
use crate::engine::SharedEngine;
use crate::kubernetes::Client;

/// The cluster: its running nodes with their published ports.
pub(super) fn site<'a>(engine: &'a SharedEngine, client: &'a Client, cluster: &Cluster) -> Site<'a> {
    let ports = |node: &cluster::Node| node.container.ports.iter().map(|port| port.container_port).collect();
    let running = cluster.nodes.iter().filter(|node| node.is_running());
    let nodes = running.map(|node| (node.name.clone(), ports(node))).collect();
    Site { engine, client, nodes, run: format!("addon-{}", std::process::id()) }
}
