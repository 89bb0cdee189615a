//! Which routes should exist, and the changes that lead there. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::nodes::Nodes;

/// Destination subnet and the next hop to it.
pub(crate) type Routes = BTreeMap<IpNet, IpAddr>;

/// A route of the agent, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// Destination subnet.
    pub(crate) destination: IpNet,
    /// Next hop; `None` if another program has removed it from the route.
    pub(crate) gateway: Option<IpAddr>,
}

/// A change of the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Remove this route of the agent.
    Remove(Route),
    /// Add the route, or replace the one to the same destination.
    Set(IpNet, IpAddr),
}

/// The routes to the pods of all nodes other than `own`.
///
/// `None` if the own node is not among them: such a list must not be acted on.
pub(crate) fn desired(nodes: &Nodes, own: &str) -> Option<Routes> {
    if !nodes.contains_key(own) {
        return None;
    }
    let mut routes = Routes::new();
    for (_, node) in nodes.iter().filter(|(name, _)| *name != own) {
        for cidr in &node.pod_cidrs {
            let same_family = node.addresses.iter().find(|address| address.is_ipv4() == cidr.addr().is_ipv4());
            if let Some(address) = same_family {
                routes.insert(cidr.trunc(), *address);
            }
        }
    }
    Some(routes)
}

/// The changes that turn `present`, the agent's own routes, into `desired`; removals first.
pub(crate) fn diff(desired: &Routes, present: &[Route]) -> Vec<Change> {
    let unwanted = present.iter().filter(|route| !desired.contains_key(&route.destination));
    let mut changes: Vec<Change> = unwanted.cloned().map(Change::Remove).collect();
    for (destination, gateway) in desired {
        let is_there = |route: &Route| route.destination == *destination && route.gateway == Some(*gateway);
        if !present.iter().any(is_there) {
            changes.push(Change::Set(*destination, *gateway));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Node;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn node(cidrs: &[&str], addresses: &[&str]) -> Node {
        Node {
            pod_cidrs: cidrs.iter().map(|text| net(text)).collect(),
            addresses: addresses.iter().map(|text| address(text)).collect(),
            ..Node::default()
        }
    }

    fn cluster() -> Nodes {
        Nodes::from([
            ("a".to_owned(), node(&["10.244.0.0/24"], &["172.30.0.2"])),
            ("b".to_owned(), node(&["10.244.1.0/24", "fd00:0:0:1::/64"], &["172.30.0.3", "fd01::3"])),
            ("c".to_owned(), node(&[], &["172.30.0.4"])),
        ])
    }

    #[test]
    fn each_subnet_of_another_node_goes_via_its_address_of_the_same_family() {
        let expected =
            Routes::from([(net("10.244.1.0/24"), address("172.30.0.3")), (net("fd00:0:0:1::/64"), address("fd01::3"))]);
        assert_eq!(desired(&cluster(), "a"), Some(expected));
    }

    #[test]
    fn a_subnet_without_an_address_of_its_family_has_no_route() {
        let mut nodes = cluster();
        nodes.insert("b".to_owned(), node(&["fd00:0:0:1::/64"], &["172.30.0.3"]));
        assert_eq!(desired(&nodes, "a"), Some(Routes::new()));
    }

    #[test]
    fn a_list_without_the_own_node_is_not_acted_on() {
        assert_eq!(desired(&cluster(), "d"), None);
        assert_eq!(desired(&Nodes::new(), "a"), None);
    }

    #[test]
    fn a_single_node_needs_no_routes() {
        let mut nodes = cluster();
        nodes.retain(|name, _| name == "a");
        assert_eq!(desired(&nodes, "a"), Some(Routes::new()));
    }

    #[test]
    fn only_what_differs_is_changed() {
        let desired = Routes::from([
            (net("10.244.1.0/24"), address("172.30.0.3")),
            (net("10.244.2.0/24"), address("172.30.0.4")),
            (net("10.244.3.0/24"), address("172.30.0.5")),
        ]);
        let route =
            |destination, gateway: Option<&str>| Route { destination: net(destination), gateway: gateway.map(address) };
        let gone = route("10.244.9.0/24", Some("172.30.0.9"));
        let present =
            [route("10.244.1.0/24", Some("172.30.0.3")), route("10.244.2.0/24", Some("172.30.0.99")), gone.clone()];
        assert_eq!(
            diff(&desired, &present),
            [
                Change::Remove(gone),
                Change::Set(net("10.244.2.0/24"), address("172.30.0.4")),
                Change::Set(net("10.244.3.0/24"), address("172.30.0.5")),
            ]
        );
        assert_eq!(diff(&Routes::new(), &[]), []);
    }
}
