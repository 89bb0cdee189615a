//! Ports of this host that lead to Services while a tunnel is open.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use serde_json::Value;

use crate::cluster::access;
use crate::cluster::found::{self, Cluster};
use crate::cluster::lifecycle::provision;
use crate::cluster::ownership;
use crate::cluster::service::urls;
use crate::engine::spec::{Labels, Protocol};
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Reason, Result};
use crate::host::ports;
use crate::kubernetes::object;
use crate::plan::beside::tunnel::{self, Forward};
use crate::plan::labels::{self, ContainerRole};
use crate::plan::ownership::Names;
use crate::ui::Step;

/// The forwards to these Services, or to all that have an address if none is named.
pub async fn forwards(
    engine: &SharedEngine,
    cluster: &Cluster,
    namespace: &str,
    names: &[String],
) -> Result<Vec<Forward>> {
    let client = access::client(&**engine, cluster).await?;
    let list = client
        .get("/api/v1/services")
        .await
        .map_err(|failure| Error::new(Code::ApiFailed, "cannot list the Services").because(failure.text()))?;
    let services = object::items(&list);
    let mut forwards = Vec::new();
    for name in names {
        let key = format!("{namespace}/{name}");
        let found = services
            .iter()
            .find(|service| object::key(service) == key)
            .map(forwards_to)
            .transpose()?
            .unwrap_or_default();
        if found.is_empty() {
            return Err(Error::new(
                Code::NotFound,
                format!("Service `{name}` in namespace `{namespace}` has no IPv4 address"),
            )
            .hint("`kubectl get services --all-namespaces` lists the Services; only those of type LoadBalancer get an address"));
        }
        forwards.extend(found);
    }
    if names.is_empty() {
        for service in services {
            forwards.extend(forwards_to(service)?);
        }
    }
    if forwards.is_empty() {
        return Err(Error::new(Code::NotFound, "no Service has an IPv4 address")
            .hint("`kubectl expose deployment NAME --type=LoadBalancer --port=80` creates a Service that gets one"));
    }
    Ok(forwards)
}

/// The forwards to a Service; none if it has no address.
fn forwards_to(service: &Value) -> Result<Vec<Forward>> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().map(Vec::as_slice).unwrap_or_default();
    let address = ingress.iter().find_map(|entry| entry["ip"].as_str()?.parse::<Ipv4Addr>().ok());
    let mut forwards = Vec::new();
    let Some(address) = address else { return Ok(forwards) };
    for port in service["spec"]["ports"].as_array().into_iter().flatten() {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_lowercase().parse().unwrap_or(Protocol::Sctp);
        let number = port["port"].as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or_default();
        if protocol == Protocol::Sctp || number == 0 {
            continue;
        }
        let host_port = host_port(number, protocol)?;
        forwards.push(Forward {
            service: object::key(service),
            port: number,
            protocol,
            scheme: urls::scheme(port),
            address,
            host_port,
        });
    }
    Ok(forwards)
}

/// The Service's own port if this user may bind it and it is free, else another free one.
fn host_port(wanted: u16, protocol: Protocol) -> Result<u16> {
    let local = IpAddr::from([127, 0, 0, 1]);
    let is_free = if protocol == Protocol::Udp {
        UdpSocket::bind((local, wanted)).is_ok()
    } else {
        TcpListener::bind((local, wanted)).is_ok()
    };
    if wanted >= 1024 && is_free { Ok(wanted) } else { ports::any(local) }
}

/// Opens the tunnel as `run`, and closes one that is already open.
pub async fn open(
    engine: &SharedEngine,
    cluster: &Cluster,
    forwards: &[Forward],
    run: &str,
    step: &Step,
) -> Result<()> {
    let node = cluster.nodes.first().ok_or_else(|| Error::new(Code::NotFound, "the cluster has no node"))?;
    let mut plan = tunnel::plan(cluster.name.as_str(), &node.container.image, run, forwards);
    // It ends with the cluster.
    plan.spec.labels.extend(cluster.expires.map(|expiry| (labels::EXPIRES.to_owned(), expiry.to_string())));
    // A tunnel of this cluster is closed; whatever else has the name stays.
    let is_own = |labels: &Labels| {
        found::cluster_of(labels).as_ref() == Some(&cluster.name)
            && ContainerRole::of(labels) == Some(ContainerRole::Tunnel)
    };
    ownership::require_free(&**engine, &Names::of([&plan.spec]), (Code::NameTaken, None), is_own).await?;
    remove(&**engine, &format!("{}={}", labels::CLUSTER, cluster.name)).await?;
    let network = plan.spec.network.clone().unwrap_or_default();
    let name = plan.spec.name.clone();
    provision::nodes(&**engine, &[plan], &network, step).await.map_err(|error| match error.reason() {
        Some(Reason::NameTaken) => {
            error.with_code(Code::NameTaken).hint(format!("`docker inspect {name}` shows what has the name"))
        }
        _ => error,
    })
}

/// Closes the tunnel that was opened as `run`, and not one that has taken its place.
pub async fn close(engine: &dyn Engine, run: &str) -> Result<()> {
    remove(engine, &format!("{}={run}", labels::RUN)).await
}

/// Removes tunnels by their labels: a container that only has a tunnel's name is someone else's.
async fn remove(engine: &dyn Engine, label: &str) -> Result<()> {
    let role = format!("{}={}", labels::ROLE, ContainerRole::Tunnel.as_str());
    for container in engine.containers(&[label.to_owned(), role]).await? {
        engine.remove_container(&container.id).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::ContainerSpec;

    #[test]
    fn every_port_of_a_service_with_an_address_is_forwarded() {
        let ports = json!([{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 9, "protocol": "SCTP"}]);
        let service = json!({
            "metadata": {"namespace": "n", "name": "s"}, "spec": {"ports": ports},
            "status": {"loadBalancer": {"ingress": [{"ip": "fd00::1"}, {"ip": "172.18.1.1"}]}},
        });
        let forwards = forwards_to(&service).unwrap();
        let ports: Vec<_> = forwards
            .iter()
            .map(|forward| (forward.service.as_str(), forward.port, forward.protocol.as_str()))
            .collect();
        assert_eq!(ports, [("n/s", 80, "tcp"), ("n/s", 53, "udp")]);
        assert!(forwards.iter().all(|forward| forward.host_port >= 1024));
        assert!(forwards_to(&json!({"spec": {"ports": [{"port": 80}]}})).unwrap().is_empty());
    }

    #[test]
    fn a_port_that_is_taken_is_not_chosen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert_ne!(host_port(taken, Protocol::Tcp).unwrap(), taken);
        drop(listener);
        assert_eq!(host_port(taken, Protocol::Tcp).unwrap(), taken);
    }

    #[tokio::test]
    async fn only_the_tunnel_of_a_run_is_removed() {
        let engine: SharedEngine = Arc::new(FakeEngine::new(&["app"]));
        let tunnel = |name: &str, run: &str| ContainerSpec {
            labels: Labels::from([
                (labels::CLUSTER.to_owned(), "dev".to_owned()),
                (labels::ROLE.to_owned(), ContainerRole::Tunnel.as_str().to_owned()),
                (labels::RUN.to_owned(), run.to_owned()),
            ]),
            ..ContainerSpec::new(name, "app")
        };
        engine.create_container(&ContainerSpec::new("dev-tunnel", "app")).await.unwrap();
        engine.create_container(&tunnel("one", "1")).await.unwrap();
        engine.create_container(&tunnel("two", "2")).await.unwrap();
        close(&*engine, "1").await.unwrap();
        let left: Vec<String> =
            engine.containers(&[]).await.unwrap().into_iter().map(|container| container.name).collect();
        assert_eq!(left, ["dev-tunnel", "two"]);
    }
}
