//! Which node answers for which address. Pure: every agent computes the same result from the same facts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::service::Slices;
use crate::nodes::Nodes;
use crate::object::NamespacedName;

/// The state of a node, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Nothing was received from it for too long.
    Lost,
    /// Its agent runs, but its services do not answer yet.
    Starting,
    /// It can answer for addresses.
    Serving,
}

/// Nodes that may answer for the addresses of a service; `local` are those with endpoints of it, if only these may.
pub(crate) fn candidates<'a>(
    nodes: &'a Nodes,
    standing: impl Fn(&str) -> Standing,
    local: Option<&BTreeSet<&str>>,
) -> BTreeSet<&'a str> {
    // A label excludes a node, unless it would exclude all nodes.
    let all_excluded = nodes.values().all(|node| node.excluded);
    let names = nodes.iter().filter(|(_, node)| all_excluded || !node.excluded).map(|(name, _)| name.as_str());
    let names = names.filter(|name| local.is_none_or(|local| local.contains(name)));
    let live: BTreeSet<&str> = names.filter(|name| standing(name) > Standing::Lost).collect();
    let serving: BTreeSet<&str> = live.iter().copied().filter(|name| standing(name) == Standing::Serving).collect();
    if serving.is_empty() { live } else { serving }
}

/// Nodes with endpoints of a service: ready ones, or those that still serve while they end, as in kube-proxy.
pub(crate) fn with_endpoints<'a>(slices: &'a Slices, service: &NamespacedName) -> BTreeSet<&'a str> {
    let of_service = || slices.values().filter(|slice| slice.service == *service);
    let ready: BTreeSet<&str> = of_service().flat_map(|slice| &slice.ready).map(String::as_str).collect();
    if ready.is_empty() { of_service().flat_map(|slice| &slice.leaving).map(String::as_str).collect() } else { ready }
}

/// The candidate that answers for the address. When one leaves, only its own addresses move (rendezvous hashing).
pub(crate) fn owner<'a>(address: IpAddr, candidates: &BTreeSet<&'a str>) -> Option<&'a str> {
    candidates.iter().copied().max_by_key(|name| weight(address, name))
}

/// The node that writes statuses: the first one that is alive.
pub(crate) fn writer(nodes: &Nodes, standing: impl Fn(&str) -> Standing) -> Option<&str> {
    nodes.keys().map(String::as_str).find(|name| standing(name) > Standing::Lost)
}

/// FNV-1a with a final mix: the hash of the standard library may differ between two versions of the agent.
fn weight(address: IpAddr, name: &str) -> u64 {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let bytes = octets.iter().chain(name.as_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::service::Slice;
    use crate::nodes::Node;

    fn nodes(names: &[(&str, bool)]) -> Nodes {
        let node = |excluded| Node { excluded, ..Node::default() };
        names.iter().map(|(name, excluded)| ((*name).to_owned(), node(*excluded))).collect()
    }

    fn serving(_: &str) -> Standing {
        Standing::Serving
    }

    #[test]
    fn an_excluded_node_answers_only_where_all_are_excluded() {
        let three = nodes(&[("a", true), ("b", false), ("c", false)]);
        assert_eq!(candidates(&three, serving, None), BTreeSet::from(["b", "c"]));
        assert_eq!(candidates(&nodes(&[("a", true)]), serving, None), BTreeSet::from(["a"]));
        let lost = |_: &str| Standing::Lost;
        assert_eq!(candidates(&three, lost, None), BTreeSet::new());
    }

    #[test]
    fn a_starting_node_answers_only_while_none_serves() {
        let both = nodes(&[("a", false), ("b", false), ("c", false)]);
        let standing = |name: &str| if name == "b" { Standing::Serving } else { Standing::Starting };
        assert_eq!(candidates(&both, standing, None), BTreeSet::from(["b"]));
        assert_eq!(candidates(&both, |_: &str| Standing::Starting, None).len(), 3);
    }

    #[test]
    fn local_services_are_answered_where_their_endpoints_are() {
        let name = |name: &str| NamespacedName { namespace: "n".to_owned(), name: name.to_owned() };
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let slice =
            |service, ready, leaving| Slice { service: name(service), ready: set(ready), leaving: set(leaving) };
        let slices = Slices::from([
            (name("s-1"), slice("s", &["b"], &["c"])),
            (name("s-2"), slice("s", &["a"], &[])),
            (name("t-1"), slice("t", &[], &["c"])),
        ]);
        assert_eq!(with_endpoints(&slices, &name("s")), BTreeSet::from(["a", "b"]));
        assert_eq!(with_endpoints(&slices, &name("t")), BTreeSet::from(["c"]));
        let three = nodes(&[("a", true), ("b", false), ("c", false)]);
        let local = with_endpoints(&slices, &name("s"));
        assert_eq!(candidates(&three, serving, Some(&local)), BTreeSet::from(["b"]));
        assert!(candidates(&three, serving, Some(&BTreeSet::new())).is_empty());
    }

    #[test]
    fn addresses_spread_and_only_those_of_a_lost_node_move() {
        let three = BTreeSet::from(["dev-worker", "dev-worker2", "dev-worker3"]);
        let two = BTreeSet::from(["dev-worker", "dev-worker3"]);
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for last in 1..=254 {
            let address = IpAddr::from([172, 18, 1, last]);
            let before = owner(address, &three).unwrap();
            *counts.entry(before).or_default() += 1;
            if before != "dev-worker2" {
                assert_eq!(owner(address, &two), Some(before));
            }
        }
        assert!(counts.values().all(|count| (50..=120).contains(count)), "{counts:?}");
        assert_eq!(owner("172.18.1.1".parse().unwrap(), &BTreeSet::new()), None);
    }

    #[test]
    fn the_first_living_node_writes() {
        let three = nodes(&[("a", true), ("b", false), ("c", false)]);
        assert_eq!(writer(&three, serving), Some("a"));
        assert_eq!(
            writer(&three, |name: &str| if name == "a" { Standing::Lost } else { Standing::Starting }),
            Some("b")
        );
        assert_eq!(writer(&Nodes::new(), serving), None);
    }
}
