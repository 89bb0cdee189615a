//! The URLs at which this host reaches a Service.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cluster::access;
use crate::cluster::found::{Cluster, Node};
use crate::cluster::service::endpoints::{Endpoints, why_none};
use crate::engine::Engine;
use crate::engine::place::Place;
use crate::engine::spec::{Container, EngineInfo, PortBinding};
use crate::error::{Code, Error, Result};
use crate::kubernetes::{Client, Failure, object};
use crate::plan::beside::{port, tunnel};
use crate::plan::reachable_address;

/// How long the controllers and the agent may need until pods that are ready are behind a Service, and it has its address.
const SETTLING: Duration = Duration::from_secs(2);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// A URL of a port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceUrl {
    /// Name of the Service's port, empty for the only one.
    pub port: String,
    pub url: String,
}

/// What this process reaches of what the engine has.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The addresses of nodes.
    pub nodes: bool,
    /// Where it is, which decides how it reaches published ports.
    pub place: Place,
}

impl Sight {
    /// Nodes are reached only if the engine's bridges are on this host: Docker Desktop has them in a virtual machine, and a
    /// rootless engine has them in a network of its own.
    pub fn new(engine: &EngineInfo, place: &Place) -> Self {
        let nodes = match place {
            Place::Host => {
                cfg!(target_os = "linux") && !engine.rootless && !engine.operating_system.contains("Docker Desktop")
            }
            // It is connected with the cluster's network.
            Place::Container { .. } => true,
            Place::Apart | Place::Elsewhere(_) => false,
        };
        Self { nodes, place: place.clone() }
    }

    /// How the address that a port is published on is reached, if it is.
    fn of(&self, address: IpAddr) -> Option<String> {
        match &self.place {
            Place::Host => Some(reachable_address(address).to_string()),
            Place::Elsewhere(host) if address.is_unspecified() => Some(host.clone()),
            // They are of the engine's host: its own 127.0.0.1 is no one else's.
            _ if address.is_loopback() || address.is_unspecified() => None,
            _ => Some(address.to_string()),
        }
    }
}

/// The URLs of a Service.
#[derive(Debug, Default)]
pub struct Urls {
    /// The best one of each port first.
    pub all: Vec<ServiceUrl>,
    /// Names of ports at which no pod takes connections.
    pub silent: Vec<String>,
}

/// Why a Service has no URL.
#[derive(Debug)]
pub(super) struct Unreachable {
    pub error: Error,
    pub outlook: Outlook,
}

/// Whether a Service may get a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    Never,
    /// If someone creates it.
    Unknown,
    /// What makes it reachable is at work.
    Soon,
}

/// URLs of a Service: added and published host ports first, then the tunnel, load balancer and node addresses.
pub async fn urls(engine: &dyn Engine, cluster: &Cluster, namespace: &str, name: &str, sight: &Sight) -> Result<Urls> {
    require_name(name)?;
    let client = access::client(engine, cluster).await?;
    let deadline = Instant::now() + SETTLING;
    loop {
        match look(&client, cluster, (namespace, name), sight).await {
            Ok(urls) => return Ok(urls),
            Err(failure) if failure.outlook == Outlook::Soon && Instant::now() < deadline => sleep(PAUSE).await,
            Err(failure) => return Err(failure.error),
        }
    }
}

/// Fails for what cannot be a Service's name, and would be another path of the API.
pub(super) fn require_name(name: &str) -> Result<()> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.is_empty() && name.chars().all(is_allowed) {
        return Ok(());
    }
    let error = Error::new(Code::UsageInvalid, format!("`{name}` is not the name of a Service"));
    Err(match name.split_once('/') {
        Some((namespace, name)) => error.hint(format!("`coracle url {name} --namespace {namespace}`")),
        None => error
            .hint("names have lower-case letters, digits and `-`; `kubectl get services --all-namespaces` lists them"),
    })
}

/// The same, by a client of the cluster's API.
pub(super) async fn look(
    client: &Client,
    cluster: &Cluster,
    (namespace, name): (&str, &str),
    sight: &Sight,
) -> Result<Urls, Unreachable> {
    let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
    let service = client.get(&path).await.map_err(|failure| not_read(&failure, namespace, name))?;
    let unreachable = |outlook, cause: String, hint: String| {
        let error = Error::new(Code::NotFound, format!("Service `{name}` cannot be reached from this host"));
        Unreachable { error: error.because(cause).hint(hint), outlook }
    };
    if let Some((cause, hint)) = never(&service).filter(|_| !has_added_port(&service, cluster)) {
        return Err(unreachable(Outlook::Never, cause, hint));
    }
    let endpoints = Endpoints::of(client, cluster, &service).await;
    let endpoints = endpoints.map_err(|failure| not_read(&failure, namespace, name))?;
    if endpoints.is_empty() {
        let (cause, lines) = why_none(client, cluster, &service).await;
        let error = Error::new(Code::NotReady, format!("nothing answers for Service `{name}`"));
        let hint = format!("`coracle url {name} --namespace {namespace} --wait 60s` waits until something does");
        return Err(Unreachable { error: error.because(cause).with_lines(lines).hint(hint), outlook: Outlook::Soon });
    }
    let all = of_service(&service, &endpoints, cluster, sight);
    let names = ports(&service).iter().map(|port| port["name"].as_str().unwrap_or_default());
    let silent: Vec<String> = names.filter(|name| !endpoints.has(name)).map(str::to_owned).collect();
    if !all.is_empty() {
        return Ok(Urls { all, silent });
    }
    let is_balanced = service["spec"]["type"] == "LoadBalancer";
    Err(if is_balanced && sight.nodes {
        let hint = format!("`kubectl describe service {name} --namespace {namespace}` shows the reason in its events");
        unreachable(Outlook::Soon, "it has no address yet".to_owned(), hint)
    } else if is_balanced {
        let hint = format!("`coracle tunnel {name} --namespace {namespace}` makes it reachable at this host");
        unreachable(Outlook::Never, "the engine's networks are not on this host".to_owned(), hint)
    } else if is_local(&service) {
        let nodes: Vec<_> = endpoints.nodes().into_iter().collect();
        let cause = format!(
            "only {} may answer (externalTrafficPolicy: Local), where no port of the host leads",
            nodes.join(", ")
        );
        unreachable(Outlook::Never, cause, "`externalTrafficPolicy: Cluster` lets every node answer".to_owned())
    } else {
        unreachable(Outlook::Never, "no port of this host leads to its NodePort".to_owned(), forward(&service))
    })
}

/// The Service could not be read. Only an API server that knows of none says that there is none.
fn not_read(failure: &Failure, namespace: &str, name: &str) -> Unreachable {
    if matches!(failure, Failure::Status(404, ..)) {
        let error = Error::new(Code::NotFound, format!("Service `{name}` does not exist in namespace `{namespace}`"))
            .because(failure.text())
            .hint(
                "`kubectl get services --all-namespaces` lists the Services; choose the namespace with `--namespace`",
            );
        return Unreachable { error, outlook: Outlook::Unknown };
    }
    let error = match failure {
        // The administrator may do everything as soon as the roles are loaded.
        Failure::Status(403, ..) => Error::new(Code::ApiFailed, format!("cannot look for Service `{name}`"))
            .because(format!("the API server is starting: {}", failure.text()))
            .hint("`--wait 60s` waits for it"),
        _ => Error::new(Code::ApiFailed, format!("cannot look for Service `{name}`"))
            .because(failure.text())
            .hint("`coracle status` shows what does not work; `--wait 60s` waits for it"),
    };
    Unreachable { error, outlook: Outlook::Soon }
}

/// Why a Service of this kind never has a URL, and what to do.
fn never(service: &Value) -> Option<(String, String)> {
    let spec = &service["spec"];
    match spec["type"].as_str().unwrap_or("ClusterIP") {
        "ExternalName" => {
            let name = spec["externalName"].as_str().unwrap_or_default();
            let cause = format!("its type is ExternalName: in the cluster, its name is another one for `{name}`");
            Some((cause, format!("use `{name}` itself")))
        }
        "ClusterIP" if spec["clusterIP"] == "None" => {
            let cause = "it is headless: its name leads to the addresses of its pods, inside the cluster";
            Some((cause.to_owned(), forward(service)))
        }
        "ClusterIP" => {
            let (name, namespace) = (object::name(service), object::namespace(service).unwrap_or_default());
            let port = ports(service).first().and_then(|port| port["port"].as_u64()).unwrap_or(80);
            let hint =
                format!("`coracle port add :svc/{name}:{port} --namespace {namespace}`, or {}", forward(service));
            Some(("its type is ClusterIP".to_owned(), hint))
        }
        _ => None,
    }
}

/// The command that makes any Service reachable.
fn forward(service: &Value) -> String {
    let port = ports(service).first().and_then(|port| port["port"].as_u64()).unwrap_or(80);
    let (name, namespace) = (object::name(service), object::namespace(service).unwrap_or_default());
    format!("`kubectl port-forward --namespace {namespace} service/{name} 8080:{port}`")
}

fn ports(service: &Value) -> &[Value] {
    service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether only nodes with a pod of the Service answer.
fn is_local(service: &Value) -> bool {
    service["spec"]["externalTrafficPolicy"] == "Local"
}

fn of_service(service: &Value, endpoints: &Endpoints, cluster: &Cluster, sight: &Sight) -> Vec<ServiceUrl> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all = Vec::new();
    for port in ports(service) {
        let title = port["name"].as_str().unwrap_or_default();
        if !endpoints.has(title) {
            continue;
        }
        let may_answer = |node: &&Node| !is_local(service) || endpoints.has_on(title, &node.name);
        let nodes: Vec<&Node> = cluster.running().filter(may_answer).collect();
        let mut add = |address: &str, number: u64| {
            all.push(ServiceUrl { port: title.to_owned(), url: url(port, address, number) });
        };
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let node_port = port["nodePort"].as_u64().filter(|number| *number > 0);
        let number = number_of(port);
        for (address, number) in added(cluster, service, port, sight) {
            add(&address, number.into());
        }
        if let Some(node_port) = node_port {
            let bindings = nodes.iter().flat_map(|node| &node.container.ports);
            for (address, number) in matching(bindings, node_port, protocol, sight) {
                add(&address, number.into());
            }
        }
        for (address, number) in through_tunnel(cluster, service, number, protocol, sight) {
            add(&address, number.into());
        }
        if sight.nodes {
            for address in ingress.iter().filter_map(|entry| entry["ip"].as_str()) {
                add(address, number.into());
            }
            let addresses = nodes.first().map(|node| node.addresses.as_slice()).unwrap_or_default();
            for address in addresses.iter().filter(|address| has_family(service, **address)) {
                if let Some(number) = node_port {
                    add(&address.to_string(), number);
                }
            }
        }
    }
    all
}

/// Whether a Service has addresses of this family: a node does not serve it on its addresses of another family.
fn has_family(service: &Value, address: IpAddr) -> bool {
    let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
    service["spec"]["ipFamilies"].as_array().is_none_or(|families| families.iter().any(|other| other == family))
}

/// The number of a port of a Service.
fn number_of(port: &Value) -> u16 {
    port["port"].as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or_default()
}

/// The forwarders whose ports lead to this port of the Service, or to its node port.
fn forwarders<'c>(cluster: &'c Cluster, service: &Value, port: &Value) -> impl Iterator<Item = &'c Container> {
    let namespace = object::namespace(service).unwrap_or_default();
    let of_service = port::service_label(namespace, object::name(service), number_of(port));
    let of_nodes = port["nodePort"].as_u64().map(|number| number.to_string());
    let running = cluster.ports.iter().filter(|forwarder| forwarder.is_running());
    running.filter(move |forwarder| {
        let target = port::target(forwarder);
        target == of_service || Some(target) == of_nodes.as_deref()
    })
}

/// Whether a port was added that leads to the Service itself.
fn has_added_port(service: &Value, cluster: &Cluster) -> bool {
    ports(service).iter().any(|port| forwarders(cluster, service, port).next().is_some())
}

/// Host addresses and ports that were added and lead to this port of the Service.
fn added(cluster: &Cluster, service: &Value, port: &Value, sight: &Sight) -> Vec<(String, u16)> {
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    let bindings = forwarders(cluster, service, port).flat_map(|forwarder| &forwarder.ports);
    let mut all: Vec<(String, u16)> = bindings
        .filter(|binding| binding.protocol.as_str().eq_ignore_ascii_case(protocol))
        .filter_map(|binding| Some((sight.of(binding.host_address)?, binding.host_port)))
        .collect();
    all.dedup();
    all
}

/// Host addresses and ports of an open tunnel that lead to this port of the Service.
fn through_tunnel(cluster: &Cluster, service: &Value, port: u16, protocol: &str, sight: &Sight) -> Vec<(String, u16)> {
    let Some(container) = &cluster.tunnel else { return Vec::new() };
    let name = object::key(service);
    match tunnel::container_port(&container.labels, &name, port, &protocol.to_lowercase()) {
        Some(inside) => matching(container.ports.iter(), inside.into(), protocol, sight),
        None => Vec::new(),
    }
}

fn matching<'a>(
    ports: impl Iterator<Item = &'a PortBinding>,
    inside: u64,
    protocol: &str,
    sight: &Sight,
) -> Vec<(String, u16)> {
    let matching = ports.filter(|port| {
        u64::from(port.container_port) == inside && port.protocol.as_str().eq_ignore_ascii_case(protocol)
    });
    let mut all: Vec<(String, u16)> =
        matching.filter_map(|port| Some((sight.of(port.host_address)?, port.host_port))).collect();
    all.dedup();
    all
}

/// `http`, unless the port's name or number indicates something else.
pub(crate) fn scheme(port: &Value) -> String {
    let name = port["name"].as_str().unwrap_or_default();
    let secure = name.starts_with("https") || port["appProtocol"] == "https" || port["port"] == 443;
    match port["protocol"].as_str().unwrap_or("TCP") {
        "TCP" if secure => "https".to_owned(),
        "TCP" => "http".to_owned(),
        other => other.to_lowercase(),
    }
}

fn url(port: &Value, address: &str, number: u64) -> String {
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("{}://{address}:{number}", scheme(port))
}

#[cfg(test)]
#[path = "urls_tests.rs"]
mod tests;
