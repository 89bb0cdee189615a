//! What the command tells a forwarder, the container behind a port of the host that leads into a cluster.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where the forwarder finds its [`Forwarding`]. It is read again when it has changed.
pub const PATH: &str = "/etc/coracle/forward.json";
/// Where the agent's program is in the container.
pub const PROGRAM: &str = "/usr/local/bin/coracle-agent";

/// The way from a port of a container to the nodes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarding {
    /// TCP or UDP.
    pub protocol: Transport,
    /// The port of the container.
    pub listen: u16,
    /// The port that it leads to: of the nodes, or of the Service.
    pub target: u16,
    /// The nodes, in the order in which they are tried.
    pub nodes: Vec<ForwardNode>,
    /// The Service that is meant; without one, the port is the nodes' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ForwardService>,
}

/// What a forwarder carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

/// A node that a forwarder may send to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardNode {
    pub name: String,
    /// Its addresses, the one of the primary family first.
    pub addresses: Vec<IpAddr>,
}

/// A Service, which may be deleted and made anew with another address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForwardService {
    /// Its full name in the cluster's DNS.
    pub name: String,
    /// The address of the cluster's DNS.
    pub dns: IpAddr,
    /// The addresses that it had when the forwarder was made, for as long as DNS does not answer.
    pub addresses: Vec<IpAddr>,
}
