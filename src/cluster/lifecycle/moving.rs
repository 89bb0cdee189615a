//! Ports of this host that someone took while a cluster was stopped: others take their place.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cluster::astray;
use crate::cluster::lifecycle::bindings::{published, taken_now};
use crate::cluster::lifecycle::parts::Parts;
use crate::config::Role;
use crate::engine::spec::{Container, Labels, PortBinding, Protocol, State};
use crate::engine::{Engine, REPLACED};
use crate::error::Result;
use crate::host::ports;
use crate::plan::labels::{self, ContainerRole};
use crate::plan::layout::API_PORT;

/// A port that leads where another one led.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// The container that publishes it.
    pub container: String,
    /// The address on the host.
    pub address: String,
    pub from: u16,
    pub to: u16,
    pub protocol: Protocol,
    /// Who has the port that it was.
    pub taken: String,
}

/// Completes what a command that was killed had begun.
pub(super) async fn complete(engine: &dyn Engine, parts: &Parts) -> Result<bool> {
    let half: Vec<Container> =
        parts.to_start().filter(|container| container.name.ends_with(REPLACED)).cloned().collect();
    for container in &half {
        engine.republish(&container.id, &published(engine, &container.id).await?, &container.labels).await?;
    }
    Ok(!half.is_empty())
}

/// Completes a `node add` that was killed while the load balancer took over the API's port: the control plane that had it gives
/// it up. Returns what there is to start then; `None` if nothing was in the middle.
pub(super) async fn take_over(engine: &dyn Engine, parts: &Parts) -> Result<Option<Parts>> {
    let cluster = &parts.cluster;
    let is_of_api = |port: &PortBinding| port.container_port == API_PORT;
    let all = engine.containers(&[format!("{}={}", labels::CLUSTER, cluster.name)]).await?;
    let is_balancer = |other: &&Container| ContainerRole::of(&other.labels) == Some(ContainerRole::LoadBalancer);
    let mut balancers = all.iter().filter(is_balancer);
    // Killed while the balancer was recreated.
    let half = balancers.clone().find(|balancer| balancer.name.ends_with(REPLACED));
    let Some(balancer) = half.or(balancers.next()) else { return Ok(None) };
    if half.is_none() && !published(engine, &balancer.id).await?.iter().any(is_of_api) {
        return Ok(None);
    }
    let mut of_api = Vec::new();
    for node in cluster.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
        let (api, own): (Vec<_>, Vec<_>) =
            published(engine, &node.container.id).await?.into_iter().partition(|port| is_of_api(port));
        if !api.is_empty() {
            if node.is_running() {
                engine.stop_container(&node.container.id, 0).await?;
            }
            // It lost its port with its network.
            astray::reconnect(engine, cluster, std::iter::once(&node.container)).await?;
            engine.republish(&node.container.id, &own, &node.container.labels).await?;
            of_api.extend(api);
        }
    }
    if of_api.is_empty() {
        return Ok(None);
    }
    if let Some(half) = half {
        engine.republish(&half.id, &of_api, &half.labels).await?;
    }
    if parts.nodes.is_empty() {
        Parts::of_cluster(engine, &cluster.name).await.map(Some)
    } else {
        Parts::of_nodes(engine, Some(&cluster.name), &parts.nodes).await.map(Some)
    }
}

/// Gives what is about to start free ports in the place of those that others have. Its containers are made anew, and are the
/// same in everything else.
pub(super) async fn move_taken(engine: &dyn Engine, parts: &Parts) -> Result<Vec<Moved>> {
    let mut moved = Vec::new();
    for container in parts.to_start().filter(|container| container.state != State::Paused) {
        let own = published(engine, &container.id).await?;
        let others = engine.containers(&[]).await?;
        let mut instead = BTreeMap::new();
        for (index, binding) in own.iter().enumerate() {
            if let Some(user) = taken_now(engine, binding, &others) {
                let address = binding.host_address;
                let to =
                    if binding.protocol == Protocol::Udp { ports::any_udp(address)? } else { ports::any(address)? };
                instead.insert(index, (to, user));
            }
        }
        if instead.is_empty() {
            continue;
        }
        let port = |(index, binding): (usize, &PortBinding)| PortBinding {
            host_port: instead.get(&index).map_or(binding.host_port, |(to, _)| *to),
            ..binding.clone()
        };
        let all: Vec<PortBinding> = own.iter().enumerate().map(port).collect();
        engine.republish(&container.id, &all, &labels_with(container, &own, &all)).await?;
        moved.extend(instead.into_iter().map(|(index, (to, taken))| Moved {
            container: container.name.clone(),
            address: own[index].host_address.to_string(),
            from: own[index].host_port,
            to,
            protocol: own[index].protocol,
            taken,
        }));
    }
    Ok(moved)
}

/// The labels of a container whose ports are these instead of those.
fn labels_with(container: &Container, before: &[PortBinding], now: &[PortBinding]) -> Labels {
    let mut all = container.labels.clone();
    let role = ContainerRole::of(&all);
    for (before, now) in before.iter().zip(now).filter(|(before, now)| before.host_port != now.host_port) {
        if role == Some(ContainerRole::Port)
            && let Some(published) = all.get_mut(labels::PUBLISHED)
        {
            *published = published.replace(&format!(":{}/", before.host_port), &format!(":{}/", now.host_port));
        } else if now.container_port == API_PORT
            && let Some(endpoint) = all.get_mut(labels::ENDPOINT)
            && let Some(server) = endpoint.strip_suffix(&format!(":{}", before.host_port))
        {
            *endpoint = format!("{server}:{}", now.host_port);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::inside::Inside;
    use crate::engine::spec::ContainerSpec;

    fn binding(host_port: u16, container_port: u16) -> PortBinding {
        let host_address = "127.0.0.1".parse().unwrap();
        PortBinding { host_address, host_port, container_port, protocol: Protocol::Tcp }
    }

    #[tokio::test]
    async fn only_the_port_that_is_taken_moves_and_the_labels_say_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, free) = (listener.local_addr().unwrap().port(), ports::any("127.0.0.1".parse().unwrap()).unwrap());
        let engine = FakeEngine::new(&["node"]);
        let endpoint = format!("https://127.0.0.1:{port}");
        let values = [(labels::CLUSTER, "dev"), (labels::ROLE, "control-plane"), (labels::ENDPOINT, &endpoint)];
        let spec = ContainerSpec {
            labels: values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ports: vec![binding(port, API_PORT), binding(free, 80)],
            ..ContainerSpec::new("dev-control-plane", "node")
        };
        engine.create_container(&spec).await.unwrap();
        let name = "dev".parse().unwrap();
        let parts = Parts::of_cluster(&engine, &name).await.unwrap();
        let moved = move_taken(&engine, &parts).await.unwrap();
        assert_eq!((moved.len(), moved[0].from), (1, port));
        assert!(moved[0].taken.contains("uses it"), "{moved:?}");
        let parts = Parts::of_cluster(&engine, &name).await.unwrap();
        assert_eq!(parts.cluster.endpoint, Some(format!("https://127.0.0.1:{}", moved[0].to)));
        let inspected = engine.inspect("dev-control-plane").await.unwrap().unwrap();
        let now = inspected.ports;
        assert!(now.contains(&binding(moved[0].to, API_PORT)) && now.contains(&binding(free, 80)), "{now:?}");
        // Nothing is left to move.
        assert!(move_taken(&engine, &parts).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_was_killed_in_the_middle_is_completed() {
        let engine = FakeEngine::new(&["node"]);
        let values = [(labels::CLUSTER, "dev"), (labels::ROLE, "worker")];
        let labels = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let spec = ContainerSpec { labels, ..ContainerSpec::new(format!("dev-worker{REPLACED}"), "node") };
        engine.create_container(&spec).await.unwrap();
        let name = "dev".parse().unwrap();
        let parts = Parts::of_cluster(&engine, &name).await.unwrap();
        assert!(complete(&engine, &parts).await.unwrap());
        let parts = Parts::of_cluster(&engine, &name).await.unwrap();
        assert_eq!(parts.cluster.nodes[0].name, "dev-worker");
        assert!(!complete(&engine, &parts).await.unwrap());
    }

    #[tokio::test]
    async fn a_load_balancer_that_was_to_have_the_apis_port_gets_it() {
        let engine = FakeEngine::new(&["node"]);
        for (name, role) in [("dev-control-plane", "control-plane"), ("dev-load-balancer", "load-balancer")] {
            let values = [(labels::CLUSTER, "dev"), (labels::ROLE, role)];
            let labels = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let ports = vec![binding(40000, API_PORT), binding(40001, 80)];
            let spec = ContainerSpec { labels, ports, ..ContainerSpec::new(name, "node") };
            engine.create_container(&spec).await.unwrap();
        }
        engine.start_container("dev-control-plane").await.unwrap();
        let parts = Parts::of_cluster(&engine, &"dev".parse().unwrap()).await.unwrap();
        let now = take_over(&engine, &parts).await.unwrap().unwrap();
        let names: Vec<&str> = now.to_start().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["dev-load-balancer", "dev-control-plane"]);
        let inspected = engine.inspect("dev-control-plane").await.unwrap().unwrap();
        assert_eq!(inspected.ports, [binding(40001, 80)]);
        assert!(take_over(&engine, &now).await.unwrap().is_none());

        // Killed while the load balancer, which runs, was recreated with the port.
        for (name, role, ports) in [
            (format!("dev-load-balancer{REPLACED}"), "load-balancer", Vec::new()),
            ("dev-control-plane".to_owned(), "control-plane", vec![binding(40000, API_PORT)]),
        ] {
            engine.remove_container(name.trim_end_matches(REPLACED)).await.unwrap();
            let values = [(labels::CLUSTER, "dev"), (labels::ROLE, role)];
            let labels = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            engine
                .create_container(&ContainerSpec { labels, ports, ..ContainerSpec::new(&name, "node") })
                .await
                .unwrap();
            engine.start_container(&name).await.unwrap();
        }
        let parts = Parts::of_cluster(&engine, &"dev".parse().unwrap()).await.unwrap();
        let now = take_over(&engine, &parts).await.unwrap().unwrap();
        assert_eq!(now.cluster.balancer.as_ref().unwrap().name, "dev-load-balancer");
        assert_eq!(published(&engine, "dev-load-balancer").await.unwrap(), [binding(40000, API_PORT)]);
        assert_eq!(published(&engine, "dev-control-plane").await.unwrap(), []);

        // Killed when the load balancer had the port already, which the control plane has lost with its network.
        engine.start_container("dev-load-balancer").await.unwrap();
        let labels = engine.inspect("dev-control-plane").await.unwrap().unwrap().labels;
        engine.republish("dev-control-plane", &[binding(40000, API_PORT)], &labels).await.unwrap();
        let parts = Parts::of_cluster(&engine, &"dev".parse().unwrap()).await.unwrap();
        assert!(take_over(&engine, &parts).await.unwrap().is_some());
        assert_eq!(published(&engine, "dev-control-plane").await.unwrap(), []);
    }

    #[test]
    fn a_forwarders_label_has_its_new_port() {
        let mut container = Container {
            volumes: Vec::new(),
            id: String::new(),
            name: "dev-port-8080-tcp".to_owned(),
            image: String::new(),
            state: State::Exited,
            labels: Labels::new(),
            addresses: Vec::new(),
            networks: Vec::new(),
            network_ids: Vec::new(),
            ports: Vec::new(),
            created: 0,
        };
        container.labels.insert(labels::ROLE.to_owned(), "port".to_owned());
        container.labels.insert(labels::PUBLISHED.to_owned(), "127.0.0.1:8080/tcp".to_owned());
        let all = labels_with(&container, &[binding(8080, 8080)], &[binding(9090, 8080)]);
        assert_eq!(all[labels::PUBLISHED], "127.0.0.1:9090/tcp");
    }
}
