//! Names, addresses and ports of a cluster. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::config::{Cluster, Node, Role};
use crate::error::{Code, Error, Result};
use crate::plan::subnet::{Division, NodeSubnets, nth_address};

/// The name of the engine's host in nodes and pods.
pub const HOST_NAME: &str = "host.coracle.internal";

/// The ending of names in the networks of clusters; no proxy is asked for them.
pub const DOMAIN: &str = ".coracle.internal";

/// Port of the API server in control plane nodes and the load balancer.
pub const API_PORT: u16 = 6443;

/// Names, addresses and ports of a cluster: everything that certificates and files are made from.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The cluster as asked for.
    pub cluster: Cluster,
    /// The IPv4 subnet of the cluster's network and its parts.
    pub division: Division,
    /// Its IPv6 subnet, if the cluster has this family.
    pub division_v6: Option<Division>,
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
    /// Fixed address in the cluster's network, of the primary family.
    pub address: IpAddr,
    /// Fixed addresses of all families, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Addresses of its pods, of all families.
    pub pod_cidrs: Vec<IpNet>,
    /// As asked for.
    pub config: Node,
}

/// The load balancer's name and address.
#[derive(Debug, Clone)]
pub struct BalancerLayout {
    /// Container and host name.
    pub name: String,
    /// Fixed address in the cluster's network, of the primary family.
    pub address: IpAddr,
    /// Fixed addresses of all families, the primary one first.
    pub addresses: Vec<IpAddr>,
}

/// The parts of the network that fixed addresses come from, the primary family first.
struct Pools(Vec<Division>);

impl Pools {
    /// The addresses of the n-th container: the first one, and all.
    fn addresses(&self, n: usize) -> Result<(IpAddr, Vec<IpAddr>)> {
        let full = |division: &Division| {
            Error::new(Code::SubnetClash, format!("the subnet {} has no room for another node", division.subnet))
        };
        let addresses = self.0.iter().map(|division| division.address(n).ok_or_else(|| full(division)));
        let addresses: Vec<IpAddr> = addresses.collect::<Result<_>>()?;
        let first = addresses.first().copied();
        Ok((first.ok_or_else(|| Error::new(Code::ConfigInvalid, "the cluster has no pod subnet"))?, addresses))
    }
}

impl Layout {
    /// Gives every node its name and addresses.
    pub fn new(cluster: Cluster, subnets: NodeSubnets, api_port: u16, version: &str) -> Result<Self> {
        let divide = |subnet: IpNet| {
            Division::new(subnet).ok_or_else(|| {
                Error::new(Code::SubnetClash, format!("the node subnet {subnet} is too small"))
                    .hint("use /26 or larger in `networking.nodeSubnet`")
            })
        };
        let division = divide(subnets.v4.into())?;
        let division_v6 = subnets.v6.map(|subnet| divide(subnet.into())).transpose()?;
        let families = cluster.networking.families();
        let pools = Pools(families.filter_map(|v4| if v4 { Some(division) } else { division_v6 }).collect());
        let mut nodes = Vec::new();
        let (mut planes, mut workers) = (0, 0);
        for (index, node) in cluster.nodes.iter().enumerate() {
            let count = if node.role == Role::ControlPlane { &mut planes } else { &mut workers };
            *count += 1;
            let (address, addresses) = pools.addresses(index + 1)?;
            nodes.push(NodeLayout {
                name: node_name(cluster.name.as_str(), node.role, *count),
                address,
                addresses,
                pod_cidrs: pod_cidrs(&cluster, index)?,
                config: node.clone(),
            });
        }
        let balancer = if planes > 1 {
            let (address, addresses) = pools.addresses(0)?;
            Some(BalancerLayout { name: format!("{}-load-balancer", cluster.name), address, addresses })
        } else {
            None
        };
        Ok(Self { cluster, division, division_v6, nodes, balancer, api_port, version: version.to_owned() })
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
            (None, None) => self.division.gateway,
        };
        api_endpoint(address)
    }

    /// Where the host reaches the API.
    pub fn host_endpoint(&self) -> String {
        let address = callable(self.cluster.networking.api_server_address);
        format!("https://{}", SocketAddr::new(address, self.api_port))
    }

    /// The n-th address of the service subnet, of the primary family: 1 is the API, 10 is DNS.
    pub fn service_address(&self, n: usize) -> String {
        let subnet = self.cluster.networking.service_subnet.iter().next();
        subnet.and_then(|subnet| nth_address(subnet, n)).map(|address| address.to_string()).unwrap_or_default()
    }

    /// The host's addresses in the cluster's network, of the cluster's families.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let division = |v4: bool| if v4 { Some(self.division) } else { self.division_v6 };
        self.cluster.networking.families().filter_map(move |v4| Some(division(v4)?.gateway))
    }

    /// Whether the cluster has addresses of IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.division_v6.is_some()
    }

    /// Whether the cluster has addresses of IPv6 only.
    pub fn is_ipv6_only(&self) -> bool {
        self.cluster.networking.families().all(|v4| !v4)
    }

    /// The address at which servers listen on all of a node's addresses.
    pub fn wildcard(&self) -> &'static str {
        // Programs in Go listen on both families at either; they are told the one of their address, as kubeadm does.
        if self.cluster.networking.families().next() == Some(false) { "::" } else { "0.0.0.0" }
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

/// The address at which to call who listens at this one: a wildcard is none.
pub fn callable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// The API server of a node or the load balancer with this address, as `address:port`.
pub fn api_endpoint(address: IpAddr) -> String {
    SocketAddr::new(address, API_PORT).to_string()
}

/// The n-th /24 (/64 of IPv6) of each pod subnet, as kube-controller-manager divides them.
fn pod_cidrs(cluster: &Cluster, n: usize) -> Result<Vec<IpNet>> {
    let part = |subnet: IpNet| {
        let mask = if subnet.addr().is_ipv4() { 24 } else { 64 };
        subnet.subnets(mask).ok().and_then(|mut parts| parts.nth(n)).ok_or_else(|| {
            Error::new(Code::ConfigInvalid, format!("the pod subnet {subnet} is too small for {} nodes", n + 1))
                .hint(format!("each node takes a /{mask} of `networking.podSubnet`"))
        })
    };
    cluster.networking.pod_subnet.iter().map(part).collect()
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
        let subnets = NodeSubnets::from("172.18.0.0/22".parse::<ipnet::Ipv4Net>().unwrap());
        Layout::new(cluster, subnets, 40000, "v1.36.3").unwrap()
    }

    #[test]
    fn nodes_are_named_and_numbered_as_kind_users_expect() {
        let layout = layout(2, 2);
        let names: Vec<_> = layout.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["dev-control-plane", "dev-control-plane2", "dev-worker", "dev-worker2"]);
        let addresses: Vec<_> = layout.nodes.iter().map(|node| node.address.to_string()).collect();
        assert_eq!(addresses, ["172.18.0.3", "172.18.0.4", "172.18.0.5", "172.18.0.6"]);
        assert_eq!(layout.nodes[3].pod_cidrs, ["10.244.3.0/24".parse().unwrap()]);
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
