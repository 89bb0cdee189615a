//! The agent in real network namespaces against an API server of a few lines: two nodes, a pod and the world outside.
//!
//! Needs root, `ip` and `nft`: `cargo test -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers and threads too")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// Node `a`, where the agent runs; node `b`, which is the world outside as well; a pod of `a`.
const NAMESPACES: [&str; 3] = ["t-agent-a", "t-agent-b", "t-agent-pod"];
const API: &str = "127.0.0.1:8001";
const NODE_A: &str = r#"{"metadata":{"name":"a","resourceVersion":"1"},"spec":{"podCIDRs":["10.244.0.0/24","fd00:244::/64"]},
    "status":{"addresses":[{"type":"InternalIP","address":"172.31.255.1"},{"type":"InternalIP","address":"fd01::1"}]}}"#;
const NODE_B: &str = r#"{"metadata":{"name":"b","resourceVersion":"2"},"spec":{"podCIDRs":["10.244.1.0/24","fd00:244:0:1::/64"]},
    "status":{"addresses":[{"type":"InternalIP","address":"172.31.255.2"},{"type":"InternalIP","address":"fd01::2"}]}}"#;

/// Removes the namespaces, also when the test fails.
struct Network;

impl Drop for Network {
    fn drop(&mut self) {
        remove_namespaces();
    }
}

fn remove_namespaces() {
    for namespace in NAMESPACES {
        let _ = Command::new("ip").args(["netns", "del", namespace]).output();
    }
}

/// Ends the agent, also when the test fails.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command line and returns its output; it must succeed.
fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `work` on a thread in the namespace; sockets that it makes belong to there.
fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    let thread = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread.join().unwrap()
}

fn until(what: &str, seconds: u64, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !met() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn build_network() -> Network {
    remove_namespaces();
    let network = Network;
    for namespace in NAMESPACES {
        run(&format!("ip netns add {namespace}"));
        run(&format!("ip -n {namespace} link set lo up"));
    }
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

/// What each watch sends, from the first on.
type Events = Arc<Mutex<Vec<String>>>;

/// An API server in node `a`: lists both nodes, and then sends the events.
fn serve_api() -> Events {
    let events = Events::default();
    let listener = inside(NAMESPACES[0], || TcpListener::bind(API).unwrap());
    let served = Arc::clone(&events);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let events = Arc::clone(&served);
            thread::spawn(move || answer(connection.unwrap(), &events));
        }
    });
    events
}

fn send(events: &Events, kind: &str, node: &str) {
    let event = format!(r#"{{"type":"{kind}","object":{node}}}"#).replace('\n', " ");
    events.lock().unwrap().push(event);
}

fn answer(mut connection: TcpStream, events: &Events) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
    assert!(head.starts_with("GET /api/v1/nodes?"), "{head}");
    if head.contains("watch=true") {
        write!(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let mut sent = 0;
        loop {
            for event in events.lock().unwrap().iter().skip(sent) {
                sent += 1;
                if write!(connection, "{:x}\r\n{event}\n\r\n", event.len() + 1).is_err() {
                    return;
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    } else {
        let list = format!(r#"{{"kind":"NodeList","metadata":{{"resourceVersion":"3"}},"items":[{NODE_A},{NODE_B}]}}"#);
        let length = list.len();
        write!(connection, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{list}").unwrap();
    }
}

fn start_agent(cni: &std::path::Path) -> Agent {
    let agent = Command::new("ip")
        .args(["netns", "exec", NAMESPACES[0], env!("CARGO_BIN_EXE_coracle-agent")])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("NODE_NAME", "a")
        .env("POD_SUBNETS", "10.244.0.0/16,fd00:244::/56")
        .env("CONTROL_PLANE_ENDPOINT", format!("http://{API}"))
        .env("CNI_DIRECTORY", cni)
        .spawn();
    Agent(agent.unwrap())
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

fn terminate(mut agent: Agent) {
    run(&format!("kill -TERM {}", agent.0.id()));
    until("the agent ends", 3, || agent.0.try_wait().unwrap().is_some_and(|status| status.success()));
}

#[test]
#[ignore = "needs root and network namespaces"]
fn pods_reach_other_nodes_as_themselves_and_the_world_as_their_node() {
    let _network = build_network();
    let a = NAMESPACES[0];
    // Not the agent's: must stay. An earlier agent's, for a node that went meanwhile: must go.
    run(&format!("ip -n {a} route add 10.99.0.0/24 via 172.31.255.2"));
    run(&format!("ip -n {a} route add 10.244.7.0/24 via 172.31.255.2 proto 118"));
    let directory = tempfile::tempdir().unwrap();
    let agent = start_agent(directory.path());
    // The API comes up later than the agent.
    thread::sleep(Duration::from_millis(500));
    let events = serve_api();
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

    let cni = fs::read_to_string(directory.path().join("10-coracle.conflist")).unwrap();
    assert!(cni.contains("\"10.244.0.0/24\"") && cni.contains("\"fd00:244::/64\"") && cni.contains("\"mtu\": 1400"));

    // By an event and not by the regular look, which is every 10 s.
    run(&format!("ip -n {a} route del 10.244.1.0/24 proto 118"));
    until("the route is back", 3, || own_routes().contains("10.244.1.0/24"));

    terminate(agent);
    assert_eq!(own_routes().lines().count(), 2, "an agent that ends leaves the routes");
    assert_eq!(source_seen_at("203.0.113.1:9001"), "172.31.255.1", "and the masquerading");

    let agent = start_agent(directory.path());
    let moved = NODE_B.replace("172.31.255.2", "172.31.255.9").replace("\"2\"", "\"4\"");
    send(&events, "MODIFIED", &moved);
    until("the route follows the node's address", 5, || own_routes().contains("10.244.1.0/24 via 172.31.255.9 "));
    send(&events, "DELETED", NODE_B);
    until("routes to the node that went are removed", 5, || own_routes().is_empty());
    assert!(run(&format!("ip -n {a} route")).contains("10.99.0.0/24"));
    terminate(agent);
}
