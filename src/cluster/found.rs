//! Clusters: found by the labels of their containers, the only state outside the nodes.

use std::collections::BTreeMap;

use crate::config::{ClusterName, Role};
use crate::engine::Engine;
use crate::engine::spec::Container;
use crate::error::{Code, Error, Result};
use crate::plan::labels::{self, ContainerRole};

/// A cluster that the engine has containers of.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its nodes, control planes first, in the order of their numbers.
    pub nodes: Vec<Node>,
    /// The load balancer, if there is one.
    pub balancer: Option<Container>,
    /// The tunnel, while one is open.
    pub tunnel: Option<Container>,
}

/// A node of a cluster.
#[derive(Debug, Clone)]
pub struct Node {
    /// Container and Node name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its container.
    pub container: Container,
}

impl Node {
    /// Its fixed addresses, the one of the primary family first.
    pub fn addresses(&self) -> Vec<&str> {
        self.container.labels.get(labels::ADDRESS).map(|label| label.split(',').collect()).unwrap_or_default()
    }

    /// Whether its container runs.
    pub fn is_running(&self) -> bool {
        self.container.is_running()
    }
}

impl Cluster {
    /// Kubernetes version, such as `v1.36.3`.
    pub fn version(&self) -> &str {
        let label = self.nodes.first().and_then(|node| node.container.labels.get(labels::VERSION));
        label.map_or("", String::as_str)
    }

    /// The API server's address on the host.
    pub fn endpoint(&self) -> &str {
        let label = self.nodes.first().and_then(|node| node.container.labels.get(labels::ENDPOINT));
        label.map_or("", String::as_str)
    }

    /// Names of all nodes.
    pub fn node_names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The first control plane that runs, else the first one.
    pub fn control_plane(&self) -> Option<&Node> {
        let mut planes = self.nodes.iter().filter(|node| node.role == Role::ControlPlane);
        let first = planes.clone().next();
        planes.find(|node| node.is_running()).or(first)
    }
}

/// All clusters, by name.
pub async fn list(engine: &dyn Engine) -> Result<Vec<Cluster>> {
    Ok(group(engine.containers(&[labels::CLUSTER.to_owned()]).await?))
}

/// The cluster of this name.
pub async fn find(engine: &dyn Engine, name: &ClusterName) -> Result<Cluster> {
    let containers = engine.containers(&[format!("{}={name}", labels::CLUSTER)]).await?;
    match group(containers).pop() {
        Some(cluster) => Ok(cluster),
        None => Err(not_found(engine, name).await),
    }
}

async fn not_found(engine: &dyn Engine, name: &ClusterName) -> Error {
    let others = list(engine).await.unwrap_or_default();
    let names: Vec<_> = others.iter().map(|cluster| format!("`{}`", cluster.name)).collect();
    let error = Error::new(Code::ClusterNotFound, format!("there is no cluster `{name}`"));
    if names.is_empty() {
        error.hint(format!("create it: `coracle create cluster --name {name}`"))
    } else {
        error.hint(format!("there are: {}; choose one with `--name`", names.join(", ")))
    }
}

pub(crate) fn group(containers: Vec<Container>) -> Vec<Cluster> {
    let mut clusters: BTreeMap<String, Cluster> = BTreeMap::new();
    for container in containers {
        let Some(name) = container.labels.get(labels::CLUSTER).cloned() else { continue };
        let role = container.labels.get(labels::ROLE).and_then(|role| ContainerRole::find_by_label(role));
        let new = Cluster { name: name.clone(), nodes: Vec::new(), balancer: None, tunnel: None };
        let cluster = clusters.entry(name).or_insert(new);
        match role {
            Some(ContainerRole::LoadBalancer) => cluster.balancer = Some(container),
            Some(ContainerRole::Tunnel) => cluster.tunnel = Some(container),
            Some(ContainerRole::Node(role)) => {
                cluster.nodes.push(Node { name: container.name.clone(), role, container });
            }
            Some(ContainerRole::Reader) | None => {}
        }
    }
    for cluster in clusters.values_mut() {
        // A name with a number sorts after the shorter ones: worker, worker2, worker10.
        cluster.nodes.sort_by_key(|node| (node.role, node.name.len(), node.name.clone()));
    }
    clusters.into_values().collect()
}
