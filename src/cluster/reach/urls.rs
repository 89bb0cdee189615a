//! Where a Service is reachable from this host.

use std::net::IpAddr;

use serde_json::Value;

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::engine::Engine;
use crate::engine::spec::{EngineInfo, PortBinding};
use crate::error::{Code, Error, Result};
use crate::plan::beside::tunnel;
use crate::plan::reachable_address;

/// A way to reach a port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// Name of the Service's port, empty for the only one.
    pub port: String,
    /// The URL.
    pub url: String,
}

/// Whether node addresses can be reached from here: only where the engine's bridges are this host's. Docker Desktop has
/// them in a virtual machine, and an engine without root rights in a network of its own.
pub fn reaches_nodes(engine: &EngineInfo, is_local: bool) -> bool {
    cfg!(target_os = "linux") && is_local && !engine.rootless && !engine.operating_system.contains("Docker Desktop")
}

/// URLs of a Service: published host ports first, then the tunnel, load balancer and node addresses.
pub async fn urls(
    engine: &dyn Engine,
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    reaches_nodes: bool,
) -> Result<Vec<Reach>> {
    let client = access::client(engine, cluster).await?;
    let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
    let service = client.get(&path).await.map_err(|failure| {
        Error::new(Code::NotFound, format!("there is no Service `{name}` in name space `{namespace}`"))
            .because(failure.text())
            .hint("`kubectl get services --all-namespaces` lists them; choose the name space with `--namespace`")
    })?;
    let urls = of_service(&service, cluster, reaches_nodes);
    if urls.is_empty() {
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP");
        let error = Error::new(Code::NotFound, format!("Service `{name}` cannot be reached from this host"));
        if kind == "LoadBalancer" && reaches_nodes {
            return Err(error
                .because("it has no address yet")
                .hint(format!("`kubectl describe service {name} --namespace {namespace}` shows why, in its events")));
        }
        if kind == "LoadBalancer" {
            return Err(error
                .because("the engine's networks are not this host's")
                .hint(format!("`coracle tunnel {name} --namespace {namespace}` makes it answer on this host")));
        }
        return Err(error.because(format!("its type is {kind}")).hint(format!(
            "`kubectl expose` it with `--type=NodePort`, or `kubectl port-forward service/{name} 8080:80`"
        )));
    }
    Ok(urls)
}

fn of_service(service: &Value, cluster: &Cluster, reaches_nodes: bool) -> Vec<Reach> {
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().map(Vec::as_slice).unwrap_or_default();
    let nodes = cluster.nodes.first().map(crate::cluster::Node::addresses).unwrap_or_default();
    let nodes: Vec<&str> = nodes.into_iter().filter(|address| has_family(service, address)).collect();
    let mut all = Vec::new();
    for port in ports {
        let title = port["name"].as_str().unwrap_or_default();
        let add = |all: &mut Vec<Reach>, address: &str, number: u64| {
            all.push(Reach { port: title.to_owned(), url: url(port, address, number) });
        };
        let node_port = port["nodePort"].as_u64().filter(|number| *number > 0);
        if let Some(node_port) = node_port {
            for (address, number) in published(cluster, node_port, port["protocol"].as_str().unwrap_or("TCP")) {
                add(&mut all, &address.to_string(), number.into());
            }
        }
        let number = port["port"].as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or_default();
        for (address, number) in through_tunnel(cluster, service, number, port["protocol"].as_str().unwrap_or("TCP")) {
            add(&mut all, &address.to_string(), number.into());
        }
        if reaches_nodes {
            for address in ingress.iter().filter_map(|one| one["ip"].as_str()) {
                add(&mut all, address, number.into());
            }
            for (node_port, address) in node_port.iter().flat_map(|port| nodes.iter().map(move |node| (port, node))) {
                add(&mut all, address, *node_port);
            }
        }
    }
    all
}

/// Whether a Service has addresses of the family of this one: on its other addresses a node does not answer for it.
fn has_family(service: &Value, address: &str) -> bool {
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    service["spec"]["ipFamilies"].as_array().is_none_or(|families| families.iter().any(|one| one == family))
}

/// Host addresses and ports that lead to this port of a node.
fn published(cluster: &Cluster, node_port: u64, protocol: &str) -> Vec<(IpAddr, u16)> {
    matching(cluster.nodes.iter().flat_map(|node| &node.container.ports), node_port, protocol)
}

/// Host address and port of an open tunnel that lead to this port of the Service.
fn through_tunnel(cluster: &Cluster, service: &Value, port: u16, protocol: &str) -> Vec<(IpAddr, u16)> {
    let Some(container) = &cluster.tunnel else { return Vec::new() };
    let text = |key: &str| service["metadata"][key].as_str().unwrap_or_default();
    let name = format!("{}/{}", text("namespace"), text("name"));
    match tunnel::container_port(&container.labels, &name, port, &protocol.to_lowercase()) {
        Some(inside) => matching(container.ports.iter(), inside.into(), protocol),
        None => Vec::new(),
    }
}

fn matching<'a>(ports: impl Iterator<Item = &'a PortBinding>, inside: u64, protocol: &str) -> Vec<(IpAddr, u16)> {
    let matching = ports.filter(|port| {
        u64::from(port.container_port) == inside && port.protocol.as_str().eq_ignore_ascii_case(protocol)
    });
    let mut all: Vec<(IpAddr, u16)> =
        matching.map(|port| (reachable_address(port.host_address), port.host_port)).collect();
    all.dedup();
    all
}

/// `http` unless the port says otherwise by its name or number.
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Role;
    use crate::engine::spec::{Container, Labels, Protocol, State};

    fn cluster(ports: Vec<PortBinding>) -> Cluster {
        let labels = Labels::from([(crate::plan::labels::ADDRESS.to_owned(), "172.18.0.3".to_owned())]);
        let container = Container {
            id: String::new(),
            name: "dev-control-plane".to_owned(),
            image: String::new(),
            state: State::Running,
            labels,
            addresses: Vec::new(),
            networks: Vec::new(),
            network_ids: Vec::new(),
            ports,
            created: 0,
        };
        let node = crate::cluster::found::Node { name: container.name.clone(), role: Role::ControlPlane, container };
        Cluster { name: "dev".to_owned(), nodes: vec![node], balancer: None, tunnel: None }
    }

    #[test]
    fn a_published_port_comes_before_the_nodes_address() {
        let service =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}});
        let binding = PortBinding {
            host_address: "0.0.0.0".parse().unwrap(),
            host_port: 8080,
            container_port: 30080,
            protocol: Protocol::Tcp,
        };
        let urls: Vec<_> =
            of_service(&service, &cluster(vec![binding]), true).into_iter().map(|reach| reach.url).collect();
        assert_eq!(urls, ["http://127.0.0.1:8080", "http://172.18.0.3:30080"]);
        let urls = of_service(&service, &cluster(Vec::new()), false);
        assert!(urls.is_empty());
    }

    #[test]
    fn node_addresses_are_those_of_the_services_families() {
        let mut cluster = cluster(Vec::new());
        let label = cluster.nodes[0].container.labels.get_mut(crate::plan::labels::ADDRESS).unwrap();
        "172.18.0.3,fdc0:ac1e::3".clone_into(label);
        let urls = |families: &[&str]| -> Vec<String> {
            let ports = json!([{"port": 80, "nodePort": 30080}]);
            let service = json!({"spec": {"type": "NodePort", "ipFamilies": families, "ports": ports}});
            of_service(&service, &cluster, true).into_iter().map(|reach| reach.url).collect()
        };
        assert_eq!(urls(&["IPv6"]), ["http://[fdc0:ac1e::3]:30080"]);
        assert_eq!(urls(&["IPv4", "IPv6"]), ["http://172.18.0.3:30080", "http://[fdc0:ac1e::3]:30080"]);
    }

    #[test]
    fn an_address_counts_where_it_can_be_reached_and_a_tunnel_everywhere() {
        let service = json!({
            "metadata": {"namespace": "n", "name": "s"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "172.18.1.1"}]}},
        });
        let urls = |cluster: &Cluster, reaches_nodes| -> Vec<String> {
            of_service(&service, cluster, reaches_nodes).into_iter().map(|reach| reach.url).collect()
        };
        let mut cluster = cluster(Vec::new());
        assert_eq!(urls(&cluster, true), ["http://172.18.1.1:80"]);
        assert!(urls(&cluster, false).is_empty());
        let forward = tunnel::Forward {
            service: "n/s".to_owned(),
            port: 80,
            protocol: Protocol::Tcp,
            scheme: "http".to_owned(),
            address: "172.18.1.1".parse().unwrap(),
            host_port: 8080,
        };
        let spec = tunnel::plan("dev", "image", "run", std::slice::from_ref(&forward)).spec;
        let container = cluster.nodes[0].container.clone();
        cluster.tunnel = Some(Container { labels: spec.labels, ports: spec.ports, ..container });
        assert_eq!(urls(&cluster, false), ["http://127.0.0.1:8080"]);
        assert_eq!(forward.url(), "http://127.0.0.1:8080");
    }

    #[test]
    fn a_cluster_ip_service_has_no_url() {
        let service = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}});
        assert!(of_service(&service, &cluster(Vec::new()), true).is_empty());
    }
}
