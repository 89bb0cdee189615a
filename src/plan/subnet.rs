//! The subnets of a cluster's network, and how they are divided. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::Networking;

/// Prefix length of an IPv4 subnet that coracle chooses: 1,022 addresses.
const PREFIX: u8 = 22;

/// The private ranges that are searched, in order: those that Docker uses, without the parts that VPNs and home routers use.
const RANGES: &[(Ipv4Addr, u8)] = &[(Ipv4Addr::new(172, 16, 0, 0), 12), (Ipv4Addr::new(10, 192, 0, 0), 11)];

/// The unique local range (RFC 4193) from which each cluster with IPv6 gets a /64.
const RANGE_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfdc0, 0xac1e, 0, 0, 0, 0, 0, 0), 48);

/// The subnets of a cluster's network: always one of IPv4, because all networks of the engine have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeSubnets {
    /// The IPv4 subnet.
    pub v4: Ipv4Net,
    /// The IPv6 subnet, if the cluster has this family.
    pub v6: Option<Ipv6Net>,
}

impl From<Ipv4Net> for NodeSubnets {
    fn from(v4: Ipv4Net) -> Self {
        Self { v4, v6: None }
    }
}

/// How a subnet is divided: nodes have fixed addresses in the first quarter, `LoadBalancer` services get the second,
/// and the engine assigns addresses from the second half only, so that no other container gets that of a stopped node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// The whole subnet.
    pub subnet: IpNet,
    /// The host's address, the first one.
    pub gateway: IpAddr,
    /// Addresses of nodes.
    pub nodes: IpNet,
    /// Addresses of services.
    pub services: IpNet,
    /// Addresses that the engine may assign.
    pub dynamic: IpNet,
}

impl Division {
    /// Divides a subnet; `None` if it is too small, with fewer than 64 addresses.
    pub fn new(subnet: IpNet) -> Option<Self> {
        if subnet.prefix_len() > subnet.max_prefix_len() - 6 {
            return None;
        }
        let part = |more: u8, n: usize| subnet.subnets(subnet.prefix_len() + more).ok()?.nth(n);
        Some(Self {
            subnet,
            gateway: nth_address(subnet, 1)?,
            nodes: part(2, 0)?,
            services: part(2, 1)?,
            dynamic: part(1, 1)?,
        })
    }

    /// The fixed address of the n-th container (0 is the load balancer, nodes follow); `None` if the part is full.
    pub fn address(&self, n: usize) -> Option<IpAddr> {
        // The network address and the gateway come first.
        nth_address(self.nodes, n + 2)
    }
}

/// The n-th address of a subnet, counted from that of the network itself; `None` beyond its end.
pub fn nth_address(subnet: IpNet, n: usize) -> Option<IpAddr> {
    let address = match subnet.network() {
        IpAddr::V4(first) => IpAddr::V4(u32::from(first).checked_add(u32::try_from(n).ok()?)?.into()),
        IpAddr::V6(first) => IpAddr::V6(u128::from(first).checked_add(n as u128)?.into()),
    };
    subnet.contains(&address).then_some(address)
}

/// The place of the cluster's DNS among the addresses of Services.
pub const DNS: usize = 10;

/// The n-th address of Services, of the primary family: 1 is the API, [`DNS`] its own.
pub fn service_address(networking: &Networking, n: usize) -> Option<IpAddr> {
    networking.service_subnet.iter().next().and_then(|subnet| nth_address(subnet, n))
}

/// The first `count` pairs of subnets to try for a network: those of the configuration, and free ones where it has none.
pub fn choices(networking: &Networking, taken: &[IpNet], count: usize) -> Vec<NodeSubnets> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for subnet in networking.node_subnet.iter() {
        match subnet {
            IpNet::V4(subnet) => v4.push(subnet),
            IpNet::V6(subnet) => v6.push(Some(subnet)),
        }
    }
    if v4.is_empty() {
        v4.extend(candidates(taken).take(count));
    }
    if !networking.ip_family.has(false) {
        v6 = vec![None];
    } else if v6.is_empty() {
        v6.extend(candidates_v6(taken).take(count).map(Some));
    }
    if v4.is_empty() || v6.is_empty() {
        return Vec::new();
    }
    // The engine does not say which of the two is in use, so each attempt changes both.
    let pairs = v4.iter().cycle().zip(v6.iter().cycle()).map(|(v4, v6)| NodeSubnets { v4: *v4, v6: *v6 });
    pairs.take(v4.len().max(v6.len())).collect()
}

/// Free IPv4 subnets in the order in which they are tried: those that overlap nothing in `taken`.
pub fn candidates(taken: &[IpNet]) -> impl Iterator<Item = Ipv4Net> {
    RANGES
        .iter()
        .filter_map(|(address, prefix)| Ipv4Net::new(*address, *prefix).ok())
        .flat_map(|range| range.subnets(PREFIX).into_iter().flatten())
        // Docker's first default networks and many VPNs are in 172.16.0.0/15.
        .filter(|net| !(net.network().octets()[0] == 172 && net.network().octets()[1] < 18))
        .filter(|net| is_free(IpNet::V4(*net), taken))
}

/// Free IPv6 subnets in the order in which they are tried.
pub fn candidates_v6(taken: &[IpNet]) -> impl Iterator<Item = Ipv6Net> {
    let range = Ipv6Net::new(RANGE_V6.0, RANGE_V6.1).ok();
    range.and_then(|range| range.subnets(64).ok()).into_iter().flatten().filter(|net| is_free(IpNet::V6(*net), taken))
}

/// Whether no network in `taken` shares addresses with this one; the default route does not count as a network.
fn is_free(net: IpNet, taken: &[IpNet]) -> bool {
    !taken.iter().any(|other| other.prefix_len() > 0 && overlaps(&net, other))
}

/// Whether two networks share addresses.
pub fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_networks_are_passed_over_and_the_default_route_is_not_one() {
        let taken = ["0.0.0.0/0", "172.18.0.0/16", "172.19.0.0/22"].map(|net| net.parse().unwrap());
        let free: Vec<Ipv4Net> = candidates(&taken).take(2).collect();
        assert_eq!(free, ["172.19.4.0/22".parse().unwrap(), "172.19.8.0/22".parse().unwrap()]);
    }

    #[test]
    fn parts_do_not_overlap_and_addresses_stay_in_the_nodes_part() {
        let division = Division::new("172.18.4.0/22".parse().unwrap()).unwrap();
        assert!(!overlaps(&division.nodes, &division.dynamic));
        assert!(!overlaps(&division.services, &division.dynamic));
        assert_eq!(division.gateway.to_string(), "172.18.4.1");
        assert_eq!(division.address(0).unwrap().to_string(), "172.18.4.2");
        assert_eq!(division.address(253).unwrap().to_string(), "172.18.4.255");
        assert_eq!(division.address(254), None);
    }

    #[test]
    fn a_subnet_that_is_too_small_is_not_divided() {
        assert!(Division::new("10.0.0.0/27".parse().unwrap()).is_none());
    }

    #[test]
    fn an_ipv6_subnet_is_divided_the_same() {
        let taken = ["::/0", "fd00::/8", "fdc0:ac1e::/64"].map(|net| net.parse().unwrap());
        assert_eq!(candidates_v6(&taken).next(), None);
        let subnet = candidates_v6(&[taken[0], taken[2]]).next().unwrap();
        assert_eq!(subnet.to_string(), "fdc0:ac1e:0:1::/64");
        let division = Division::new(subnet.into()).unwrap();
        assert_eq!(division.gateway.to_string(), "fdc0:ac1e:0:1::1");
        assert_eq!(division.address(1).unwrap().to_string(), "fdc0:ac1e:0:1::3");
        assert_eq!(division.services.to_string(), "fdc0:ac1e:0:1:4000::/66");
        assert_eq!(division.dynamic.to_string(), "fdc0:ac1e:0:1:8000::/65");
    }
}
