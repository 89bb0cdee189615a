//! Network policies with real packets: a node with two pods, and another node with a pod and the outside world.
//!
//! Needs root, `ip` and `nft`: `cargo test -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers and threads too")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Agent, Api, Network, inside, run, until};
use serde_json::{Value, json};

/// Node `a` with the agent; the pods `web` and `client` on it; node `b` with the pod `far`, which is also the outside world.
const NAMESPACES: [&str; 4] = ["t-policy-a", "t-policy-web", "t-policy-client", "t-policy-b"];
const A: &str = NAMESPACES[0];
const WEB: &str = NAMESPACES[1];
const CLIENT: &str = NAMESPACES[2];
const B: &str = NAMESPACES[3];
/// Addresses of the pods.
const WEB_ADDRESSES: [&str; 2] = ["10.244.0.2", "fd00:244::2"];
const CLIENT_ADDRESSES: [&str; 2] = ["10.244.0.3", "fd00:244::3"];
const FAR_ADDRESSES: [&str; 2] = ["10.244.1.1", "fd00:244:0:1::1"];
/// Leads to port 80 of `web`.
const SERVICE: &str = "10.96.0.10:8080";

const PODS: &str = "/api/v1/pods";
const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";

/// The time limit for a connection that passes; any other is dropped and never ends by itself.
const PASS_TIMEOUT: Duration = Duration::from_millis(400);

fn build_network() -> Network {
    let network = Network::new(&NAMESPACES);
    run(&format!("ip link add wan netns {A} type veth peer name wan netns {B}"));
    for (namespace, link, addresses) in [
        (A, "wan", ["172.31.255.1/24", "fd01::1/64"]),
        (B, "wan", ["172.31.255.2/24", "fd01::2/64"]),
        (B, "lo", ["10.244.1.1/32", "fd00:244:0:1::1/128"]),
        (B, "lo", ["203.0.113.1/32", "2001:db8::1/128"]),
    ] {
        configure(namespace, link, addresses);
    }
    run(&format!("ip -n {A} route add default via 172.31.255.2"));
    run(&format!("ip -n {A} -6 route add default via fd01::2"));
    run(&format!("ip -n {B} route add 10.244.0.0/24 via 172.31.255.1"));
    run(&format!("ip -n {B} -6 route add fd00:244::/64 via fd01::1"));
    for (pod, [four, six]) in [(WEB, WEB_ADDRESSES), (CLIENT, CLIENT_ADDRESSES)] {
        add_pod(pod, four, six);
    }
    inside(A, || {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    // What kube-proxy does for a service with `web` behind it.
    let rules = "table ip t {
        chain d { type nat hook prerouting priority -100; ip daddr 10.96.0.10 tcp dport 8080 dnat to 10.244.0.2:80; }
        chain o { type nat hook output priority -100; ip daddr 10.96.0.10 tcp dport 8080 dnat to 10.244.0.2:80; }
        chain p { type nat hook postrouting priority 99; ip saddr 10.244.0.2 ip daddr 10.244.0.2 masquerade; }
    }";
    inside(A, move || {
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
    });
    network
}

fn configure(namespace: &str, link: &str, addresses: [&str; 2]) {
    run(&format!("ip -n {namespace} link set {link} up"));
    for address in addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        run(&format!("ip -n {namespace} address add {address} dev {link} {nodad}"));
    }
}

/// A pod as the plugin `ptp` creates it: all packets go to the node, which has a route for each pod.
fn add_pod(pod: &str, four: &str, six: &str) {
    let link = pod.trim_start_matches("t-policy-");
    run(&format!("ip link add {link} netns {A} type veth peer name eth0 netns {pod}"));
    configure(A, link, ["10.244.0.1/32", "fd00:244::1/128"]);
    configure(pod, "eth0", [&format!("{four}/32"), &format!("{six}/128")]);
    run(&format!("ip -n {A} route add {four} dev {link}"));
    run(&format!("ip -n {A} -6 route add {six} dev {link}"));
    run(&format!("ip -n {pod} route add 10.244.0.1 dev eth0"));
    run(&format!("ip -n {pod} route add default via 10.244.0.1"));
    run(&format!("ip -n {pod} -6 route add fd00:244::1 dev eth0"));
    run(&format!("ip -n {pod} -6 route add default via fd00:244::1"));
}

fn pod(name: &str, node: &str, addresses: &[&str], labels: &Value) -> Value {
    let addresses: Vec<_> = addresses.iter().map(|address| json!({"ip": address})).collect();
    json!({
        "metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"), "labels": labels},
        "spec": {"nodeName": node, "containers": [{"ports": [{"name": "http", "containerPort": 80}]}]},
        "status": {"phase": "Running", "podIPs": addresses},
    })
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"namespace": "default", "name": name}, "spec": spec})
}

fn serve_api() -> Api {
    let api = Api::default();
    let node = |name: &str, subnets: [&str; 2], address: &str| {
        let addresses = json!([{"type": "InternalIP", "address": address}]);
        json!({"metadata": {"name": name}, "spec": {"podCIDRs": subnets}, "status": {"addresses": addresses}})
    };
    api.put("/api/v1/nodes", node("a", ["10.244.0.0/24", "fd00:244::/64"], "172.31.255.1"));
    api.put("/api/v1/nodes", node("b", ["10.244.1.0/24", "fd00:244:0:1::/64"], "172.31.255.2"));
    api.put("/api/v1/namespaces", json!({"metadata": {"name": "default", "labels": {"team": "x"}}}));
    api.put(PODS, pod("web", "a", &WEB_ADDRESSES, &json!({"app": "web"})));
    api.put(PODS, pod("client", "a", &CLIENT_ADDRESSES, &json!({"app": "client"})));
    api.put(PODS, pod("far", "b", &FAR_ADDRESSES, &json!({"app": "far"})));
    api.serve(A);
    api
}

/// Answers all connections to `port` in the namespace, on both families.
fn listen(namespace: &str, port: u16) {
    let listener = inside(namespace, move || TcpListener::bind(("::", port)).unwrap());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            thread::spawn(move || {
                let mut byte = [0];
                while connection.read_exact(&mut byte).is_ok() && connection.write_all(&byte).is_ok() {}
            });
        }
    });
}

/// A connection on which a byte was sent and received.
fn connect(from: &str, to: &str) -> Option<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    inside(from, move || {
        let mut stream = TcpStream::connect_timeout(&to, PASS_TIMEOUT).ok()?;
        echoes(&mut stream).then_some(stream)
    })
}

fn echoes(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PASS_TIMEOUT)).unwrap();
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

/// Each connection, and whether it passes within a second from now.
fn expect(what: &str, connections: &[(&str, &str, bool)]) {
    // A connection that should pass is tried for a second; another one must be dropped from the start.
    let began = Instant::now();
    for (from, to, passes) in connections {
        let mut result = connect(from, to).is_some();
        while result != *passes && began.elapsed() < Duration::from_secs(1) {
            result = connect(from, to).is_some();
        }
        assert_eq!(result, *passes, "{what}: {from} to {to}\n{}", run(&format!("ip netns exec {A} nft list ruleset")));
    }
}

fn has_table() -> bool {
    run(&format!("ip netns exec {A} nft list tables")).contains("coracle-policy")
}

#[test]
#[ignore = "needs root and network namespaces"]
fn policies_hold_for_real_packets() {
    let _network = build_network();
    let api = serve_api();
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::start(A, directory.path());
    for (namespace, port) in [(WEB, 80), (WEB, 81), (CLIENT, 80), (B, 80), (A, 9000)] {
        listen(namespace, port);
    }
    until("the agent is up", 5, || directory.path().join("agent.sock").exists());
    // Links discover their IPv6 neighbours gradually.
    for (from, to) in [(CLIENT, "[fd00:244::2]:80"), (A, "[fd00:244::2]:80"), (B, "[fd00:244::2]:80")] {
        until("the network is up", 10, || connect(from, to).is_some());
    }
    assert!(!has_table(), "nothing blocks packets without a policy");
    let open = [
        (CLIENT, "10.244.0.2:80", true),
        (CLIENT, "[fd00:244::2]:80", true),
        (B, "10.244.0.2:80", true),
        (A, "10.244.0.2:80", true),
        (CLIENT, SERVICE, true),
        (WEB, SERVICE, true),
    ];
    expect("no policy", &open);

    incoming(&api);
    outgoing(&api);
    named_and_blocks(&api);
    restart(&api, directory.path(), agent);
}

fn incoming(api: &Api) {
    let mut established = connect(CLIENT, SERVICE).unwrap();
    let deny = policy("deny", &json!({"podSelector": {"matchLabels": {"app": "web"}}}));
    api.put(POLICIES, deny.clone());
    expect(
        "deny all",
        &[
            (CLIENT, "10.244.0.2:80", false),
            (CLIENT, "[fd00:244::2]:80", false),
            (CLIENT, SERVICE, false),
            (B, "10.244.0.2:80", false),
            // The node's probes, the pod itself, what the pod starts, and other pods.
            (A, "10.244.0.2:80", true),
            (A, "[fd00:244::2]:80", true),
            (A, SERVICE, true),
            (WEB, SERVICE, true),
            (WEB, "10.244.0.3:80", true),
            (WEB, "203.0.113.1:80", true),
            (B, "10.244.0.3:80", true),
        ],
    );
    assert!(!echoes(&mut established), "a connection from before the policy is cut");

    let from = |app: &str| {
        let peer = json!({"podSelector": {"matchLabels": {"app": app}}});
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [peer]}]})
    };
    api.put(POLICIES, policy("allow-client", &from("client")));
    expect(
        "two policies add up",
        &[
            (CLIENT, "10.244.0.2:80", true),
            (CLIENT, "[fd00:244::2]:80", true),
            (CLIENT, SERVICE, true),
            (B, "10.244.0.2:80", false),
        ],
    );
    let mut established = connect(CLIENT, "10.244.0.2:80").unwrap();
    // The pod loses the label, and gets it back.
    api.put(PODS, pod("client", "a", &CLIENT_ADDRESSES, &json!({"app": "former"})));
    expect("another label", &[(CLIENT, "10.244.0.2:80", false)]);
    assert!(!echoes(&mut established));
    api.put(PODS, pod("client", "a", &CLIENT_ADDRESSES, &json!({"app": "client"})));
    expect("the label again", &[(CLIENT, "10.244.0.2:80", true)]);
    api.put(POLICIES, policy("allow-client", &json!({"podSelector": {}, "ingress": [{}]})));
    expect("a policy changes", &[(B, "10.244.0.2:80", true)]);
    api.delete(POLICIES, policy("allow-client", &json!({})));
    expect("a policy is removed", &[(B, "10.244.0.2:80", false), (CLIENT, "10.244.0.2:80", false)]);
    api.delete(POLICIES, deny);
    until("the last policy is removed, and the table with it", 1, || !has_table());
    expect("no policy any longer", &[(B, "10.244.0.2:80", true)]);
}

fn outgoing(api: &Api) {
    let mut to_node = connect(CLIENT, "10.244.0.1:9000").unwrap();
    let mut from_node = connect(A, "10.244.0.3:80").unwrap();
    let client = json!({"matchLabels": {"app": "client"}});
    let spec = |egress: Value| json!({"podSelector": client, "policyTypes": ["Egress"], "egress": egress});
    api.put(POLICIES, policy("out", &spec(json!([]))));
    expect(
        "nothing goes out",
        &[
            (CLIENT, "10.244.0.2:80", false),
            (CLIENT, SERVICE, false),
            (CLIENT, "203.0.113.1:80", false),
            (CLIENT, "[2001:db8::1]:80", false),
            (CLIENT, "10.244.0.1:9000", false),
            (A, "10.244.0.3:80", true),
            (WEB, "10.244.0.3:80", true),
            (WEB, "203.0.113.1:80", true),
        ],
    );
    assert!(!echoes(&mut to_node), "not to its own node either");
    assert!(echoes(&mut from_node), "answers go out");
    let rule = json!([{"to": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}], "ports": [{"port": 80}]}]);
    api.put(POLICIES, policy("out", &spec(rule)));
    expect(
        "to a port of pods, also through a service",
        &[
            (CLIENT, "10.244.0.2:80", true),
            (CLIENT, "[fd00:244::2]:80", true),
            (CLIENT, SERVICE, true),
            (CLIENT, "10.244.1.1:80", true),
            (CLIENT, "10.244.0.2:81", false),
            (CLIENT, "203.0.113.1:80", false),
        ],
    );
    api.delete(POLICIES, policy("out", &json!({})));
    expect("everything goes out", &[(CLIENT, "203.0.113.1:80", true)]);
}

fn named_and_blocks(api: &Api) {
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
        {"ports": [{"port": "http"}], "from": [{"podSelector": {}}]},
        {"ports": [{"port": 81, "endPort": 90}], "from": [{"ipBlock": {"cidr": "172.31.0.0/16", "except": ["172.31.9.0/24"]}}]},
        {"ports": [{"port": 81, "protocol": "SCTP"}]},
    ]});
    api.put(POLICIES, policy("mixed", &spec));
    expect(
        "a named port, a range and a block",
        &[
            (CLIENT, "10.244.0.2:80", true),
            (CLIENT, "[fd00:244::2]:80", true),
            (CLIENT, "10.244.0.2:81", false),
            // From b's own address, which is in the block.
            (B, "10.244.0.2:81", true),
            (B, "10.244.0.2:80", false),
        ],
    );
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
        {"from": [{"ipBlock": {"cidr": "172.31.0.0/16", "except": ["172.31.255.0/24"]}}]},
    ]});
    api.put(POLICIES, policy("mixed", &spec));
    expect("the exception of a block", &[(B, "10.244.0.2:81", false), (B, "10.244.0.2:80", false)]);
    api.delete(POLICIES, policy("mixed", &json!({})));
    expect("no policy", &[(B, "10.244.0.2:80", true)]);
}

/// Calls the plugin for a pod, as a container runtime does.
fn plugin(directory: &Path, command: &str, name: &str, container: &str, addresses: [&str; 2]) -> Child {
    let ips: Vec<_> = addresses.iter().map(|address| json!({"address": format!("{address}/32")})).collect();
    let input = json!({
        "cniVersion": "0.4.0", "name": "coracle", "type": "coracle-policy", "runDirectory": directory,
        "prevResult": {"cniVersion": "0.4.0", "ips": ips},
    });
    let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID=uid-{name}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_coracle-agent"))
        .env("CNI_COMMAND", command)
        .env("CNI_ARGS", arguments)
        .env("CNI_CONTAINERID", container)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    child
}

fn succeeds(mut child: Child) -> bool {
    child.wait().unwrap().success()
}

fn restart(api: &Api, directory: &Path, agent: Agent) {
    // Without a policy a pod starts at once, known or not.
    assert!(succeeds(plugin(directory, "ADD", "early", "c0", ["10.244.0.99", "fd00:244::99"])));
    let all = policy("deny", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    api.put(POLICIES, all.clone());
    expect("deny all", &[(CLIENT, "10.244.0.2:80", false)]);

    // `web` is replaced by another pod with the same address, which the API does not know yet.
    api.delete(PODS, pod("web", "a", &[], &json!({})));
    expect("an address without a pod", &[(B, "10.244.0.2:80", true)]);
    let mut added = plugin(directory, "ADD", "new", "c1", WEB_ADDRESSES);
    thread::sleep(Duration::from_millis(500));
    assert!(added.try_wait().unwrap().is_none(), "the pod waits until the agent knows it");
    api.put(PODS, pod("new", "a", &[], &json!({"app": "new"})));
    until("the pod may start", 1, || added.try_wait().unwrap().is_some());
    assert!(connect(B, "10.244.0.2:80").is_none(), "its rules were there before it started");
    assert!(connect(WEB, "203.0.113.1:80").is_none());

    drop(agent);
    expect("the agent was killed", &[(CLIENT, "10.244.0.2:80", false), (A, "10.244.0.2:80", true)]);
    let mut waiting = plugin(directory, "ADD", "later", "c2", ["10.244.0.98", "fd00:244::98"]);
    thread::sleep(Duration::from_millis(500));
    assert!(waiting.try_wait().unwrap().is_none(), "no pod starts without the agent");
    api.put(PODS, pod("later", "a", &[], &json!({})));

    // The next agent knows the address from the plugin, and takes over without a gap.
    let tries = thread::spawn(|| (0..6).filter(|_| connect(B, "10.244.0.2:80").is_some()).count());
    let agent = Agent::start(A, directory);
    until("the pod that waited starts", 5, || waiting.try_wait().unwrap().is_some());
    assert!(waiting.wait().unwrap().success());
    assert_eq!(tries.join().unwrap(), 0, "the new agent's rules replace the old ones at once");

    assert!(succeeds(plugin(directory, "DEL", "new", "c1", WEB_ADDRESSES)));
    expect("a removed sandbox", &[(B, "10.244.0.2:80", true)]);
    api.delete(POLICIES, all);
    until("the last policy is removed", 1, || !has_table());
    agent.terminate();
}
