//! From what was typed to what is opened: every mistake at once, before anything is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::engine::Engine;
use crate::engine::spec::{Container, Protocol};
use crate::error::{Code, Error, Problem, Result, counted};
use crate::host::ports;
use crate::kubernetes::object;
use crate::plan::beside::port::mapping::{Mapping, ServicePort, Target, parse};
use crate::plan::beside::port::{FoundService, Opening, target};
use crate::plan::labels;

/// Mistakes, with the code that the worst of them has.
struct Mistakes {
    code: Code,
    problems: Vec<Problem>,
}

impl Mistakes {
    fn note(&mut self, code: Code, place: &str, message: String) {
        // Wrong usage comes before what does not exist, and that before what is taken.
        let rank =
            |code: Code| [Code::UsageInvalid, Code::NotFound].iter().position(|other| *other == code).unwrap_or(2);
        if self.problems.is_empty() || rank(code) < rank(self.code) {
            self.code = code;
        }
        self.problems.push(Problem { place: place.to_owned(), message, snippet: None });
    }
}

/// What the mappings open. Those that a forwarder of this cluster already has are in it, too.
pub(super) async fn openings(
    engine: &dyn Engine,
    cluster: &Cluster,
    texts: &[String],
    namespace: &str,
    local: bool,
) -> Result<Vec<Opening>> {
    let mut mistakes = Mistakes { code: Code::UsageInvalid, problems: Vec::new() };
    let mut mappings = Vec::new();
    for text in texts {
        match parse(text) {
            Ok(found) => mappings.extend(found),
            Err(found) => found.into_iter().for_each(|message| mistakes.note(Code::UsageInvalid, text, message)),
        }
    }
    let needs_api = mappings.iter().any(|mapping| matches!(mapping.target, Target::Service { .. }));
    let services = if needs_api { services(engine, cluster).await? } else { Value::Null };
    let containers = engine.containers(&[]).await?;
    let mut openings: Vec<Opening> = Vec::new();
    for mapping in &mappings {
        let resolved = resolve(mapping, namespace, &services);
        let opening = resolved.and_then(|(port, service)| {
            let host = host(cluster, mapping, local).map_err(|error| (error.code(), error.in_words()))?;
            let opening = Opening { host, protocol: mapping.protocol, port, service };
            let is_repeated = |other: &Opening| other.host == host && other.protocol == mapping.protocol;
            if openings.iter().any(is_repeated) {
                return Err((Code::UsageInvalid, format!("the port {host} is named twice")));
            }
            let is_there = existing(cluster, &opening).is_some_and(|forwarder| target(forwarder) == opening.label());
            match ports::obstacle(host, mapping.protocol, &containers).filter(|_| local && !is_there) {
                Some(obstacle) => Err((Code::PortTaken, obstacle + &owner(&containers, host, mapping.protocol))),
                None => Ok(opening),
            }
        });
        match opening {
            Ok(opening) => openings.push(opening),
            Err((code, message)) => mistakes.note(code, &mapping.text, message),
        }
    }
    if mistakes.problems.is_empty() {
        return Ok(openings);
    }
    let count = counted(mistakes.problems.len(), "problem");
    Err(Error::new(mistakes.code, format!("no port was added: {count}")).with_problems(mistakes.problems))
}

/// The Services of a cluster.
async fn services(engine: &dyn Engine, cluster: &Cluster) -> Result<Value> {
    let client = access::client(engine, cluster).await?;
    client.get("/api/v1/services").await.map_err(|failure| {
        Error::new(Code::ApiFailed, "cannot list the Services")
            .because(failure.text())
            .hint(format!("`coracle status --name {}` shows what does not work", cluster.name))
    })
}

/// The forwarder of this cluster that publishes the port of an opening.
pub(super) fn existing<'c>(cluster: &'c Cluster, opening: &Opening) -> Option<&'c Container> {
    let name = opening.name(cluster.name.as_str());
    cluster.ports.iter().find(|forwarder| forwarder.name == name)
}

/// How a port is freed that a forwarder has.
fn owner(containers: &[Container], host: SocketAddr, protocol: Protocol) -> String {
    let publishes = |container: &&Container| {
        container.ports.iter().any(|port| port.host_port == host.port() && port.protocol == protocol)
    };
    let forwarder = containers.iter().filter(publishes).find(|container| container.labels.contains_key(labels::TARGET));
    let Some(forwarder) = forwarder else { return String::new() };
    let cluster = forwarder.labels.get(labels::CLUSTER).map(String::as_str).unwrap_or_default();
    let to = target(forwarder);
    format!(" and leads to {to}; `coracle port remove {}/{protocol} --name {cluster}` frees it", host.port())
}

/// Address and port on the host.
fn host(cluster: &Cluster, mapping: &Mapping, local: bool) -> Result<SocketAddr> {
    let is_v4 = cluster.nodes.iter().flat_map(|node| &node.addresses).any(IpAddr::is_ipv4);
    let loopback = if is_v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
    let address = mapping.listen.unwrap_or(loopback);
    let port = match (mapping.host_port, mapping.protocol) {
        (0, _) if !local => {
            return Err(Error::new(
                Code::UsageInvalid,
                "the engine is on another host, whose free ports are unknown; name one",
            ));
        }
        (0, Protocol::Udp) => ports::any_udp(address)?,
        (0, _) => ports::any(address)?,
        (port, _) => port,
    };
    Ok(SocketAddr::new(address, port))
}

/// The port that is meant, and the Service if it is one of a Service.
fn resolve(
    mapping: &Mapping,
    namespace: &str,
    services: &Value,
) -> Result<(u16, Option<FoundService>), (Code, String)> {
    let (name, of, wanted) = match &mapping.target {
        Target::Node(port) => return Ok((*port, None)),
        Target::Service { namespace: of, name, port } => (name, of.as_deref().unwrap_or(namespace), port),
    };
    let key = format!("{of}/{name}");
    let Some(service) = object::items(services).iter().find(|service| object::key(service) == key) else {
        let elsewhere = object::items(services).iter().find(|service| object::name(service) == name);
        let hint = elsewhere
            .and_then(object::namespace)
            .map(|other| format!("; namespace `{other}` has one: `--namespace {other}`"));
        let missing = format!("Service `{name}` does not exist in namespace `{of}`");
        return Err((Code::NotFound, missing + &hint.unwrap_or_default()));
    };
    let spec = &service["spec"];
    let addresses: Vec<IpAddr> =
        spec["clusterIPs"].as_array().into_iter().flatten().filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    if addresses.is_empty() {
        let kind =
            if spec["type"] == "ExternalName" { "it is an alias for an external name" } else { "it is headless" };
        let message = format!("Service `{key}` has no address of its own ({kind}); use a Service of type ClusterIP");
        return Err((Code::UsageInvalid, message));
    }
    let all = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_of = |port: &&Value| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let is_wanted = match wanted {
            ServicePort::Number(number) => port["port"] == *number,
            ServicePort::Name(name) => port["name"] == name.as_str(),
        };
        is_wanted && protocol.eq_ignore_ascii_case(mapping.protocol.as_str())
    };
    let number = all.iter().find(is_of).and_then(|port| u16::try_from(port["port"].as_u64()?).ok());
    let Some(number) = number else {
        let ports: Vec<String> = all.iter().map(port_text).collect();
        let message =
            format!("Service `{key}` has no port `{wanted}/{}`; it has {}", mapping.protocol, ports.join(", "));
        return Err((Code::NotFound, message));
    };
    let service = FoundService { namespace: of.to_owned(), name: name.clone(), addresses };
    Ok((number, Some(service)))
}

/// A port of a Service, as a mapping names it.
fn port_text(port: &Value) -> String {
    let protocol = port["protocol"].as_str().unwrap_or("TCP").to_lowercase();
    let name = port["name"].as_str().map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{}/{protocol}{name}", port["port"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(text: &str) -> Result<(u16, Option<FoundService>), (Code, String)> {
        let service = |name: &str, spec: Value| json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec});
        let ports = json!([{"port": 80, "name": "http"}, {"port": 53, "protocol": "UDP", "name": "dns"}]);
        let services = json!({"items": [
            service("web", json!({"clusterIPs": ["10.96.0.7"], "ports": ports})),
            service("headless", json!({"clusterIPs": ["None"], "ports": ports})),
            service("outside", json!({"type": "ExternalName"})),
        ]});
        resolve(&parse(text).unwrap()[0], "shop", &services)
    }

    #[test]
    fn a_port_of_a_service_is_found_by_number_and_by_name() {
        assert_eq!(told("8080:svc/web:http").unwrap().0, 80);
        let (port, service) = told("8080:svc/web:53/udp").unwrap();
        assert_eq!((port, service.unwrap().addresses), (53, vec![IpAddr::from([10, 96, 0, 7])]));
        assert_eq!(told("8080:30080").unwrap(), (30080, None));
    }

    #[test]
    fn what_a_service_does_not_have_is_told_with_what_it_has() {
        for (text, code, part) in [
            ("8080:svc/web:53", Code::NotFound, "it has 80/tcp (http), 53/udp (dns)"),
            ("8080:svc/default/web:80", Code::NotFound, "`--namespace shop`"),
            ("8080:svc/gone:80", Code::NotFound, "does not exist"),
            ("8080:svc/headless:80", Code::UsageInvalid, "headless"),
            ("8080:svc/outside:80", Code::UsageInvalid, "outside"),
        ] {
            let (found, message) = told(text).unwrap_err();
            assert!(found == code && message.contains(part), "{text}: {message}");
        }
    }
}
