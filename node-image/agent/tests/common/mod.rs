//! Network namespaces, an agent in one of them, and an API server of a few lines.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers and threads too")]
#![allow(dead_code, reason = "not every test needs every helper")]
#![allow(unreachable_pub)]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

const ADDRESS: &str = "127.0.0.1:8001";

/// Network namespaces, removed at the end, even if the test fails.
pub struct Network(&'static [&'static str]);

impl Network {
    pub fn new(namespaces: &'static [&'static str]) -> Self {
        let network = Self(namespaces);
        network.remove();
        for namespace in namespaces {
            run(&format!("ip netns add {namespace}"));
            run(&format!("ip -n {namespace} link set lo up"));
        }
        network
    }

    fn remove(&self) {
        for namespace in self.0 {
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Ends the agent, even if the test fails.
pub struct Agent(Child);

impl Agent {
    /// Starts the agent of node `a` in a namespace; `directory` is for its CNI configuration and its socket.
    pub fn start(namespace: &str, directory: &Path) -> Self {
        let agent = Command::new("ip")
            .args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_coracle-agent")])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NODE_NAME", "a")
            .env("POD_SUBNETS", "10.244.0.0/16,fd00:244::/56")
            .env("SERVICE_SUBNETS", "10.96.0.0/16,fd00:96::/112")
            .env("CONTROL_PLANE_ENDPOINT", format!("http://{ADDRESS}"))
            .env("CNI_DIRECTORY", directory)
            .env("RUN_DIRECTORY", directory)
            .spawn();
        Self(agent.unwrap())
    }

    /// Ends it as Kubernetes does.
    pub fn terminate(mut self) {
        run(&format!("kill -TERM {}", self.0.id()));
        until("the agent ends", 3, || self.0.try_wait().unwrap().is_some_and(|status| status.success()));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command line and returns its output; it must succeed.
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `work` on a thread in the namespace; its sockets belong to that namespace.
pub fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    let thread = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread.join().unwrap()
}

pub fn until(what: &str, seconds: u64, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !met() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// An API server: a history of all changes; a list is their sum, and a watch is the rest.
#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<Vec<Change>>>);

struct Change {
    path: &'static str,
    kind: &'static str,
    object: Value,
}

impl Api {
    /// Serves in a namespace from now on; the first answer has everything that was put before.
    pub fn serve(&self, namespace: &str) {
        let listener = inside(namespace, || TcpListener::bind(ADDRESS).unwrap());
        let api = self.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let api = api.clone();
                thread::spawn(move || api.answer(&connection.unwrap()));
            }
        });
    }

    /// Adds an object, or replaces the one of the same name.
    pub fn put(&self, path: &'static str, object: Value) {
        let mut history = self.0.lock().unwrap();
        let kind = if items(&history, path).iter().any(|there| is_same(there, &object)) { "MODIFIED" } else { "ADDED" };
        history.push(Change { path, kind, object });
    }

    pub fn delete(&self, path: &'static str, object: Value) {
        self.0.lock().unwrap().push(Change { path, kind: "DELETED", object });
    }

    fn answer(&self, mut connection: &TcpStream) {
        let mut reader = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
        let Some(target) = head.strip_prefix("GET ").and_then(|rest| rest.split(' ').next()) else { return };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parameter = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        if parameter("watch").is_none() {
            let list = self.list(path);
            let length = list.len();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
            let _ = write!(connection, "{head} {length}\r\n\r\n{list}");
            return;
        }
        let mut sent: usize = parameter("resourceVersion").unwrap().parse().unwrap();
        let _ = write!(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        loop {
            for event in self.events(path, &mut sent) {
                if write!(connection, "{:x}\r\n{event}\n\r\n", event.len() + 1).is_err() {
                    return;
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn list(&self, path: &str) -> String {
        let history = self.0.lock().unwrap();
        let version = history.len().to_string();
        json!({"kind": "List", "metadata": {"resourceVersion": version}, "items": items(&history, path)}).to_string()
    }

    fn events(&self, path: &str, sent: &mut usize) -> Vec<String> {
        let history = self.0.lock().unwrap();
        let mut events = Vec::new();
        for (index, change) in history.iter().enumerate().skip(*sent).filter(|(_, change)| change.path == path) {
            let mut object = change.object.clone();
            object["metadata"]["resourceVersion"] = json!((index + 1).to_string());
            events.push(json!({"type": change.kind, "object": object}).to_string());
        }
        *sent = history.len();
        events
    }
}

fn items(history: &[Change], path: &str) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    for change in history.iter().filter(|change| change.path == path) {
        items.retain(|item| !is_same(item, &change.object));
        if change.kind != "DELETED" {
            items.push(change.object.clone());
        }
    }
    items
}

fn is_same(one: &Value, other: &Value) -> bool {
    ["namespace", "name"].iter().all(|field| one["metadata"][field] == other["metadata"][field])
}
