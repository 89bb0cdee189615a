//! Services of the type `LoadBalancer`: who gets which address, and who answers for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Group;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, fetch};
use crate::harness::run::{LIMIT, contains, docker, ensure, eventually, run};

use super::{guarded, health, nodes, ports};

/// Services with addresses, on one control plane and two workers.
pub(crate) const LOAD_BALANCER: Group = Group {
    name: "balancer",
    environment: &[],
    create: nodes::create_three,
    together: &[],
    scenarios: &[
        ("answers", answers),
        ("local", local),
        ("urls", health::urls),
        ("allocation", allocation),
        ("documentation", documentation),
        ("agent-restart", agent_restart),
        ("forged-heartbeats", guarded::forged_heartbeats),
        ("tunnel", ports::tunnel),
        ("cost", cost),
        ("ports", ports::added),
        ("node-lost", node_lost),
        ("delete", nodes::delete),
    ],
};

/// How soon another node answers when one is lost.
const TAKEOVER: Duration = Duration::from_secs(5);

/// A pod on each worker; answers `NODE CLIENT` on TCP 8080 and UDP 5353.
const ECHO: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: echo
          image: hello-world:latest
          imagePullPolicy: IfNotPresent
          env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
          command: [python3, -c]
          args:
            - |
              import http.server, os, socket, threading
              node = os.environ['NODE']
              class Handler(http.server.BaseHTTPRequestHandler):
                  def do_GET(self):
                      self.send_response(200)
                      self.end_headers()
                      self.wfile.write(f'{node} {self.client_address[0]}'.encode())
                  def log_message(self, *_): pass
              def echo():
                  server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                  server.bind(('0.0.0.0', 5353))
                  while True:
                      data, client = server.recvfrom(512)
                      server.sendto(f'{node} {client[0]}'.encode(), client)
              threading.Thread(target=echo, daemon=True).start()
              http.server.ThreadingHTTPServer(('0.0.0.0', 8080), Handler).serve_forever()
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: LoadBalancer
  selector: {app: echo}
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: dns, port: 53, targetPort: 5353, protocol: UDP}
";

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, selector: {{app: echo}}, \
         ports: [{{port: 80, targetPort: 8080}}]{spec}}}\n"
    )
}

fn status(cluster: &Cluster, name: &str) -> Result<String, String> {
    cluster.kubectl(&["get", "service", name, "--output=jsonpath={.status.loadBalancer.ingress[*].ip}"])
}

/// The address of a service, once it has one.
fn address(cluster: &Cluster, name: &str) -> Result<String, String> {
    eventually(EVENTUALLY_TIMEOUT, || {
        let address = status(cluster, name)?;
        ensure(!address.is_empty(), || format!("service {name} has no address"))?;
        Ok(address)
    })
}

/// Whether a node's link has the address.
fn has(node: &str, address: &str) -> Result<bool, String> {
    Ok(docker(&["exec", node, "ip", "-oneline", "address", "show"])?.contains(&format!(" {address}/32 ")))
}

/// The nodes that have the address; exactly one in the end.
fn owner(cluster: &Cluster, address: &str) -> Result<String, String> {
    eventually(EVENTUALLY_TIMEOUT, || {
        let all = ["control-plane", "worker", "worker2"].map(|node| format!("{}-{node}", cluster.name));
        let mut owners = Vec::new();
        for node in all {
            // A node that is stopped has nothing.
            if has(&node, address).unwrap_or(false) {
                owners.push(node);
            }
        }
        match owners.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err(format!("{address} is on {owners:?}")),
        }
    })
}

/// What a datagram is answered with.
pub(super) fn udp(address: &str) -> Result<String, String> {
    let text = |error: std::io::Error| format!("udp {address}: {error}");
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(text)?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).map_err(text)?;
    socket.send_to(b"hello", address).map_err(text)?;
    let mut answer = [0; 512];
    let (length, from) = socket.recv_from(&mut answer).map_err(text)?;
    ensure(from.to_string() == address, || format!("{from} answered instead of {address}"))?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

fn cluster_node(cluster: &Cluster, name: &str) -> String {
    format!("{}-{name}", cluster.name)
}

/// TCP and UDP answer from this host, another node and a pod; ports follow a change.
pub(super) fn answers(cluster: &Cluster) -> Result<(), String> {
    super::hello::build()?;
    cluster.coracle(&["load", "docker-image", super::hello::IMAGE])?;
    cluster.apply(ECHO)?;
    cluster.kubectl(&["rollout", "status", "daemonset/echo", "--timeout=100s"])?;
    let address = address(cluster, "echo")?;
    let page = eventually(EVENTUALLY_TIMEOUT, || fetch(&format!("http://{address}:80/")))?;
    contains(&page, &cluster.name)?;
    contains(&eventually(EVENTUALLY_TIMEOUT, || udp(&format!("{address}:53")))?, &cluster.name)?;
    let owner = owner(cluster, &address)?;
    ensure(owner != cluster.node(), || "the control plane answers".to_owned())?;
    for node in ["control-plane", "worker", "worker2"] {
        let command = ["exec", &cluster_node(cluster, node), "curl", "-s", "-m", "5", &format!("http://{address}:80/")];
        contains(&docker(&command)?, &cluster.name)?;
    }
    let tcp = format!(
        "import urllib.request; print(urllib.request.urlopen('http://{address}:80/', timeout=5).read().decode())"
    );
    // The rules of that pod's node may come a moment later than those of the node that was asked before.
    eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.python("daemonset/echo", &tcp)?, &cluster.name))?;
    let datagram = format!(
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); \
         s.sendto(b'x', ('{address}', 53)); print(s.recv(512).decode())"
    );
    contains(&cluster.python("daemonset/echo", &datagram)?, &cluster.name)?;
    let mode =
        cluster.kubectl(&["get", "service", "echo", "--output=jsonpath={.status.loadBalancer.ingress[0].ipMode}"])?;
    ensure(mode == "VIP", || format!("the ipMode is {mode}"))?;
    let url = cluster.coracle(&["url", "echo"])?;
    contains(&url, &format!("http://{address}:80"))?;
    let patch = r#"[{"op": "replace", "path": "/spec/ports/0/port", "value": 8000}]"#;
    cluster.kubectl(&["patch", "service", "echo", "--type=json", "--patch", patch])?;
    eventually(EVENTUALLY_TIMEOUT, || fetch(&format!("http://{address}:8000/")))?;
    eventually(EVENTUALLY_TIMEOUT, || {
        ensure(fetch(&format!("http://{address}:80/")).is_err(), || "the old port still answers".to_owned())
    })?;
    ensure(status(cluster, "echo")? == address, || "the address changed with the port".to_owned())
}

/// `Local`: the client's address is kept, and only a node with an endpoint answers. Without node ports it works as well.
pub(super) fn local(cluster: &Cluster) -> Result<(), String> {
    cluster.apply(&service("near", ", externalTrafficPolicy: Local, allocateLoadBalancerNodePorts: false"))?;
    let address = address(cluster, "near")?;
    let page = eventually(EVENTUALLY_TIMEOUT, || fetch(&format!("http://{address}:80/")))?;
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let host = docker(&["network", "inspect", "--format", format, &format!("coracle-{}", cluster.name)])?;
    let before = owner(cluster, &address)?;
    ensure(page == format!("{before} {}", host.trim()), || format!("{before} answered `{page}` to {}", host.trim()))?;
    let port = cluster.kubectl(&["get", "service", "near", "--output=jsonpath={.spec.ports[0].nodePort}"])?;
    ensure(port.is_empty(), || format!("it has the node port {port}"))?;
    // The pod leaves the node, and the address follows the pods.
    cluster.kubectl(&["label", "node", &before, "echo=no"])?;
    let affinity = r#"{"spec":{"template":{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms":[{"matchExpressions":[{"key":"echo","operator":"DoesNotExist"}]}]}}}}}}}"#;
    cluster.kubectl(&["patch", "daemonset", "echo", "--patch", affinity])?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let page = fetch(&format!("http://{address}:80/"))?;
        ensure(!page.starts_with(&format!("{before} ")) && page.ends_with(host.trim()), || format!("it answers {page}"))
    })?;
    let after = owner(cluster, &address)?;
    ensure(after != before, || format!("{after} still has the address"))?;
    cluster.kubectl(&["label", "node", &before, "echo-"])?;
    cluster.kubectl(&["rollout", "status", "daemonset/echo", "--timeout=100s"])?;
    cluster.kubectl(&["delete", "service", "near"]).map(drop)
}

/// Classes, requested addresses, and what becomes of an address.
pub(super) fn allocation(cluster: &Cluster) -> Result<(), String> {
    let taken = address(cluster, "echo")?;
    cluster.apply(&service("ours", ", loadBalancerClass: coracle.dev/load-balancer"))?;
    cluster.apply(&service("other", ", loadBalancerClass: example.com/other"))?;
    cluster.apply(&service("waiting", &format!(", loadBalancerIP: {taken}")))?;
    let ours = address(cluster, "ours")?;
    ensure(ours != taken, || format!("{ours} was given twice"))?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let event =
            ["get", "events", "--field-selector=involvedObject.name=waiting", "--output=jsonpath={.items[*].message}"];
        contains(&cluster.kubectl(&event)?, &format!("loadBalancerIP {taken} is in use by default/echo"))
    })?;
    for name in ["other", "waiting"] {
        let address = status(cluster, name)?;
        ensure(address.is_empty(), || format!("service {name} has {address}"))?;
    }
    // An address that is free again goes to who waits for it; the type decides.
    cluster.kubectl(&["patch", "service", "echo", "--patch", r#"{"spec": {"type": "ClusterIP"}}"#])?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let (old, new) = (status(cluster, "echo")?, status(cluster, "waiting")?);
        ensure(old.is_empty() && new == taken, || format!("echo has `{old}`, waiting has `{new}`"))
    })?;
    eventually(EVENTUALLY_TIMEOUT, || contains(&fetch(&format!("http://{taken}:80/"))?, &cluster.name))?;
    cluster.kubectl(&["delete", "service", "waiting", "ours", "other"])?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let there = ["worker", "worker2"].map(|node| has(&cluster_node(cluster, node), &taken));
        ensure(there == [Ok(false), Ok(false)], || format!("{taken} is still there: {there:?}"))
    })?;
    // kube-proxy takes its rules away a moment later.
    eventually(EVENTUALLY_TIMEOUT, || {
        ensure(fetch(&format!("http://{taken}:80/")).is_err(), || format!("{taken} still answers"))
    })?;
    cluster.kubectl(&["patch", "service", "echo", "--patch", r#"{"spec": {"type": "LoadBalancer"}}"#])?;
    ensure(address(cluster, "echo")? == taken, || "the lowest address was not given again".to_owned())
}

/// The longest time without an answer from `began` on, watched until well after another node has taken over.
fn gap(address: &str, began: Instant) -> Result<Duration, String> {
    let parsed = format!("{address}:8000").parse().map_err(|error| format!("{error}"))?;
    let (mut last, mut longest) = (began, Duration::ZERO);
    while began.elapsed() < 3 * TAKEOVER {
        if quick(&parsed).is_ok_and(|count| count > 0) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(longest.max(last.elapsed()))
}

/// A request that does not wait for a node that is gone; how many bytes the first answer has.
fn quick(address: &SocketAddr) -> std::io::Result<usize> {
    let limit = Duration::from_millis(300);
    let mut stream = TcpStream::connect_timeout(address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read(&mut [0; 64])
}

fn takeover(cluster: &Cluster, how: &str, act: &[&str], undo: &[&str]) -> Result<(), String> {
    let address = address(cluster, "echo")?;
    eventually(EVENTUALLY_TIMEOUT, || fetch(&format!("http://{address}:8000/")))?;
    let before = owner(cluster, &address)?;
    let began = Instant::now();
    docker(&[act, &[&before]].concat())?;
    let result = gap(&address, began);
    docker(&[undo, &[&before]].concat())?;
    let gap = result?;
    println!("        takeover after {how}: {:.1} s", gap.as_secs_f64());
    ensure(gap <= TAKEOVER, || format!("after {how} nobody answered for {gap:?}"))?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    // The address comes back to its node, and does not stop answering for longer than a moment.
    eventually(EVENTUALLY_TIMEOUT, || {
        let now = owner(cluster, &address)?;
        ensure(now == before, || format!("{now} has {address}"))
    })?;
    eventually(TAKEOVER, || fetch(&format!("http://{address}:8000/"))).map(drop)
}

/// Another node answers within 5 s for one that is frozen, and for one that was killed. Only pods of the node that is
/// left can answer then, so what is measured is the address: the service has no endpoint on the lost node.
pub(super) fn node_lost(cluster: &Cluster) -> Result<(), String> {
    let address = address(cluster, "echo")?;
    let before = owner(cluster, &address)?;
    cluster.kubectl(&["label", "node", &before, "echo=no"])?;
    cluster.kubectl(&["rollout", "status", "daemonset/echo", "--timeout=100s"])?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let pods = cluster.kubectl(&["get", "pods", "--selector=app=echo", "--output=name"])?;
        ensure(pods.lines().count() == 1, || format!("the pods are {pods}"))
    })?;
    takeover(cluster, "docker pause", &["pause"], &["unpause"])?;
    takeover(cluster, "docker kill", &["kill"], &["start"])?;
    cluster.kubectl(&["label", "node", &before, "echo-"])?;
    cluster.kubectl(&["rollout", "status", "daemonset/echo", "--timeout=100s"]).map(drop)
}

/// While the agents restart the address keeps answering, and afterwards it is the same on the same node.
pub(super) fn agent_restart(cluster: &Cluster) -> Result<(), String> {
    let address = address(cluster, "echo")?;
    let before = owner(cluster, &address)?;
    eventually(EVENTUALLY_TIMEOUT, || fetch(&format!("http://{address}:8000/")))?;
    let set = "daemonset/coracle-agent";
    cluster.kubectl(&["--namespace=kube-system", "rollout", "restart", set])?;
    let mut failed = 0;
    eventually(EVENTUALLY_TIMEOUT, || {
        if fetch(&format!("http://{address}:8000/")).is_err() {
            failed += 1;
        }
        cluster.kubectl(&["--namespace=kube-system", "rollout", "status", set, "--timeout=1s"])
    })?;
    ensure(failed == 0, || format!("{failed} requests failed while the agents restarted"))?;
    ensure(status(cluster, "echo")? == address, || "the address changed".to_owned())?;
    let after = owner(cluster, &address)?;
    ensure(after == before, || format!("the address went from {before} to {after}"))
}

/// What the agents cost: at most 15 MB, and 0.2 % of a CPU while nothing changes.
pub(super) fn cost(cluster: &Cluster) -> Result<(), String> {
    let look = |node: &str| -> Result<(f64, f64), String> {
        let script = "for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" = coracle-agent ] || continue; \
            set -- $(cat $p/stat); echo $(($14 + $15)) $(awk '/^VmRSS/ {print $2}' $p/status); done";
        let text = docker(&["exec", &cluster_node(cluster, node), "bash", "-c", script])?;
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
        numbers.next().zip(numbers.next()).ok_or_else(|| format!("there is no agent on {node}: {text}"))
    };
    let seconds = 60;
    let nodes = ["control-plane", "worker", "worker2"];
    let before = nodes.map(look);
    std::thread::sleep(Duration::from_secs(seconds));
    for (node, before) in nodes.iter().zip(before) {
        let ((ticks, _), (then, kilobytes)) = (before?, look(node)?);
        // A tick is a hundredth of a second.
        let percent = (then - ticks) / f64::from(u32::try_from(seconds).unwrap_or(1));
        let megabytes = kilobytes / 1024.0;
        println!("        agent of {node}: {percent:.2} % of a CPU, {megabytes:.1} MB");
        ensure(percent <= 0.2, || format!("the agent of {node} takes {percent:.2} % of a CPU"))?;
        ensure(megabytes <= 15.0, || format!("the agent of {node} takes {megabytes:.1} MB"))?;
    }
    Ok(())
}

/// The page of the documentation, from top to bottom: `sh` blocks are run, `console` blocks print what they show.
pub(super) fn documentation(cluster: &Cluster) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/load-balancer.md");
    let page = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut directories = vec![Path::new(crate::harness::coracle()).parent().ok_or("no directory")?.to_path_buf()];
    directories.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let search = std::env::join_paths(directories).map_err(|error| error.to_string())?;
    let shell = |line: &str| {
        let mut command = cluster.shell(line);
        command.env("PATH", &search).current_dir(&cluster.home);
        run(command, None, LIMIT)?.ok()
    };
    // Every other part is inside of a fence.
    for block in page.split("```").skip(1).step_by(2) {
        let (language, text) = block.split_once('\n').unwrap_or_default();
        match language {
            "yaml" => cluster.write("web.yaml", text).map(drop)?,
            "sh" => shell(text).map(drop)?,
            "console" => {
                for example in format!("\n{text}").split("\n$ ").skip(1) {
                    let (line, shown) = example.split_once('\n').unwrap_or((example, ""));
                    eventually(EVENTUALLY_TIMEOUT, || {
                        prints(&shell(line)?, shown).map_err(|error| format!("`{line}`: {error}"))
                    })?;
                }
            }
            _ => {}
        }
    }
    cluster.kubectl(&["delete", "deployment/web", "service/web", "service/late"]).map(drop)
}

/// Whether a text is the one shown, where `…` stands for anything; blanks are not compared.
fn prints(text: &str, shown: &str) -> Result<(), String> {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (text, shown) = (words(text), words(shown));
    let mut rest = text.as_str();
    for part in shown.split('…') {
        let at = rest.find(part).ok_or_else(|| format!("it printed `{text}` and not `{shown}`"))?;
        rest = &rest[at + part.len()..];
    }
    Ok(())
}
