//! `node list`: what containers and the API say of nodes.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::cluster::access;
use crate::cluster::found::{Cluster, Node};
use crate::config::Role;
use crate::engine::Engine;
use crate::engine::spec::State;
use crate::kubernetes::object;
use crate::kubernetes::ready::unready;

/// How long the API may take: what the containers show is worth something without it.
const API_TIMEOUT: Duration = Duration::from_secs(3);

/// A node as a list shows it.
#[derive(Debug, Clone)]
pub struct Listed {
    pub name: String,
    pub role: Role,
    /// State of its container.
    pub state: State,
    /// `None` if the API does not say.
    pub ready: Option<bool>,
    pub schedulable: Option<bool>,
    /// Kubernetes version of its image.
    pub version: Option<String>,
    /// Seconds since the epoch when its container was created.
    pub created: i64,
    pub addresses: Vec<IpAddr>,
    pub image: String,
    /// Taints, as kubectl writes them.
    pub taints: Vec<String>,
}

/// All nodes of a cluster.
pub async fn list(engine: &dyn Engine, cluster: &Cluster) -> Vec<Listed> {
    let ask = async {
        let client = access::client(engine, cluster).await.ok()?;
        client.get("/api/v1/nodes").await.ok()
    };
    let is_running = cluster.running().next().is_some();
    let objects = if is_running { timeout(API_TIMEOUT, ask).await.ok().flatten() } else { None };
    cluster.nodes.iter().map(|node| listed(node, objects.as_ref())).collect()
}

fn listed(node: &Node, objects: Option<&Value>) -> Listed {
    let object = objects.map(|list| object::items(list).iter().find(|object| object::name(object) == node.name));
    // A node that the API does not know is not ready, and one whose container does not run cannot be.
    let ready = match object {
        _ if !node.is_running() => Some(false),
        Some(object) => Some(object.is_some_and(|object| unready(object).is_none())),
        None => None,
    };
    let object = object.flatten();
    let taints = object.and_then(|object| object["spec"]["taints"].as_array());
    Listed {
        name: node.name.clone(),
        role: node.role,
        state: node.state(),
        ready,
        schedulable: object.map(|object| object["spec"]["unschedulable"] != true),
        version: node.version.clone(),
        created: node.container.created,
        addresses: node.addresses.clone(),
        image: node.image.clone(),
        taints: taints.into_iter().flatten().map(taint).collect(),
    }
}

fn taint(taint: &Value) -> String {
    let text = |key: &str| taint[key].as_str().unwrap_or_default();
    let value = if text("value").is_empty() { String::new() } else { format!("={}", text("value")) };
    format!("{}{value}:{}", text("key"), text("effect"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn taints_are_written_as_kubectl_writes_them() {
        assert_eq!(taint(&json!({"key": "a", "value": "b", "effect": "NoSchedule"})), "a=b:NoSchedule");
        assert_eq!(taint(&json!({"key": "a", "effect": "NoExecute"})), "a:NoExecute");
    }
}
