//! The URLs at which this host reaches a Service.

use std::net::IpAddr;

use serde_json::Value;

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::engine::Engine;
use crate::engine::spec::{EngineInfo, PortBinding};
use crate::error::{Code, Error, Result};
use crate::kubernetes::object;
use crate::plan::beside::tunnel;
use crate::plan::reachable_address;

/// A URL of a port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceUrl {
    /// Name of the Service's port, empty for the only one.
    pub port: String,
    pub url: String,
}

/// Whether this host reaches the addresses of nodes: only if the engine's bridges are on it. Docker Desktop has them in a
/// virtual machine, and a rootless engine has them in a network of its own.
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
) -> Result<Vec<ServiceUrl>> {
    let client = access::client(engine, cluster).await?;
    let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
    let service = client.get(&path).await.map_err(|failure| {
        Error::new(Code::NotFound, format!("Service `{name}` does not exist in namespace `{namespace}`"))
            .because(failure.text())
            .hint("`kubectl get services --all-namespaces` lists the Services; choose the namespace with `--namespace`")
    })?;
    let urls = of_service(&service, cluster, reaches_nodes);
    if urls.is_empty() {
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP");
        let error = Error::new(Code::NotFound, format!("Service `{name}` cannot be reached from this host"));
        if kind == "LoadBalancer" && reaches_nodes {
            return Err(error.because("it has no address yet").hint(format!(
                "`kubectl describe service {name} --namespace {namespace}` shows the reason in its events"
            )));
        }
        if kind == "LoadBalancer" {
            return Err(error
                .because("the engine's networks are not on this host")
                .hint(format!("`coracle tunnel {name} --namespace {namespace}` makes it reachable at this host")));
        }
        return Err(error.because(format!("its type is {kind}")).hint(format!(
            "`kubectl expose` it with `--type=NodePort`, or `kubectl port-forward service/{name} 8080:80`"
        )));
    }
    Ok(urls)
}

fn of_service(service: &Value, cluster: &Cluster, reaches_nodes: bool) -> Vec<ServiceUrl> {
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().map(Vec::as_slice).unwrap_or_default();
    let addresses = cluster.nodes.first().map(|node| node.addresses.as_slice()).unwrap_or_default();
    let addresses: Vec<IpAddr> = addresses.iter().copied().filter(|address| has_family(service, *address)).collect();
    let mut all = Vec::new();
    for port in ports {
        let title = port["name"].as_str().unwrap_or_default();
        let add = |all: &mut Vec<ServiceUrl>, address: &str, number: u64| {
            all.push(ServiceUrl { port: title.to_owned(), url: url(port, address, number) });
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
            for address in ingress.iter().filter_map(|entry| entry["ip"].as_str()) {
                add(&mut all, address, number.into());
            }
            for (number, address) in node_port.iter().flat_map(|port| addresses.iter().map(move |node| (port, node))) {
                add(&mut all, &address.to_string(), *number);
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

/// Host addresses and ports that are published for this port of a node.
fn published(cluster: &Cluster, node_port: u64, protocol: &str) -> Vec<(IpAddr, u16)> {
    matching(cluster.nodes.iter().flat_map(|node| &node.container.ports), node_port, protocol)
}

/// Host addresses and ports of an open tunnel that lead to this port of the Service.
fn through_tunnel(cluster: &Cluster, service: &Value, port: u16, protocol: &str) -> Vec<(IpAddr, u16)> {
    let Some(container) = &cluster.tunnel else { return Vec::new() };
    let name = object::key(service);
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::found::group;
    use crate::engine::spec::{Container, Labels, Protocol, State};
    use crate::plan::labels;

    fn cluster(ports: Vec<PortBinding>) -> Cluster {
        let labels = [(labels::CLUSTER, "dev"), (labels::ROLE, "control-plane"), (labels::ADDRESS, "172.18.0.3")];
        let labels = Labels::from(labels.map(|(key, value)| (key.to_owned(), value.to_owned())));
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
        group(vec![container]).pop().unwrap()
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
            of_service(&service, &cluster(vec![binding]), true).into_iter().map(|service| service.url).collect();
        assert_eq!(urls, ["http://127.0.0.1:8080", "http://172.18.0.3:30080"]);
        let urls = of_service(&service, &cluster(Vec::new()), false);
        assert!(urls.is_empty());
    }

    #[test]
    fn node_addresses_are_those_of_the_services_families() {
        let mut cluster = cluster(Vec::new());
        cluster.nodes[0].addresses.push("fdc0:ac1e::3".parse().unwrap());
        let urls = |families: &[&str]| -> Vec<String> {
            let ports = json!([{"port": 80, "nodePort": 30080}]);
            let service = json!({"spec": {"type": "NodePort", "ipFamilies": families, "ports": ports}});
            of_service(&service, &cluster, true).into_iter().map(|service| service.url).collect()
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
            of_service(&service, cluster, reaches_nodes).into_iter().map(|service| service.url).collect()
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
