//! Which control planes may go, and what the load balancer forgets of them.

use super::*;
use crate::cluster::found::group;
use crate::engine::spec::{Labels, PortBinding, Protocol, State};

fn plane(name: &str, state: State, ports: Vec<PortBinding>) -> Container {
    let labels = [(labels::CLUSTER, "dev"), (labels::ROLE, "control-plane")];
    Container {
        id: name.to_owned(),
        name: name.to_owned(),
        image: String::new(),
        state,
        labels: Labels::from(labels.map(|(key, value)| (key.to_owned(), value.to_owned()))),
        addresses: Vec::new(),
        networks: Vec::new(),
        network_ids: Vec::new(),
        volumes: Vec::new(),
        ports,
        created: 0,
    }
}

fn cluster(states: &[State]) -> Cluster {
    let names = ["dev-control-plane", "dev-control-plane2", "dev-control-plane3"];
    let planes = names.iter().zip(states).map(|(name, state)| plane(name, *state, Vec::new()));
    group(planes.collect()).pop().unwrap()
}

fn refused(cluster: &Cluster, names: &[&str]) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    require_others(cluster, &names).err().and_then(|error| error.to_string().split(": ").next().map(str::to_owned))
}

#[test]
fn what_stays_has_a_majority() {
    let all = cluster(&[State::Running; 3]);
    assert_eq!(refused(&all, &["dev-control-plane"]), None);
    assert_eq!(refused(&all, &["dev-control-plane", "dev-control-plane3"]), None);
    let none_left = refused(&all, &["dev-control-plane", "dev-control-plane2", "dev-control-plane3"]);
    assert_eq!(none_left.as_deref(), Some("the last control plane cannot be removed"));

    let one_is_down = cluster(&[State::Running, State::Running, State::Exited]);
    assert_eq!(refused(&one_is_down, &["dev-control-plane3"]), None);
    let lost = refused(&one_is_down, &["dev-control-plane2"]);
    assert_eq!(lost.as_deref(), Some("cluster `dev` would lose its API"));
}

#[test]
fn the_control_plane_with_the_port_of_the_host_stays_until_the_load_balancer_has_it() {
    let binding = PortBinding {
        host_address: "127.0.0.1".parse().unwrap(),
        host_port: 40000,
        container_port: API_PORT,
        protocol: Protocol::Tcp,
    };
    let first = plane("dev-control-plane", State::Running, vec![binding]);
    let second = plane("dev-control-plane2", State::Running, Vec::new());
    let half = group(vec![first, second]).pop().unwrap();
    assert_eq!(refused(&half, &["dev-control-plane"]).as_deref(), Some("`dev-control-plane` cannot be removed"));
    assert_eq!(refused(&half, &["dev-control-plane2"]), None);
}

#[test]
fn a_control_plane_that_leaves_is_in_no_list_of_the_load_balancer() {
    let text = "backend a
  server t-control-plane 1:1 track checks/t-control-plane
  server t-control-plane2 2:1
backend checks
  server t-control-plane2 2:1
";
    let left = without(text, &["t-control-plane2".to_owned()]);
    assert_eq!(left, "backend a\n  server t-control-plane 1:1 track checks/t-control-plane\nbackend checks\n");
}

#[test]
fn etcd_lets_go_what_is_lost_and_keeps_a_majority() {
    let (stays, lost, goes, lost_goes) = ((true, false), (false, false), (true, true), (false, true));
    assert!(can_go(&[stays, stays, goes]) && can_go(&[stays, goes, goes]) && can_go(&[stays, stays, lost_goes]));
    assert!(can_go(&[stays, goes, lost_goes]), "the lost one goes first");
    assert!(!can_go(&[stays, goes, lost]));
    assert!(can_go(&[stays, stays, goes, goes, lost]) && !can_go(&[stays, goes, goes, lost]));
}
