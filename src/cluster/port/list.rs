//! Every port of this host that leads into a cluster.

use serde::Serialize;

use crate::cluster::found::Cluster;
use crate::engine::spec::{Container, PortBinding, Protocol, State};
use crate::plan::beside::port::{published, target};

/// How a port was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Made {
    /// By `port add`.
    Added,
    /// With the node or the load balancer, when that was made.
    Created,
}

/// A port that leads into a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub host_address: String,
    pub host_port: u16,
    pub protocol: Protocol,
    /// A port of a Service or of all nodes, or `CONTAINER:PORT` of one container.
    pub target: String,
    pub made: Made,
    /// The container that publishes it.
    pub container: String,
    pub state: State,
}

/// The ports of a cluster: those that were added, then those of the nodes and the load balancer.
pub fn list(cluster: &Cluster) -> Vec<Listed> {
    let created = cluster.nodes.iter().map(|node| &node.container).chain(&cluster.balancer);
    let created = created.flat_map(|container| container.ports.iter().map(move |port| of_node(container, port)));
    cluster.ports.iter().filter_map(of_forwarder).chain(created).collect()
}

fn of_forwarder(forwarder: &Container) -> Option<Listed> {
    let (host, protocol) = published(forwarder)?;
    Some(Listed {
        host_address: host.ip().to_string(),
        host_port: host.port(),
        protocol,
        target: target(forwarder).to_owned(),
        made: Made::Added,
        container: forwarder.name.clone(),
        state: forwarder.state,
    })
}

fn of_node(container: &Container, port: &PortBinding) -> Listed {
    Listed {
        host_address: port.host_address.to_string(),
        host_port: port.host_port,
        protocol: port.protocol,
        target: format!("{}:{}", container.name, port.container_port),
        made: Made::Created,
        container: container.name.clone(),
        state: container.state,
    }
}
