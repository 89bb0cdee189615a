//! Names, addresses and ports of a cluster. Pure.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::subnet::Division;
use crate::config::{Cluster, Node, Role};
use crate::error::{Code, Error, Result};

/// Port of the API server in control plane nodes and the load balancer.
pub const API_PORT: u16 = 6443;

/// Names, addresses and ports of a cluster: everything that certificates and files are made from.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The cluster as asked for.
    pub cluster: Cluster,
    /// The subnet of the cluster's network and its parts.
    pub division: Division,
    /// Nodes in the order of the configuration.
    pub nodes: Vec<NodeLayout>,
    /// The load balancer in front of several control planes.
    pub balancer: Option<BalancerLayout>,
    /// Host port on which the API server answers.
    pub api_port: u16,
    /// Kubernetes version, such as `v1.36.3`.
    pub version: String,
}

/// A node's name, address and pods.
#[derive(Debug, Clone)]
pub struct NodeLayout {
    /// Container, host and Node name.
    pub name: String,
    /// Fixed address in the cluster's network.
    pub address: IpAddr,
    /// Addresses of its pods.
    pub pod_cidr: IpNet,
    /// As asked for.
    pub config: Node,
}

/// The load balancer's name and address.
#[derive(Debug, Clone)]
pub struct BalancerLayout {
    /// Container and host name.
    pub name: String,
    /// Fixed address in the cluster's network.
    pub address: IpAddr,
}

impl Layout {
    /// Gives every node its name and addresses.
    pub fn new(cluster: Cluster, subnet: Ipv4Net, api_port: u16, version: &str) -> Result<Self> {
        let division = Division::new(subnet).ok_or_else(|| {
            Error::new(Code::SubnetClash, format!("the node subnet {subnet} is too small"))
                .hint("use /26 or larger in `networking.nodeSubnet`")
        })?;
        let full = || Error::new(Code::SubnetClash, format!("the subnet {subnet} has no room for another node"));
        let mut nodes = Vec::new();
        let (mut planes, mut workers) = (0, 0);
        for (index, node) in cluster.nodes.iter().enumerate() {
            let count = if node.role == Role::ControlPlane { &mut planes } else { &mut workers };
            *count += 1;
            nodes.push(NodeLayout {
                name: node_name(cluster.name.as_str(), node.role, *count),
                address: division.address(index + 1).ok_or_else(full)?,
                pod_cidr: pod_cidr(cluster.networking.pod_subnet, index).ok_or_else(|| {
                    let subnet = cluster.networking.pod_subnet;
                    Error::new(
                        Code::ConfigInvalid,
                        format!("the pod subnet {subnet} is too small for {} nodes", index + 1),
                    )
                    .hint("each node takes a /24 of `networking.podSubnet`")
                })?,
                config: node.clone(),
            });
        }
        let balancer = (planes > 1).then(|| BalancerLayout {
            name: format!("{}-load-balancer", cluster.name),
            address: division.address(0).unwrap_or(IpAddr::V4(division.gateway)),
        });
        Ok(Self { cluster, division, nodes, balancer, api_port, version: version.to_owned() })
    }

    /// Control plane nodes, the first one first.
    pub fn control_planes(&self) -> impl Iterator<Item = &NodeLayout> {
        self.nodes.iter().filter(|node| node.config.role == Role::ControlPlane)
    }

    /// Where nodes reach the API: the load balancer, else the one control plane.
    pub fn endpoint(&self) -> String {
        let address = match (&self.balancer, self.control_planes().next()) {
            (Some(balancer), _) => balancer.address,
            (None, Some(node)) => node.address,
            (None, None) => IpAddr::V4(self.division.gateway),
        };
        format!("{address}:{API_PORT}")
    }

    /// Where the host reaches the API.
    pub fn host_endpoint(&self) -> String {
        let address = self.cluster.networking.api_server_address;
        // The wildcard is where the API listens, not where one can call it.
        let address = if address.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { address };
        match address {
            IpAddr::V4(address) => format!("https://{address}:{}", self.api_port),
            IpAddr::V6(address) => format!("https://[{address}]:{}", self.api_port),
        }
    }

    /// The n-th address of the service subnet: 1 is the API, 10 is DNS.
    pub fn service_address(&self, n: usize) -> String {
        let subnet = self.cluster.networking.service_subnet;
        subnet.hosts().nth(n - 1).map(|address| address.to_string()).unwrap_or_default()
    }

    /// `single` node: the control plane also runs workloads.
    pub fn is_single(&self) -> bool {
        self.nodes.len() == 1
    }
}

/// `NAME-control-plane`, `NAME-control-plane2`, `NAME-worker`, `NAME-worker2`.
fn node_name(cluster: &str, role: Role, count: usize) -> String {
    let number = if count == 1 { String::new() } else { count.to_string() };
    format!("{cluster}-{}{number}", role.as_str())
}

/// The n-th /24 (/64 for IPv6) of the pod subnet, as kube-controller-manager divides it.
fn pod_cidr(subnet: IpNet, n: usize) -> Option<IpNet> {
    match subnet {
        IpNet::V4(net) => net.subnets(net.prefix_len().max(24)).ok()?.nth(n).map(IpNet::V4),
        IpNet::V6(net) => net.subnets(net.prefix_len().max(64)).ok()?.nth(n).map(IpNet::V6),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::ClusterName;

    pub(crate) fn layout(control_planes: usize, workers: usize) -> Layout {
        let mut cluster = Cluster::new("dev".parse::<ClusterName>().unwrap());
        cluster.nodes = std::iter::repeat_n(Node::new(Role::ControlPlane), control_planes)
            .chain(std::iter::repeat_n(Node::new(Role::Worker), workers))
            .collect();
        Layout::new(cluster, "172.18.0.0/22".parse().unwrap(), 40000, "v1.36.3").unwrap()
    }

    #[test]
    fn nodes_are_named_and_numbered_as_kind_users_expect() {
        let layout = layout(2, 2);
        let names: Vec<_> = layout.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["dev-control-plane", "dev-control-plane2", "dev-worker", "dev-worker2"]);
        let addresses: Vec<_> = layout.nodes.iter().map(|node| node.address.to_string()).collect();
        assert_eq!(addresses, ["172.18.0.3", "172.18.0.4", "172.18.0.5", "172.18.0.6"]);
        assert_eq!(layout.nodes[3].pod_cidr.to_string(), "10.244.3.0/24");
        assert_eq!(layout.endpoint(), "172.18.0.2:6443");
    }

    #[test]
    fn one_control_plane_needs_no_load_balancer() {
        let layout = layout(1, 0);
        assert!(layout.balancer.is_none());
        assert_eq!(layout.endpoint(), "172.18.0.3:6443");
        assert_eq!(layout.service_address(1), "10.96.0.1");
        assert_eq!(layout.service_address(10), "10.96.0.10");
    }
}
