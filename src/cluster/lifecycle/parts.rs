//! The containers of a cluster that are stopped, started and paused, and in which order.

use crate::cluster::astray;
use crate::cluster::found::{self, Cluster};
use crate::config::{ClusterName, Role};
use crate::engine::Engine;
use crate::engine::spec::{Container, State};
use crate::error::{Code, Error, Result, closest};
use crate::plan::labels::{self, ContainerRole};

/// The containers that a command is about.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The cluster as it was found.
    pub cluster: Cluster,
    /// What stops together, in this order; it starts in the reverse one. No one loses what is still needed: pods end while
    /// their API server runs, and control planes while the way to them is open.
    stages: [Vec<Container>; 3],
    /// Only these nodes, instead of all containers.
    pub nodes: Vec<String>,
}

impl Parts {
    /// All containers of a cluster.
    pub async fn of_cluster(engine: &dyn Engine, name: &ClusterName) -> Result<Self> {
        Self::new(engine, found::get(engine, name).await?, Vec::new()).await
    }

    /// These nodes, which must be of one cluster: that of the given name if there is one.
    pub async fn of_nodes(engine: &dyn Engine, name: Option<&ClusterName>, nodes: &[String]) -> Result<Self> {
        let clusters = found::list(engine).await?;
        let has = |cluster: &&Cluster| {
            nodes.iter().all(|node| cluster.nodes.iter().any(|other| other.name == *node))
                && name.is_none_or(|name| cluster.name == *name)
        };
        let Some(cluster) = clusters.iter().find(has) else { return Err(no_such_nodes(&clusters, name, nodes)) };
        Self::new(engine, cluster.clone(), nodes.to_vec()).await
    }

    async fn new(engine: &dyn Engine, cluster: Cluster, nodes: Vec<String>) -> Result<Self> {
        astray::require_names(&cluster)?;
        // Not only what this version knows by its role: whatever belongs to the cluster stops with it.
        let mut stages = [const { Vec::new() }; 3];
        for container in engine.containers(&[format!("{}={}", labels::CLUSTER, cluster.name)]).await? {
            if let Some(stage) = stage(&container)
                && (nodes.is_empty() || nodes.contains(&container.name))
            {
                stages[stage].push(container);
            }
        }
        Ok(Self { cluster, stages, nodes })
    }

    /// What is alive, by stage, in the order in which it stops.
    pub fn to_stop(&self) -> impl Iterator<Item = Vec<&Container>> {
        self.stages.iter().map(|stage| stage.iter().filter(|container| is_alive(container.state)).collect())
    }

    /// What does not run. It starts at the same time: the addresses are fixed, and whoever finds another one silent asks again.
    pub fn to_start(&self) -> impl Iterator<Item = &Container> {
        let idle = |state| !matches!(state, State::Running | State::Restarting);
        self.stages.iter().rev().flatten().filter(move |container| idle(container.state))
    }

    /// What is in this state.
    pub fn in_state(&self, state: State) -> impl Iterator<Item = &Container> {
        self.stages.iter().flatten().filter(move |container| container.state == state)
    }
}

/// Whether a container has processes.
pub fn is_alive(state: State) -> bool {
    matches!(state, State::Running | State::Paused | State::Restarting | State::Unknown)
}

/// When a container stops; `None` for what belongs to a command that runs.
fn stage(container: &Container) -> Option<usize> {
    match ContainerRole::of(&container.labels) {
        Some(ContainerRole::Reader) => None,
        _ if container.labels.contains_key(labels::HELPER) => None,
        Some(ContainerRole::Node(Role::Worker)) => Some(0),
        Some(ContainerRole::Node(Role::ControlPlane)) => Some(1),
        Some(ContainerRole::LoadBalancer | ContainerRole::Tunnel | ContainerRole::Port) | None => Some(2),
    }
}

fn no_such_nodes(clusters: &[Cluster], name: Option<&ClusterName>, nodes: &[String]) -> Error {
    let known = clusters.iter().filter(|cluster| name.is_none_or(|name| cluster.name == *name));
    let all: Vec<String> = known.flat_map(Cluster::node_names).collect();
    let of = name.map(|name| format!(" in cluster `{name}`")).unwrap_or_default();
    let Some(node) = nodes.iter().find(|node| !all.contains(node)) else {
        return Error::new(Code::UsageInvalid, "the nodes are of several clusters")
            .hint("name those of one cluster at a time; `coracle get nodes --all-clusters` lists them");
    };
    let error = Error::new(Code::NotFound, format!("there is no node `{node}`{of}"));
    match closest(node, all.iter().map(String::as_str)) {
        Some(meant) => error.hint(format!("`{meant}` is one")),
        None => error.hint("`coracle get nodes --all-clusters` lists the nodes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::{ContainerSpec, Labels};
    use crate::ui::{Ui, UiOptions};

    async fn engine() -> FakeEngine {
        let engine = FakeEngine::new(&["node"]);
        for (name, role) in [
            ("dev-load-balancer", "load-balancer"),
            ("dev-control-plane", "control-plane"),
            ("dev-worker", "worker"),
            ("dev-reader", "reader"),
            ("dev-other", "of-another-version"),
        ] {
            let labels = [(labels::CLUSTER, "dev"), (labels::ROLE, role)];
            let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            engine.create_container(&ContainerSpec { labels, ..ContainerSpec::new(name, "node") }).await.unwrap();
            engine.start_container(name).await.unwrap();
        }
        engine
    }

    fn names<'a>(stages: impl Iterator<Item = Vec<&'a Container>>) -> Vec<Vec<&'a str>> {
        stages.map(|stage| stage.iter().map(|container| container.name.as_str()).collect()).collect()
    }

    #[tokio::test]
    async fn what_is_still_needed_stops_later() {
        let (engine, dev) = (engine().await, "dev".parse().unwrap());
        engine.pause_container("dev-worker").await.unwrap();
        let parts = Parts::of_cluster(&engine, &dev).await.unwrap();
        let stages = [vec!["dev-worker"], vec!["dev-control-plane"], vec!["dev-load-balancer", "dev-other"]];
        assert_eq!(names(parts.to_stop()), stages);
        let ui = Ui::captured(UiOptions::default()).0;
        let stopped = crate::cluster::lifecycle::stop::stop(&engine, &parts, &ui.step("Stopping"), &ui).await.unwrap();
        assert_eq!(stopped, stages.concat());
        // The reader belongs to a command that loads an image.
        let running = engine.containers(&[]).await.unwrap().into_iter().filter(Container::is_running);
        assert_eq!(running.map(|container| container.name).collect::<Vec<_>>(), ["dev-reader"]);
        let parts = Parts::of_cluster(&engine, &dev).await.unwrap();
        let starting: Vec<_> = parts.to_start().map(|container| container.name.as_str()).collect();
        assert_eq!(starting, ["dev-load-balancer", "dev-other", "dev-control-plane", "dev-worker"]);
        assert_eq!(parts.to_stop().flatten().count(), 0);
    }

    #[tokio::test]
    async fn a_node_is_found_by_its_name_and_one_that_was_meant_is_told() {
        let engine = engine().await;
        let parts = Parts::of_nodes(&engine, None, &["dev-worker".to_owned()]).await.unwrap();
        assert_eq!(names(parts.to_stop()).concat(), ["dev-worker"]);
        let error = Parts::of_nodes(&engine, None, &["dev-workr".to_owned()]).await.unwrap_err();
        assert_eq!((error.code(), error.hints()), (Code::NotFound, &["`dev-worker` is one".to_owned()][..]));
    }
}
