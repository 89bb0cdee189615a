//! How a cluster does: its containers, its API server and its nodes.

use serde::Serialize;
use serde_json::Value;

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::cluster::lifecycle::create::is_alive;
use crate::engine::Engine;
use crate::engine::spec::State;
use crate::kubernetes::ready::unready;

/// How a cluster does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Name of the cluster.
    pub name: String,
    /// Kubernetes version.
    pub version: String,
    /// The API server's address on the host.
    pub endpoint: String,
    /// The API server answers.
    pub api_alive: bool,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
}

/// How a node does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Container and Node name.
    pub name: String,
    /// What it does.
    pub role: String,
    /// State of its container.
    pub container: State,
    /// Its address in the cluster's network.
    pub address: String,
    /// Kubernetes version of its image.
    pub version: String,
    /// Name of its image.
    pub image: String,
    /// The Node object is Ready.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl Status {
    /// Everything runs and is Ready.
    pub fn is_healthy(&self) -> bool {
        self.api_alive && self.nodes.iter().all(|node| node.ready)
    }
}

/// Nodes as their containers tell, without asking the API.
pub fn nodes(cluster: &Cluster) -> Vec<NodeStatus> {
    cluster
        .nodes
        .iter()
        .map(|node| NodeStatus {
            name: node.name.clone(),
            role: node.role.as_str().to_owned(),
            container: node.container.state,
            address: node.container.labels.get(crate::plan::labels::ADDRESS).cloned().unwrap_or_default(),
            version: node.container.labels.get(crate::plan::labels::VERSION).cloned().unwrap_or_default(),
            image: node.container.labels.get(crate::plan::labels::IMAGE).unwrap_or(&node.container.image).clone(),
            ready: false,
            cause: None,
        })
        .collect()
}

/// Asks containers and the API how the cluster does.
pub async fn status(engine: &dyn Engine, cluster: &Cluster) -> Status {
    let mut nodes = nodes(cluster);
    let client = access::client(engine, cluster).await.ok();
    let mut api_alive = false;
    let mut list = Value::Null;
    if let Some(client) = &client {
        api_alive = is_alive(client).await;
        list = client.get("/api/v1/nodes").await.unwrap_or_default();
    }
    let objects = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    for node in &mut nodes {
        let cause = match objects.iter().find(|object| object["metadata"]["name"] == *node.name) {
            _ if node.container != State::Running => Some(format!("its container is {}", node.container)),
            None if api_alive => Some("it is not registered".to_owned()),
            None => Some("the API server does not answer".to_owned()),
            Some(object) => unready(object),
        };
        node.ready = cause.is_none();
        node.cause = cause;
    }
    Status {
        name: cluster.name.clone(),
        version: cluster.version().to_owned(),
        endpoint: cluster.endpoint().to_owned(),
        api_alive,
        nodes,
    }
}
