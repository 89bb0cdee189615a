//! The agent in real network namespaces with an API server of a few lines: two nodes, a pod and the outside world.
//!
//! Needs root, `ip` and `nft`: `cargo test -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers and threads too")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{Agent, Api, Network, inside, run, until};
use serde_json::{Value, json};

/// Node `a`, where the agent runs; node `b`, which is also the outside world; a pod of `a`.
const NAMESPACES: [&str; 3] = ["t-agent-a", "t-agent-b", "t-agent-pod"];
/// A pod's network before it has an interface.
const NEW_POD: &str = "t-agent-new";
const NODES: &str = "/api/v1/nodes";

fn node(name: &str, pod_cidrs: &[&str], addresses: &[&str]) -> Value {
    let addresses: Vec<_> = addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    json!({"metadata": {"name": name}, "spec": {"podCIDRs": pod_cidrs}, "status": {"addresses": addresses}})
}

fn node_b(address: &str) -> Value {
    node("b", &["10.244.1.0/24", "fd00:244:0:1::/64"], &[address, "fd01::2"])
}

fn build_network() -> Network {
    let network = Network::new(&NAMESPACES);
    let [a, b, pod] = NAMESPACES;
    run(&format!("ip link add wan netns {a} mtu 1400 type veth peer name wan netns {b} mtu 1400"));
    run(&format!("ip link add pod netns {a} type veth peer name wan netns {pod}"));
    for (namespace, link, addresses) in [
        (a, "wan", &["172.31.255.1/24", "fd01::1/64"]),
        (b, "wan", &["172.31.255.2/24", "fd01::2/64"]),
        (a, "pod", &["10.244.0.1/24", "fd00:244::1/64"]),
        (pod, "wan", &["10.244.0.2/24", "fd00:244::2/64"]),
        (b, "lo", &["10.244.1.1/32", "fd00:244:0:1::1/128"]),
        (b, "lo", &["203.0.113.1/32", "2001:db8::1/128"]),
        (b, "lo", &["10.96.0.9/32", "fd00:96::9/128"]),
    ] {
        run(&format!("ip -n {namespace} link set {link} up"));
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            run(&format!("ip -n {namespace} address add {address} dev {link} {nodad}"));
        }
    }
    run(&format!("ip -n {a} route add default via 172.31.255.2"));
    run(&format!("ip -n {a} -6 route add default via fd01::2"));
    run(&format!("ip -n {pod} route add default via 10.244.0.1"));
    run(&format!("ip -n {pod} -6 route add default via fd00:244::1"));
    run(&format!("ip -n {b} route add 10.244.0.0/24 via 172.31.255.1"));
    run(&format!("ip -n {b} -6 route add fd00:244::/64 via fd01::1"));
    inside(a, || {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    network
}

fn own_routes() -> String {
    let a = NAMESPACES[0];
    run(&format!("ip -n {a} route show proto 118")) + &run(&format!("ip -n {a} -6 route show proto 118"))
}

/// Connects from the pod to `address` in `b` and returns the address that `b` sees.
fn source_seen_at(address: &'static str) -> String {
    let address: SocketAddr = address.parse().unwrap();
    let listener = inside(NAMESPACES[1], move || TcpListener::bind(address).unwrap());
    let client = inside(NAMESPACES[2], move || TcpStream::connect_timeout(&address, Duration::from_secs(3)));
    let mut client = client.unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    server.write_all(b"hello").unwrap();
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    peer.ip().to_string()
}

/// Whether the pod, or the node itself, gets an answer at an address that `b` also has.
fn is_answered_at(address: &'static str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    let _listener = inside(NAMESPACES[1], move || TcpListener::bind(address).unwrap());
    let connect = move || TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok();
    [NAMESPACES[2], NAMESPACES[0]].into_iter().any(|namespace| inside(namespace, connect))
}

#[test]
#[ignore = "needs root and network namespaces"]
fn pods_reach_other_nodes_as_themselves_and_the_world_as_their_node() {
    let _network = build_network();
    let a = NAMESPACES[0];
    // The first one is not the agent's and must stay; the second one is that of an earlier agent for a removed node.
    run(&format!("ip -n {a} route add 10.99.0.0/24 via 172.31.255.2"));
    run(&format!("ip -n {a} route add 10.244.7.0/24 via 172.31.255.2 proto 118"));
    let directory = tempfile::tempdir().unwrap();
    // The IPv6 addresses of a new link become usable after a while.
    until("the address is reachable", 5, || is_answered_at("10.96.0.9:9000") && is_answered_at("[fd00:96::9]:9000"));
    let agent = Agent::start(a, directory.path());
    // The API starts after the agent.
    thread::sleep(Duration::from_millis(500));
    let api = Api::default();
    api.put(NODES, node("a", &["10.244.0.0/24", "fd00:244::/64"], &["172.31.255.1", "fd01::1"]));
    api.put(NODES, node_b("172.31.255.2"));
    api.serve(a);
    until("routes to b", 5, || {
        let routes = own_routes();
        routes.contains("10.244.1.0/24 via 172.31.255.2 ") && routes.contains("fd00:244:0:1::/64 via fd01::2 ")
    });
    until("the stale route is removed", 2, || !own_routes().contains("10.244.7.0/24"));
    assert_eq!(own_routes().lines().count(), 2, "{}", own_routes());
    assert!(run(&format!("ip -n {a} route")).contains("10.99.0.0/24"));

    assert_eq!(source_seen_at("10.244.1.1:9000"), "10.244.0.2");
    assert_eq!(source_seen_at("203.0.113.1:9000"), "172.31.255.1");
    assert_eq!(source_seen_at("[fd00:244:0:1::1]:9000"), "fd00:244::2");
    assert_eq!(source_seen_at("[2001:db8::1]:9000"), "fd01::1");

    // Nothing has translated these addresses of services, so they have no endpoints.
    assert!(!is_answered_at("10.96.0.9:9001") && !is_answered_at("[fd00:96::9]:9001"));

    let cni = fs::read_to_string(directory.path().join("10-coracle.conflist")).unwrap();
    assert!(cni.contains("\"10.244.0.0/24\"") && cni.contains("\"fd00:244::/64\"") && cni.contains("\"mtu\": 1400"));

    // By an event, not by the regular check every 10 s.
    run(&format!("ip -n {a} route del 10.244.1.0/24 proto 118"));
    until("the route is back", 3, || own_routes().contains("10.244.1.0/24"));

    agent.terminate();
    assert_eq!(own_routes().lines().count(), 2, "an agent that ends leaves the routes");
    assert_eq!(source_seen_at("203.0.113.1:9001"), "172.31.255.1", "and the masquerading");

    let agent = Agent::start(a, directory.path());
    api.put(NODES, node_b("172.31.255.9"));
    until("the route follows the node's address", 5, || own_routes().contains("10.244.1.0/24 via 172.31.255.9 "));
    api.delete(NODES, node_b("172.31.255.9"));
    until("routes to the removed node are removed", 5, || own_routes().is_empty());
    assert!(run(&format!("ip -n {a} route")).contains("10.99.0.0/24"));
    agent.terminate();
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_new_pods_ipv6_address_is_usable_at_once() {
    let _network = Network::new(&[NEW_POD]);
    let input = json!({"cniVersion": "0.4.0", "name": "coracle", "type": "coracle-ipv6"});
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_coracle-agent"))
        .env("CNI_COMMAND", "ADD")
        .env("CNI_NETNS", format!("/var/run/netns/{NEW_POD}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    plugin.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = plugin.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result, json!({"cniVersion": "0.4.0", "interfaces": [], "ips": []}));
    run(&format!("ip -n {NEW_POD} link add eth0 type veth peer name other"));
    for command in ["link set other up", "address add fd00:244::9/64 dev eth0", "link set eth0 up"] {
        run(&format!("ip -n {NEW_POD} {command}"));
    }
    let addresses = run(&format!("ip -n {NEW_POD} -6 address show dev eth0"));
    assert!(addresses.contains("fd00:244::9/64") && !addresses.contains("tentative"), "{addresses}");
}
