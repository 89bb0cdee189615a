use std::collections::BTreeSet;

use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::config::{ClusterName, IpFamily};

pub(crate) fn layout(control_planes: usize, workers: usize) -> Layout {
    let mut cluster = ClusterConfig::new("dev".parse::<ClusterName>().unwrap());
    cluster.nodes = std::iter::repeat_n(Node::new(Role::ControlPlane), control_planes)
        .chain(std::iter::repeat_n(Node::new(Role::Worker), workers))
        .collect();
    let subnets = NodeSubnets::from("172.18.0.0/22".parse::<ipnet::Ipv4Net>().unwrap());
    Layout::new(cluster, subnets, 40000, "v1.36.3").unwrap()
}

/// A cluster without nodes, of one family or both, and the subnets of its network.
fn empty(dual: bool) -> (ClusterConfig, NodeSubnets) {
    let mut cluster = ClusterConfig::new("dev".parse::<ClusterName>().unwrap());
    cluster.nodes.clear();
    let mut subnets = NodeSubnets::from("172.18.0.0/22".parse::<ipnet::Ipv4Net>().unwrap());
    if dual {
        cluster.networking.ip_family = IpFamily::Dual;
        let pods = ["10.244.0.0/16", "fd00:10:244::/56"].map(|subnet| subnet.parse().unwrap());
        cluster.networking.pod_subnet = pods.to_vec().into();
        subnets.v6 = Some("fdc0:ac1e::/64".parse().unwrap());
    }
    (cluster, subnets)
}

fn with_existing(dual: bool, existing: Existing, new: &[Role]) -> Result<Layout> {
    let (cluster, subnets) = empty(dual);
    let new = new.iter().map(|role| Node::new(*role)).collect();
    Layout::with_existing(cluster, existing, new, subnets, 40000, "v1.36.3")
}

/// The layout with these nodes added.
fn add(layout: &Layout, new: &[Role]) -> Layout {
    with_existing(layout.has_ipv6(), Existing::from(layout), new).unwrap()
}

/// The layout without the n-th node.
fn without(layout: &Layout, index: usize) -> Layout {
    let mut existing = Existing::from(layout);
    existing.nodes.remove(index);
    with_existing(layout.has_ipv6(), existing, &[]).unwrap()
}

fn names(layout: &Layout) -> Vec<&str> {
    layout.nodes.iter().map(|node| node.name.as_str()).collect()
}

fn addresses(layout: &Layout) -> Vec<String> {
    layout.nodes.iter().map(|node| node.address.to_string()).collect()
}

/// Everything that is given to nodes and the balancer, as text.
fn shown(layout: &Layout) -> String {
    format!("{:#?} {:#?} {:#?}", layout.cluster.nodes, layout.nodes, layout.balancer)
}

fn role() -> impl Strategy<Value = Role> {
    any::<bool>().prop_map(|plane| if plane { Role::ControlPlane } else { Role::Worker })
}

fn roles() -> impl Strategy<Value = Vec<Role>> {
    prop::collection::vec(role(), 0..12)
}

/// What happens to a cluster: a node is added, or one of its nodes is removed.
fn changes() -> impl Strategy<Value = Vec<(Option<Role>, usize)>> {
    prop::collection::vec((prop::option::of(role()), any::<usize>()), 0..24)
}

proptest! {
    #[test]
    fn a_new_cluster_is_one_in_which_nothing_exists(roles in roles(), dual: bool) {
        let (mut cluster, subnets) = empty(dual);
        cluster.nodes = roles.iter().map(|role| Node::new(*role)).collect();
        let new = Layout::new(cluster, subnets, 40000, "v1.36.3").unwrap();
        prop_assert_eq!(shown(&new), shown(&with_existing(dual, Existing::default(), &roles).unwrap()));
    }

    #[test]
    fn nodes_added_one_by_one_are_those_of_a_new_cluster(roles in roles(), dual: bool) {
        let mut grown = with_existing(dual, Existing::default(), &[]).unwrap();
        for role in &roles {
            grown = add(&grown, &[*role]);
        }
        prop_assert_eq!(shown(&grown), shown(&with_existing(dual, Existing::default(), &roles).unwrap()));
    }

    #[test]
    fn no_change_moves_a_node_or_gives_away_what_is_in_use(changes in changes(), dual: bool) {
        let mut layout = with_existing(dual, Existing::default(), &[Role::ControlPlane]).unwrap();
        for (added, removed) in changes {
            let before = match added {
                Some(_) => layout.clone(),
                None if layout.nodes.is_empty() => continue,
                None => without(&layout, removed % layout.nodes.len()),
            };
            layout = add(&before, added.as_slice());
            let kept = &layout.nodes[..before.nodes.len()];
            prop_assert_eq!(format!("{kept:?}"), format!("{:?}", before.nodes));
            if let Some(balancer) = &before.balancer {
                prop_assert_eq!(&balancer.addresses, &layout.balancer.as_ref().unwrap().addresses);
            }
            prop_assert_eq!(names(&layout).iter().collect::<BTreeSet<_>>().len(), layout.nodes.len());
            let of_balancer = layout.balancer.iter().flat_map(|balancer| &balancer.addresses);
            let all: Vec<_> = layout.nodes.iter().flat_map(|node| &node.addresses).chain(of_balancer).collect();
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            let pods: Vec<_> = layout.nodes.iter().flat_map(|node| &node.pod_cidrs).collect();
            prop_assert_eq!(pods.iter().collect::<BTreeSet<_>>().len(), pods.len());
            prop_assert!(layout.control_planes().count() < 2 || layout.balancer.is_some());
        }
    }
}

#[test]
fn a_gap_after_a_removal_is_filled_first() {
    let three = without(&layout(1, 3), 2);
    assert_eq!(names(&three), ["dev-control-plane", "dev-worker", "dev-worker3"]);
    let five = add(&three, &[Role::Worker, Role::Worker]);
    assert_eq!(names(&five)[3..], ["dev-worker2", "dev-worker4"]);
    assert_eq!(addresses(&five)[3..], ["172.18.0.5", "172.18.0.7"]);
    let pods: Vec<String> = five.nodes[3..].iter().map(|node| node.pod_cidrs[0].to_string()).collect();
    assert_eq!(pods, ["10.244.2.0/24", "10.244.4.0/24"]);
    assert_eq!(five.cluster.nodes.len(), 5);
}

#[test]
fn a_second_control_plane_brings_the_balancer_and_moves_nothing() {
    let one = layout(1, 1);
    let two = add(&one, &[Role::ControlPlane]);
    assert_eq!(names(&two), ["dev-control-plane", "dev-worker", "dev-control-plane2"]);
    assert_eq!(addresses(&two), ["172.18.0.3", "172.18.0.4", "172.18.0.5"]);
    assert_eq!(two.endpoint(), "172.18.0.2:6443");
    assert_eq!(without(&two, 2).endpoint(), "172.18.0.2:6443", "kubeconfigs and certificates name the balancer");
}

#[test]
fn pod_subnets_of_another_size_are_not_used_twice() {
    let mut existing = Existing::from(&layout(1, 0));
    existing.nodes[0].pod_cidrs = vec!["10.244.0.0/23".parse().unwrap()];
    let layout = with_existing(false, existing, &[Role::Worker]).unwrap();
    assert_eq!(layout.nodes[1].pod_cidrs, ["10.244.2.0/24".parse().unwrap()]);
}

#[test]
fn a_full_pod_subnet_says_for_how_many_nodes_it_is_too_small() {
    let (mut cluster, subnets) = empty(false);
    cluster.networking.pod_subnet = vec!["10.244.0.0/23".parse().unwrap()].into();
    let new = vec![Node::new(Role::Worker)];
    let error =
        Layout::with_existing(cluster, Existing::from(&layout(1, 1)), new, subnets, 40000, "v1.36.3").unwrap_err();
    assert_eq!(error.message(), "the pod subnet 10.244.0.0/23 is too small for 3 nodes");
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
