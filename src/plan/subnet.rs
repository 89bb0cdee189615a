//! Which subnet a cluster's network gets, and how it is divided. Pure.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// Prefix length of a subnet that coracle chooses: 1,022 addresses.
const PREFIX: u8 = 22;

/// The private ranges that are searched, in order: what Docker uses itself, without the parts that VPNs and home routers like.
const RANGES: &[(Ipv4Addr, u8)] = &[(Ipv4Addr::new(172, 16, 0, 0), 12), (Ipv4Addr::new(10, 192, 0, 0), 11)];

/// How a subnet is divided: nodes have fixed addresses in the first quarter, `LoadBalancer` services get the second,
/// and the engine hands out addresses by itself from the second half only, so that nobody takes a stopped node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// The whole subnet.
    pub subnet: Ipv4Net,
    /// The host's address, the first one.
    pub gateway: Ipv4Addr,
    /// Addresses of nodes.
    pub nodes: Ipv4Net,
    /// Addresses of services.
    pub services: Ipv4Net,
    /// Addresses that the engine may hand out.
    pub dynamic: Ipv4Net,
}

impl Division {
    /// Divides a subnet; `None` when it is too small (longer than /26).
    pub fn new(subnet: Ipv4Net) -> Option<Self> {
        if subnet.prefix_len() > 26 {
            return None;
        }
        let quarter: Vec<Ipv4Net> = subnet.subnets(subnet.prefix_len() + 2).ok()?.collect();
        let half: Vec<Ipv4Net> = subnet.subnets(subnet.prefix_len() + 1).ok()?.collect();
        Some(Self {
            subnet,
            gateway: subnet.hosts().next()?,
            nodes: quarter[0],
            services: quarter[1],
            dynamic: half[1],
        })
    }

    /// The fixed address of the n-th container (0 is the load balancer, nodes follow); `None` when the part is full.
    pub fn address(&self, n: usize) -> Option<IpAddr> {
        // The network address and the gateway come first.
        let address = u32::from(self.nodes.network()).checked_add(u32::try_from(n).ok()? + 2)?;
        let address = Ipv4Addr::from(address);
        self.nodes.contains(&address).then_some(IpAddr::V4(address))
    }
}

/// Free subnets in the order in which they are tried: those that overlap nothing in `taken`.
pub fn candidates(taken: &[IpNet]) -> impl Iterator<Item = Ipv4Net> {
    let taken: Vec<Ipv4Net> = taken
        .iter()
        .filter_map(|net| match net {
            // The default route is not somebody's network.
            IpNet::V4(net) if net.prefix_len() > 0 => Some(*net),
            _ => None,
        })
        .collect();
    RANGES
        .iter()
        .filter_map(|(address, prefix)| Ipv4Net::new(*address, *prefix).ok())
        .flat_map(|range| range.subnets(PREFIX).into_iter().flatten())
        // 172.16.0.0/15 is where Docker's first default networks and many VPNs are.
        .filter(|net| !(net.network().octets()[0] == 172 && net.network().octets()[1] < 18))
        .filter(move |net| !taken.iter().any(|other| overlaps(net, other)))
}

/// Whether two networks share addresses.
pub fn overlaps(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
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
}
