//! Clusters with IPv6: dual-stack, and IPv6 only.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::basics::{is_true, name};
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, address_of, fetch};
use crate::harness::run::{LIMIT, contains, docker, ensure, eventually, run};

/// A page on both families that names its pod and who asks, in a pod on each node, and its Service on all families.
const WHO: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: who}
spec:
  replicas: 2
  selector: {matchLabels: {app: who}}
  template:
    metadata: {labels: {app: who}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - {labelSelector: {matchLabels: {app: who}}, topologyKey: kubernetes.io/hostname}
      containers:
        - name: who
          image: hello-world:latest
          imagePullPolicy: IfNotPresent
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
          env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
          command: [python3, -c]
          args:
            - |
              import os, socket, http.server
              class Page(http.server.BaseHTTPRequestHandler):
                  def do_GET(self):
                      self.send_response(200)
                      self.end_headers()
                      asker = self.client_address[0].removeprefix('::ffff:')
                      self.wfile.write(f"this is {os.environ['POD_NAME']}, hello {asker}\n".encode())
              class Server(http.server.ThreadingHTTPServer):
                  address_family = socket.AF_INET6
              print('ready', flush=True)
              Server(('::', 8080), Page).serve_forever()
---
apiVersion: v1
kind: Service
metadata: {name: who}
spec:
  type: NodePort
  ipFamilyPolicy: POLICY
  selector: {app: who}
  ports: [{port: 80, targetPort: 8080, nodePort: 30082}]
"#;

fn example(name: &str) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

fn deploy(cluster: &Cluster, policy: &str) -> Result<(), String> {
    super::hello::build()?;
    cluster.coracle(&["load", "docker-image", super::hello::IMAGE])?;
    cluster.apply(&WHO.replace("POLICY", policy))?;
    cluster.rolled_out("who")
}

pub(super) fn create_dual(cluster: &Cluster) -> Result<(), String> {
    cluster.create(&example("dual-stack.yaml")?, &[])?;
    deploy(cluster, "RequireDualStack")
}

pub(super) fn create_ipv6(cluster: &Cluster) -> Result<(), String> {
    cluster.create(&example("ipv6.yaml")?, &[])?;
    deploy(cluster, "SingleStack")
}

/// Texts of a list of objects, as addresses.
pub(super) fn addresses(list: &Value, of: impl Fn(&Value) -> Option<&str>) -> Result<Vec<IpAddr>, String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = items.iter().filter_map(of);
    texts.map(|text| text.parse().map_err(|error| format!("{text}: {error}"))).collect()
}

/// Whether these are one address of each family of the cluster, the primary one first.
fn are(found: &[IpAddr], families: &[&str], what: &str) -> Result<(), String> {
    let of: Vec<_> = found.iter().map(|address| if address.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
    ensure(of == families, || format!("{what} has {found:?} instead of one address of {families:?}"))
}

fn nodes(cluster: &Cluster) -> Result<Vec<(String, Vec<IpAddr>)>, String> {
    let nodes = cluster.kubectl_json(&["get", "nodes"])?;
    let mut all = Vec::new();
    for node in nodes["items"].as_array().map(Vec::as_slice).unwrap_or_default() {
        ensure(is_true(node, "Ready"), || format!("{} is not Ready", name(node)))?;
        let internal = |one: &Value| one["type"] == "InternalIP";
        let found = addresses(&node["status"]["addresses"], |one| one["address"].as_str().filter(|_| internal(one)))?;
        all.push((name(node), found));
    }
    Ok(all)
}

/// The pods with their nodes and addresses.
pub(super) fn pods(cluster: &Cluster) -> Result<Vec<(String, String, Vec<IpAddr>)>, String> {
    let pods = cluster.kubectl_json(&["get", "pods", "--selector=app=who"])?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let addresses_of = |pod: &Value| {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        Ok((name(pod), node, addresses(&pod["status"]["podIPs"], |one| one["ip"].as_str())?))
    };
    pods.iter().map(addresses_of).collect()
}

pub(super) fn service_addresses(cluster: &Cluster) -> Result<Vec<IpAddr>, String> {
    let service = cluster.kubectl_json(&["get", "service", "who"])?;
    addresses(&service["spec"]["clusterIPs"], Value::as_str)
}

pub(super) fn families_of(cluster: &Cluster) -> &'static [&'static str] {
    if cluster.name.contains("ipv6") { &["IPv6"] } else { &["IPv4", "IPv6"] }
}

/// Nodes and pods have an address of each family, and coracle tells those of the nodes.
pub(super) fn addresses_of_all(cluster: &Cluster) -> Result<(), String> {
    let families = families_of(cluster);
    for (node, found) in nodes(cluster)? {
        are(&found, families, &node)?;
        let label: Vec<String> = found.iter().map(ToString::to_string).collect();
        ensure(address_of(&node)? == label.join(","), || format!("the label of {node} is not {label:?}"))?;
        contains(&cluster.coracle(&["get", "nodes"])?, &label.join(","))?;
    }
    let objects = cluster.kubectl_json(&["get", "nodes"])?;
    for node in objects["items"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let count = node["spec"]["podCIDRs"].as_array().map_or(0, Vec::len);
        ensure(count == families.len(), || format!("podCIDRs: {}", node["spec"]["podCIDRs"]))?;
    }
    let pods = pods(cluster)?;
    ensure(pods.len() == 2 && pods[0].1 != pods[1].1, || format!("the pods are not on two nodes: {pods:?}"))?;
    pods.iter().try_for_each(|(pod, _, found)| are(found, families, pod))?;
    are(&service_addresses(cluster)?, families, "the Service")
}

/// Fetches from inside a pod.
fn from_pod(cluster: &Cluster, pod: &str, url: &str) -> Result<String, String> {
    let script = format!("import urllib.request as r; print(r.urlopen('{url}', timeout=5).read().decode())");
    cluster.python(pod, &script)
}

pub(super) fn url(address: &IpAddr, port: u16) -> String {
    format!("http://{}/", SocketAddr::new(*address, port))
}

/// A pod reaches the one on the other node at each of its addresses, as itself.
pub(super) fn pods_reach_pods(cluster: &Cluster) -> Result<(), String> {
    let pods = pods(cluster)?;
    for (from, to) in [(0, 1), (1, 0)] {
        for (own, address) in pods[from].2.iter().zip(&pods[to].2) {
            let page = eventually(EVENTUALLY_TIMEOUT, || from_pod(cluster, &pods[from].0, &url(address, 8080)))?;
            contains(&page, &format!("this is {}, hello {own}\n", pods[to].0))?;
        }
    }
    Ok(())
}

/// Both pods answer for the Service, at each of its addresses, to a pod of each node.
pub(super) fn service(cluster: &Cluster) -> Result<(), String> {
    let pods = pods(cluster)?;
    for address in service_addresses(cluster)? {
        for (from, ..) in &pods {
            for (to, ..) in &pods {
                eventually(EVENTUALLY_TIMEOUT, || contains(&from_pod(cluster, from, &url(&address, 80))?, to))?;
            }
        }
    }
    Ok(())
}

/// A Service of the type `LoadBalancer` gets an address of each family, and answers this host at all of them.
pub(super) fn load_balancer(cluster: &Cluster) -> Result<(), String> {
    let policy = cluster.kubectl(&["get", "service", "who", "--output=jsonpath={.spec.ipFamilyPolicy}"])?;
    let ports = "[{port: 80, targetPort: 8080}]";
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: balanced}}\n\
         spec: {{type: LoadBalancer, ipFamilyPolicy: {policy}, selector: {{app: who}}, ports: {ports}}}\n"
    ))?;
    let path = "--output=jsonpath={.status.loadBalancer.ingress[*].ip}";
    let expected = service_addresses(cluster)?;
    let addresses: Vec<IpAddr> = eventually(EVENTUALLY_TIMEOUT, || {
        let text = cluster.kubectl(&["get", "service", "balanced", path])?;
        let addresses: Vec<IpAddr> = text.split_whitespace().filter_map(|address| address.parse().ok()).collect();
        let families = |all: &[IpAddr]| all.iter().map(IpAddr::is_ipv4).collect::<Vec<_>>();
        ensure(families(&addresses) == families(&expected), || format!("its addresses are `{text}`"))?;
        Ok(addresses)
    })?;
    for address in addresses {
        contains(&eventually(EVENTUALLY_TIMEOUT, || fetch(&url(&address, 80)))?, "this is who")?;
    }
    Ok(())
}

/// The name of the Service has records of each family, and no others.
pub(super) fn names(cluster: &Cluster) -> Result<(), String> {
    let expected = service_addresses(cluster)?;
    let script = "import socket; all = socket.getaddrinfo('who.default.svc.cluster.local', 80, type=socket.SOCK_STREAM); \
                  print(sorted({entry[4][0] for entry in all}))";
    let mut texts: Vec<String> = expected.iter().map(ToString::to_string).collect();
    texts.sort();
    for (pod, ..) in pods(cluster)? {
        let found = eventually(EVENTUALLY_TIMEOUT, || cluster.python(&pod, script))?;
        ensure(found.trim() == format!("{texts:?}").replace('"', "'"), || format!("{found} instead of {texts:?}"))?;
        eventually(EVENTUALLY_TIMEOUT, || contains(&from_pod(cluster, &pod, "http://who/")?, "hello"))?;
    }
    Ok(())
}

/// Pods and nodes look up what only the engine knows: here the name of a node's container.
pub(super) fn outside_names(cluster: &Cluster) -> Result<(), String> {
    let worker = format!("{}-worker", cluster.name);
    let address = address_of(&worker)?;
    let address = address.split(',').next_back().unwrap_or_default();
    let script = format!("import socket; print(socket.getaddrinfo('{worker}', 80, socket.AF_INET6)[0][4][0])");
    for (pod, ..) in pods(cluster)? {
        eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.python(&pod, &script)?, address))?;
    }
    contains(&cluster.in_node(&format!("getent ahostsv6 {worker}"))?, address)?;
    // A pod with the node's own resolver, and a question by TCP.
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: asker}}\nspec:\n  dnsPolicy: Default\n  restartPolicy: Never\n  containers:\n    \
         - name: asker\n      image: hello-world:latest\n      imagePullPolicy: IfNotPresent\n      command: [python3, -c]\n      \
         args: [\"{script}\"]\n      env: [{{name: RES_OPTIONS, value: use-vc}}]\n"
    );
    cluster.kubectl(&["delete", "pod/asker", "--ignore-not-found"])?;
    cluster.apply(&manifest)?;
    cluster.kubectl(&["wait", "pod/asker", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"])?;
    contains(&cluster.kubectl(&["logs", "asker"])?, address)
}

/// The host reaches the NodePort at every address of every node, and at what `coracle url` prints.
pub(super) fn node_ports(cluster: &Cluster) -> Result<(), String> {
    for (node, found) in nodes(cluster)? {
        for address in found {
            let page = eventually(EVENTUALLY_TIMEOUT, || fetch(&url(&address, 30082)));
            contains(&page.map_err(|error| format!("{node}: {error}"))?, "hello")?;
        }
    }
    let all = cluster.coracle(&["url", "who", "--all"])?;
    let expected = if families_of(cluster).len() == 1 { "http://[::1]:" } else { "http://[" };
    contains(&all, expected)?;
    all.lines().try_for_each(|url| contains(&eventually(EVENTUALLY_TIMEOUT, || fetch(url))?, "hello"))
}

/// A server outside of the cluster, on the host, sees the address of the pod's node.
pub(super) fn masquerading(cluster: &Cluster) -> Result<(), String> {
    let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
    let gateways = docker(&["network", "inspect", "--format", format, &format!("coracle-{}", cluster.name)])?;
    let nodes = nodes(cluster)?;
    for gateway in gateways.split_whitespace() {
        let gateway: IpAddr = gateway.parse().map_err(|error| format!("{gateway}: {error}"))?;
        let server = TcpListener::bind((gateway, 0)).map_err(|error| format!("{gateway}: {error}"))?;
        server.set_nonblocking(true).map_err(|error| error.to_string())?;
        let port = server.local_addr().map_err(|error| error.to_string())?.port();
        for (pod, node, _) in pods(cluster)? {
            let own = nodes.iter().find(|(name, _)| *name == node).map(|(_, found)| found.clone()).unwrap_or_default();
            // The network has IPv4 also where the cluster has not.
            let Some(expected) = own.iter().find(|address| address.is_ipv4() == gateway.is_ipv4()) else { continue };
            let script = format!("import socket; socket.create_connection(('{gateway}', {port}), 5)");
            cluster.python(&pod, &script)?;
            let (_, seen) = eventually(Duration::from_secs(10), || server.accept().map_err(|error| error.to_string()))?;
            ensure(seen.ip() == *expected, || format!("the host sees {} instead of {node}'s {expected}", seen.ip()))?;
        }
    }
    Ok(())
}

/// `logs`, `exec` and `port-forward` on both nodes.
pub(super) fn logs_exec_forward(cluster: &Cluster) -> Result<(), String> {
    for (pod, ..) in pods(cluster)? {
        contains(&cluster.kubectl(&["logs", &pod])?, "ready")?;
        contains(&cluster.kubectl(&["exec", &pod, "--", "cat", "/etc/resolv.conf"])?, "nameserver fd00:10:96::a")?;
        contains(&cluster.port_forward(&format!("pod/{pod}"), 8080, "/")?, &pod)?;
    }
    Ok(())
}

/// A node that restarts has the same addresses, and its pods are reachable again.
pub(super) fn restart_worker(cluster: &Cluster) -> Result<(), String> {
    let worker = format!("{}-worker", cluster.name);
    let before = nodes(cluster)?;
    docker(&["restart", &worker])?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let pods = cluster.kubectl_json(&["get", "pods", "--selector=app=who"])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let on_worker = pods.iter().find(|pod| pod["spec"]["nodeName"] == *worker).ok_or("no pod is on the worker")?;
        let restarts = on_worker["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default();
        ensure(restarts > 0 && is_true(on_worker, "Ready"), || "its pod is not back yet".to_owned())
    })?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    ensure(nodes(cluster)? == before, || "its addresses have changed".to_owned())?;
    pods_reach_pods(cluster)?;
    names(cluster)?;
    outside_names(cluster)
}

/// The commands of the documentation, in their order, on this cluster.
pub(super) fn documentation(cluster: &Cluster) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/ip-families.md");
    let page = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let block = |language: &str| {
        let fence = format!("```{language}\n");
        let mut blocks = page.split(fence.as_str()).skip(1);
        let block = blocks.find(|block| block.contains("who")).and_then(|block| block.split("```").next());
        block.map(str::to_owned)
    };
    cluster.kubectl(&["delete", "deployment,service", "who", "--ignore-not-found"])?;
    cluster.write("who.yaml", &block("yaml").ok_or("the page has no manifest")?)?;
    let mut directories = vec![Path::new(crate::harness::coracle()).parent().ok_or("no directory")?.to_path_buf()];
    directories.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let search = std::env::join_paths(directories).map_err(|error| error.to_string())?;
    for block in page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in
            block.lines().filter_map(|line| line.strip_prefix("$ ")).filter(|line| !line.contains("create cluster"))
        {
            let mut command = cluster.shell(line);
            command.env("PATH", &search).current_dir(&cluster.home);
            let output = run(command, None, LIMIT)?.ok()?;
            ensure(!output.trim().is_empty(), || format!("`{line}` said nothing"))?;
        }
    }
    Ok(())
}

pub(super) fn delete(cluster: &Cluster) -> Result<(), String> {
    super::lifecycle::gone(cluster)
}
