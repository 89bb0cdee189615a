//! The names, addresses and ports of a cluster. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::config::{ClusterConfig, Node, Role};
use crate::error::{Code, Error, Result};
use crate::plan::allocation::Allocation;
use crate::plan::subnet::{Division, NodeSubnets, service_address};

/// The name of the engine's host in nodes and pods.
pub const HOST_NAME: &str = "host.coracle.internal";

/// The ending of names in the networks of clusters; requests to them bypass the proxy.
pub const DOMAIN: &str = ".coracle.internal";

/// Port of the API server in control plane nodes and the load balancer.
pub const API_PORT: u16 = 6443;

/// The names, addresses and ports of a cluster, from which its certificates and files are made.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The configuration of the cluster.
    pub cluster: ClusterConfig,
    /// The IPv4 subnet of the cluster's network and its parts.
    pub division: Division,
    /// Its IPv6 subnet, if the cluster has this family.
    pub division_v6: Option<Division>,
    /// Nodes: those that exist, then new ones in the order of the configuration.
    pub nodes: Vec<NodeLayout>,
    /// The load balancer in front of several control planes.
    pub balancer: Option<BalancerLayout>,
    /// Host port of the API server.
    pub api_port: u16,
    /// Kubernetes version, such as `v1.36.3`.
    pub version: String,
    /// The name or address of the engine's host, if it is another one.
    pub engine_host: Option<String>,
    /// How many of the nodes, which are the first ones, existed before; 0 for a new cluster.
    pub existed: usize,
}

/// The name of a node, its addresses and those of its pods.
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
    /// The configuration of the node.
    pub config: Node,
}

/// The name of the load balancer and its addresses.
#[derive(Debug, Clone)]
pub struct BalancerLayout {
    /// Container and host name.
    pub name: String,
    /// Fixed address in the cluster's network, of the primary family.
    pub address: IpAddr,
    /// Fixed addresses of all families, the primary one first.
    pub addresses: Vec<IpAddr>,
}

/// What a cluster has before nodes are added to it; none of it changes.
#[derive(Debug, Clone, Default)]
pub struct Existing {
    /// Its nodes, in their order.
    pub nodes: Vec<ExistingNode>,
    /// The addresses of its load balancer, if it has one.
    pub balancer: Option<Vec<IpAddr>>,
}

/// A node that exists.
#[derive(Debug, Clone)]
pub struct ExistingNode {
    /// Container, host and Node name.
    pub name: String,
    /// Fixed addresses of all families, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Addresses of its pods, of all families.
    pub pod_cidrs: Vec<IpNet>,
    /// Its role and the rest of its configuration.
    pub config: Node,
}

impl From<&Layout> for Existing {
    fn from(layout: &Layout) -> Self {
        let node = |node: &NodeLayout| ExistingNode {
            name: node.name.clone(),
            addresses: node.addresses.clone(),
            pod_cidrs: node.pod_cidrs.clone(),
            config: node.config.clone(),
        };
        let balancer = layout.balancer.as_ref().map(|balancer| balancer.addresses.clone());
        Self { nodes: layout.nodes.iter().map(node).collect(), balancer }
    }
}

/// The address of the primary family, which is the first one.
fn primary(addresses: &[IpAddr]) -> Result<IpAddr> {
    let none = || Error::new(Code::ConfigInvalid, "a node of the cluster has no address");
    addresses.first().copied().ok_or_else(none)
}

impl Layout {
    /// The layout of a new cluster.
    pub fn new(mut cluster: ClusterConfig, subnets: NodeSubnets, api_port: u16, version: &str) -> Result<Self> {
        let new = std::mem::take(&mut cluster.nodes);
        Self::with_existing(cluster, Existing::default(), new, subnets, api_port, version)
    }

    /// The layout of a cluster to which nodes are added: what exists keeps its names and addresses, and the `new` nodes get
    /// what is free. The nodes in `cluster` are replaced by the existing ones, followed by the new ones.
    ///
    /// A cluster that gets its second control plane gets a load balancer too; a cluster that has one keeps it.
    pub fn with_existing(
        mut cluster: ClusterConfig,
        existing: Existing,
        new: Vec<Node>,
        subnets: NodeSubnets,
        api_port: u16,
        version: &str,
    ) -> Result<Self> {
        let divide = |subnet: IpNet| {
            Division::new(subnet).ok_or_else(|| {
                Error::new(Code::SubnetClash, format!("the node subnet {subnet} is too small"))
                    .hint("use /26 or larger in `networking.nodeSubnet`")
            })
        };
        let division = divide(subnets.v4.into())?;
        let division_v6 = subnets.v6.map(|subnet| divide(subnet.into())).transpose()?;
        let families = cluster.networking.families();
        let divisions = families.filter_map(|v4| if v4 { Some(division) } else { division_v6 }).collect();
        let mut allocation = Allocation::new(divisions, cluster.networking.pod_subnet.clone());
        for node in &existing.nodes {
            allocation.take(&node.name, &node.addresses, &node.pod_cidrs);
        }
        allocation.take_addresses(existing.balancer.as_deref().unwrap_or_default());
        let existed = existing.nodes.len();
        let mut nodes = Vec::new();
        for ExistingNode { name, addresses, pod_cidrs, config } in existing.nodes {
            nodes.push(NodeLayout { name, address: primary(&addresses)?, addresses, pod_cidrs, config });
        }
        for config in new {
            let (name, addresses, pod_cidrs) = allocation.node(cluster.name.as_str(), config.role)?;
            nodes.push(NodeLayout { name, address: primary(&addresses)?, addresses, pod_cidrs, config });
        }
        let planes = nodes.iter().filter(|node| node.config.role == Role::ControlPlane).count();
        let addresses = match existing.balancer {
            None if planes > 1 => Some(allocation.balancer()?),
            kept => kept,
        };
        let balancer = match addresses {
            Some(addresses) => {
                let name = format!("{}-load-balancer", cluster.name);
                Some(BalancerLayout { name, address: primary(&addresses)?, addresses })
            }
            None => None,
        };
        cluster.nodes = nodes.iter().map(|node| node.config.clone()).collect();
        Ok(Self {
            cluster,
            division,
            division_v6,
            nodes,
            balancer,
            api_port,
            version: version.to_owned(),
            engine_host: None,
            existed,
        })
    }

    /// Control plane nodes, in the order of the nodes.
    pub fn control_planes(&self) -> impl Iterator<Item = &NodeLayout> {
        self.nodes.iter().filter(|node| node.config.role == Role::ControlPlane)
    }

    /// The control planes with which a node's etcd begins, and whether they are those of a cluster that exists: it is joined by
    /// one member after the other, and each of them knows only those before it.
    pub fn first_members(&self, node: &NodeLayout) -> (Vec<&NodeLayout>, bool) {
        let place = self.nodes.iter().position(|other| other.name == node.name).unwrap_or_default();
        let joins = self.existed > 0 && place >= self.existed;
        let last = if joins { place } else { self.nodes.len() };
        let all = self.nodes.iter().take(last + 1).filter(|node| node.config.role == Role::ControlPlane);
        (all.collect(), joins)
    }

    /// The endpoint at which nodes reach the API: the load balancer's, or else that of the only control plane.
    pub fn endpoint(&self) -> String {
        let address = match (&self.balancer, self.control_planes().next()) {
            (Some(balancer), _) => balancer.address,
            (None, Some(node)) => node.address,
            (None, None) => self.division.gateway,
        };
        api_endpoint(address)
    }

    /// The same layout for an engine on this other host, if it is on one.
    #[must_use]
    pub fn on(self, engine_host: Option<String>) -> Self {
        Self { engine_host, ..self }
    }

    /// The URL at which the host reaches the API.
    pub fn host_endpoint(&self) -> String {
        let address = self.cluster.networking.api_server_address;
        if let Some(host) = self.engine_host.as_ref().filter(|_| address.is_unspecified()) {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            return format!("https://{host}:{}", self.api_port);
        }
        let address = reachable_address(address);
        format!("https://{}", SocketAddr::new(address, self.api_port))
    }

    /// The n-th address of Services, of the primary family.
    pub fn service_address(&self, n: usize) -> String {
        service_address(&self.cluster.networking, n).map(|address| address.to_string()).unwrap_or_default()
    }

    /// The addresses of the host in the cluster's network, one for each of the cluster's families.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let division = |v4: bool| if v4 { Some(self.division) } else { self.division_v6 };
        self.cluster.networking.families().filter_map(move |v4| Some(division(v4)?.gateway))
    }

    /// Whether the cluster has IPv6 addresses.
    pub fn has_ipv6(&self) -> bool {
        self.division_v6.is_some()
    }

    /// Whether the cluster has IPv6 addresses only.
    pub fn is_ipv6_only(&self) -> bool {
        self.cluster.networking.families().all(|v4| !v4)
    }

    /// The wildcard address for servers that listen on all addresses of a node.
    pub fn wildcard(&self) -> &'static str {
        // Programs in Go listen on both families with either; kubeadm, too, gives them the one of their address family.
        if self.cluster.networking.families().next() == Some(false) { "::" } else { "0.0.0.0" }
    }

    /// Whether the cluster has one node only, whose control plane also runs workloads.
    pub fn is_single(&self) -> bool {
        self.nodes.len() == 1
    }
}

/// The URL at which members of etcd reach the one at this address.
pub fn peer_url(address: IpAddr) -> String {
    format!("https://{}", SocketAddr::new(address, 2380))
}

/// The address at which a server is reached that listens on this one: the loopback address for a wildcard.
pub fn reachable_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// The endpoint of the API server or load balancer at this address, as `address:port`.
pub fn api_endpoint(address: IpAddr) -> String {
    SocketAddr::new(address, API_PORT).to_string()
}

#[cfg(test)]
#[path = "layout_tests.rs"]
pub(crate) mod tests;
