//! Ports of this host that lead into a running cluster: those that are added lead to pods at once, follow their Service, and
//! survive restarts; those of a tunnel end with it.

use std::time::{Duration, Instant};

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, fetch};
use crate::harness::run::{contains, docker, ensure, eventually, free_port, start};

use super::load_balancer::udp;

/// A Service in front of the pods of the group's first scenario.
const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: ported}
spec:
  type: NodePort
  selector: {app: echo}
  ports:
    - {name: http, port: 80, targetPort: 8080, nodePort: 30180}
    - {name: dns, port: 53, targetPort: 5353, nodePort: 30153, protocol: UDP}
";
/// How long `port add` may take on a busy machine, where it is not optimised; an idle one needs less than a second.
const LIMIT: Duration = Duration::from_secs(10);
/// How soon another node answers when one is lost: kube-proxy still sends some connections to the pod that was there.
const TAKEOVER: Duration = Duration::from_secs(15);

/// The ports on this host: to the Service by name, to its node port, and UDP.
struct Ports {
    by_name: u16,
    by_node: u16,
    udp: u16,
}

impl Ports {
    /// TCP by both ways, and UDP, answer.
    fn answer(&self, cluster: &Cluster) -> Result<(), String> {
        for port in [self.by_name, self.by_node] {
            contains(&fetch(&format!("http://127.0.0.1:{port}/"))?, &cluster.name)?;
        }
        contains(&udp(&format!("127.0.0.1:{}", self.udp))?, &cluster.name)
    }
}

/// Everything about ports, on a cluster with two workers that have a pod each.
pub(super) fn added(cluster: &Cluster) -> Result<(), String> {
    cluster.apply(SERVICE)?;
    let ports = Ports { by_name: free_port()?, by_node: free_port()?, udp: free_port()? };
    mistakes(cluster, &ports)?;
    let begun = Instant::now();
    let by_name = format!("{}:svc/ported:http", ports.by_name);
    cluster.coracle(&["port", "add", &by_name])?;
    // The first attempt: what `port add` says is true when it returns.
    contains(&fetch(&format!("http://127.0.0.1:{}/", ports.by_name))?, &cluster.name)?;
    println!("        a port was added and answered after {:.2} s", begun.elapsed().as_secs_f64());
    ensure(begun.elapsed() < LIMIT, || format!("it took {:?}", begun.elapsed()))?;
    let more = [format!("127.0.0.1:{}:30180", ports.by_node), format!("{}:svc/default/ported:53/udp", ports.udp)];
    cluster.coracle(&["port", "add", &more[0], &more[1]])?;
    ports.answer(cluster)?;
    told(cluster, &ports)?;
    taken(cluster, &ports)?;
    restarts(cluster, &ports)?;
    removed(cluster, &ports)
}

/// Every mistake is told at once, and nothing is made.
fn mistakes(cluster: &Cluster, ports: &Ports) -> Result<(), String> {
    let good = format!("{}:30180", ports.by_node);
    let wrong = ["port", "add", "8080:svc/gone:80", "8080:svc/ported:81", "8080:1/sctp", good.as_str()];
    let output = cluster.coracle_output(&wrong)?;
    ensure(output.code == 2, || output.told())?;
    for part in ["`gone` does not exist", "it has 80/tcp (http), 53/udp (dns)", "SCTP"] {
        contains(&output.stderr, part)?;
    }
    let list = cluster.coracle_json(&["get", "ports", "--output=json"])?;
    ensure(!list.to_string().contains("\"added\""), || format!("ports were added: {list}"))
}

/// `port list`, `url` and `status` know them.
fn told(cluster: &Cluster, ports: &Ports) -> Result<(), String> {
    let list = cluster.coracle(&["port", "list"])?;
    contains(&list, &format!("127.0.0.1:{}/tcp", ports.by_name))?;
    contains(&list, "svc/default/ported:53")?;
    let url = cluster.coracle(&["url", "ported"])?;
    contains(&url, &format!("http://127.0.0.1:{}", ports.by_name.min(ports.by_node)))?;
    let status = cluster.coracle_json(&["status", "--output=json"])?;
    ensure(status["ports"].as_array().is_some_and(|found| found.len() == 3), || format!("status has {status}"))
}

/// The same again changes nothing, and another target is refused with the owner's name.
fn taken(cluster: &Cluster, ports: &Ports) -> Result<(), String> {
    let name = format!("{}-port-{}-tcp", cluster.name, ports.by_node);
    let id = || docker(&["inspect", "--format={{.Id}}", &name]);
    let before = id()?;
    cluster.coracle(&["port", "add", &format!("{}:30180", ports.by_node)])?;
    ensure(id()? == before, || format!("{name} was made anew"))?;
    let output = cluster.coracle_output(&["port", "add", &format!("{}:30181", ports.by_node)])?;
    ensure(output.code == 4, || output.told())?;
    contains(&output.stderr, &name)?;
    contains(&output.stderr, &format!("coracle port remove {}/tcp", ports.by_node))
}

/// They answer after restarts of forwarders, while a node is gone, and when the Service was made anew.
fn restarts(cluster: &Cluster, ports: &Ports) -> Result<(), String> {
    let node = format!("{}-worker", cluster.name);
    for (port, protocol) in [(ports.by_name, "tcp"), (ports.udp, "udp")] {
        docker(&["restart", "--time=1", &format!("{}-port-{port}-{protocol}", cluster.name)])?;
    }
    eventually(EVENTUALLY_TIMEOUT, || ports.answer(cluster))?;
    docker(&["kill", &node])?;
    eventually(TAKEOVER, || fetch(&format!("http://127.0.0.1:{}/", ports.by_node)))?;
    docker(&["start", &node])?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    let address = || cluster.kubectl(&["get", "service", "ported", "--output=jsonpath={.spec.clusterIP}"]);
    let before = address()?;
    cluster.kubectl(&["delete", "service", "ported"])?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let is_gone = fetch(&format!("http://127.0.0.1:{}/", ports.by_name)).is_err();
        ensure(is_gone, || "the port of a Service that is gone answers".to_owned())
    })?;
    cluster.apply(SERVICE)?;
    ensure(address()? != before, || "the Service has the same address again, so nothing is shown".to_owned())?;
    eventually(EVENTUALLY_TIMEOUT, || ports.answer(cluster))
}

/// One is removed and its port is free; the others go with the cluster.
fn removed(cluster: &Cluster, ports: &Ports) -> Result<(), String> {
    cluster.coracle(&["port", "remove", &ports.by_name.to_string()])?;
    std::net::TcpListener::bind(("127.0.0.1", ports.by_name)).map_err(|error| error.to_string())?;
    let again = cluster.coracle_output(&["port", "remove", &ports.by_name.to_string()])?;
    ensure(again.code == 0 && again.stderr.contains("nothing was removed"), || again.told())?;
    let list = cluster.coracle(&["port", "list", "--output=name"])?;
    ensure(!list.contains(&ports.by_name.to_string()), || list.clone())?;
    contains(&list, &format!("127.0.0.1:{}/udp", ports.udp))
}

/// The tunnel, as where this host does not reach the nodes: its URL is the one that `coracle url` prints.
pub(super) fn tunnel(cluster: &Cluster) -> Result<(), String> {
    let refused = cluster.coracle_output(&["url", "echo", "--no-nodes", "--all"])?;
    ensure(refused.code != 0, || format!("there is a URL without a tunnel: {}", refused.stdout))?;
    contains(&refused.stderr, "coracle tunnel echo")?;
    let tunnel = start(cluster.command(&["tunnel", "echo"]), None)?;
    let said = eventually(EVENTUALLY_TIMEOUT, || {
        let said = tunnel.said();
        ensure(said.lines().count() == 2, || format!("`coracle tunnel` said {said}"))?;
        Ok(said)
    })?;
    let urls = cluster.coracle(&["url", "echo", "--no-nodes"])?;
    for url in urls.lines() {
        contains(&said, url)?;
        match url.strip_prefix("udp://") {
            Some(address) => contains(&eventually(EVENTUALLY_TIMEOUT, || udp(address))?, &cluster.name)?,
            None => contains(&eventually(EVENTUALLY_TIMEOUT, || fetch(url))?, &cluster.name)?,
        }
    }
    tunnel.signal("INT")?;
    let ended = tunnel.finish(Duration::from_secs(30))?;
    ensure(ended.code == 0, || ended.told())?;
    let left = docker(&["ps", "--all", "--quiet", "--filter", &format!("name={}-tunnel", cluster.name)])?;
    ensure(left.trim().is_empty(), || "the tunnel's container is still there".to_owned())
}
