//! The health of a cluster: of its containers, its API server and its nodes.

use serde::Serialize;
use serde_json::Value;

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::cluster::health::watch::is_alive;
use crate::engine::Engine;
use crate::engine::spec::State;
use crate::kubernetes::object;
use crate::kubernetes::ready::unready;

/// The health of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub name: String,
    /// Kubernetes version.
    pub version: String,
    /// The API server's address on the host.
    pub endpoint: String,
    /// The API server answers.
    pub api_alive: bool,
    pub nodes: Vec<NodeStatus>,
}

/// The health of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name of the container and of the Node object.
    pub name: String,
    pub role: String,
    /// State of its container.
    pub container: State,
    /// Its addresses in the cluster's network, with commas between them.
    pub address: String,
    /// Kubernetes version of its image.
    pub version: String,
    pub image: String,
    /// The Node object is Ready.
    pub ready: bool,
    /// The reason why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl Status {
    /// The API server answers and every node is Ready.
    pub fn is_healthy(&self) -> bool {
        self.api_alive && self.nodes.iter().all(|node| node.ready)
    }
}

/// What the containers show of the nodes, without asking the API.
pub fn nodes(cluster: &Cluster) -> Vec<NodeStatus> {
    cluster
        .nodes
        .iter()
        .map(|node| NodeStatus {
            name: node.name.clone(),
            role: node.role.as_str().to_owned(),
            container: node.state(),
            address: node.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            version: node.version.clone().unwrap_or_default(),
            image: node.image.clone(),
            ready: false,
            cause: None,
        })
        .collect()
}

/// The health of a cluster, from its containers and its API.
pub async fn status(engine: &dyn Engine, cluster: &Cluster) -> Status {
    let mut nodes = nodes(cluster);
    let client = access::client(engine, cluster).await.ok();
    let mut api_alive = false;
    let mut list = Value::Null;
    if let Some(client) = &client {
        api_alive = is_alive(client).await;
        list = client.get("/api/v1/nodes").await.unwrap_or_default();
    }
    let objects = object::items(&list);
    for node in &mut nodes {
        let cause = match objects.iter().find(|object| object::name(object) == node.name) {
            _ if node.container != State::Running => Some(format!("its container is {}", node.container)),
            None if api_alive => Some("it has not registered".to_owned()),
            None => Some("the API server does not answer".to_owned()),
            Some(object) => unready(object),
        };
        node.ready = cause.is_none();
        node.cause = cause;
    }
    Status {
        name: cluster.name.to_string(),
        version: cluster.version.clone().unwrap_or_default(),
        endpoint: cluster.endpoint.clone().unwrap_or_default(),
        api_alive,
        nodes,
    }
}
