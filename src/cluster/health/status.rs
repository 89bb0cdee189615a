//! The health of a cluster: of its containers, its API server, its nodes and their components. What cannot be asked is
//! unknown, which is neither well nor ill.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::oneshot::Sender;
use tokio::time::timeout;

use crate::cluster::astray;
use crate::cluster::found::{Cluster, Node};
use crate::cluster::health::api::{self, Api};
use crate::cluster::health::back;
use crate::cluster::health::diagnose::find_failure;
pub use crate::cluster::health::probe::Disk;
use crate::cluster::health::probe::{self, Fault, Found};
use crate::cluster::state::ClusterState;
use crate::config::Role;
use crate::engine::Engine;
use crate::engine::spec::{Container, State};
use crate::error::Result;
use crate::kubernetes::ready::unready;
use crate::kubernetes::{Client, object, workload};
use crate::plan::labels::{self, ContainerRole};

/// How long the API server may take to say how it is and which nodes there are: longer than its own checks, which give up
/// after two seconds, and short enough to know the health of a cluster within five.
const API_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a node's components may take to answer until its logs are read meanwhile.
const COMPONENTS_TIMEOUT: Duration = Duration::from_secs(1);

/// The health of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub name: String,
    /// Kubernetes version.
    pub version: String,
    /// The API server's address on the host.
    pub endpoint: String,
    /// What its containers do together.
    pub state: ClusterState,
    /// The API server answers that it is ready.
    pub api_alive: bool,
    /// The reason why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_cause: Option<String>,
    /// What stands in front of several control planes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balancer: Option<NodeStatus>,
    pub nodes: Vec<NodeStatus>,
    /// The forwarders behind ports that were added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<NodeStatus>,
    /// The engine's disk.
    pub disk: Option<Disk>,
    /// When the API server's certificate ends, in the form of RFC 3339.
    pub certificates_expire: Option<String>,
}

/// The health of a node, or of the load balancer.
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
    /// The Node object is Ready, and every component of it works; `None` if that is not known.
    pub ready: Option<bool>,
    /// The reason why it is not, or why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl Status {
    /// The nodes, then the load balancer and the forwarders of ports.
    pub fn parts(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().chain(&self.balancer).chain(&self.ports)
    }

    /// The API server and every node are known to be well, and so are the load balancer and the forwarders.
    pub fn is_healthy(&self) -> bool {
        self.api_alive && self.parts().all(|part| part.ready == Some(true))
    }
}

/// What the containers show of the nodes, without asking the API.
pub fn nodes(cluster: &Cluster) -> Vec<NodeStatus> {
    let status = |node: &Node| NodeStatus {
        name: node.name.clone(),
        role: node.role.as_str().to_owned(),
        container: node.state(),
        address: node.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        version: node.version.clone().unwrap_or_default(),
        image: node.image.clone(),
        ready: None,
        cause: None,
    };
    cluster.nodes.iter().map(status).collect()
}

/// What its container shows of the load balancer.
pub fn balancer(cluster: &Cluster) -> Option<NodeStatus> {
    cluster.balancer.as_ref().map(|container| beside(container, ContainerRole::LoadBalancer))
}

/// What its container shows of something beside the nodes.
fn beside(container: &Container, role: ContainerRole) -> NodeStatus {
    let label = |key: &str| container.labels.get(key).cloned();
    NodeStatus {
        name: container.name.clone(),
        role: role.as_str().to_owned(),
        container: container.state,
        address: label(labels::ADDRESS).unwrap_or_default(),
        version: label(labels::VERSION).unwrap_or_default(),
        image: label(labels::IMAGE).unwrap_or_else(|| container.image.clone()),
        ready: None,
        cause: None,
    }
}

/// The forwarders: one that runs finds a node that works by itself.
fn ports(cluster: &Cluster) -> Vec<NodeStatus> {
    let status = |container: &Container| NodeStatus {
        ready: Some(container.is_running()),
        cause: (!container.is_running()).then(|| format!("its container is {}", container.state)),
        ..beside(container, ContainerRole::Port)
    };
    cluster.ports.iter().map(status).collect()
}

/// What the API says of itself and of its nodes.
struct Said {
    api: Api,
    nodes: Result<Value, String>,
    /// Those of `kube-system`; none if they are not known.
    pods: Value,
}

/// What was found in a node.
#[derive(Debug, Default)]
struct Look {
    faults: Vec<Fault>,
    disk: Option<Disk>,
    certificate_ends: Option<OffsetDateTime>,
    /// A failure that `create` would end with, in the failed component's own words.
    failure: Option<String>,
    /// The reason why the node could not be asked.
    unknown: Option<String>,
}

/// The health of a cluster: its containers, its API, which `client` speaks with, and all of its nodes are asked at once.
/// `kubeconfig` gets that of the administrator, from the control plane that `client` would read it from.
pub async fn status(
    engine: &dyn Engine,
    cluster: &Cluster,
    client: impl Future<Output = Result<Client>>,
    kubeconfig: Sender<Vec<u8>>,
) -> Status {
    let (said, mut looks) = tokio::join!(ask(cluster, client), look_at_all(engine, cluster, kubeconfig));
    if matches!(said.api, Api::Silent(_)) || !front_runs(cluster) {
        // The fault is at the other end, then.
        for look in &mut looks {
            look.faults.retain(|fault| !fault.is_of_the_way());
        }
    }
    let mut nodes = nodes(cluster);
    for ((node, look), known) in nodes.iter_mut().zip(&looks).zip(&cluster.nodes) {
        match astray::trouble(known) {
            Some(trouble) if known.is_running() => {
                (node.ready, node.cause) = (Some(false), Some(trouble.in_words()));
            }
            _ => {
                judge(node, &said.nodes, look);
                judge_pods(node, &said.pods);
            }
        }
    }
    // An API server that does not answer at all has a line of its own.
    if let (Api::Ready, Err(cause)) = (&said.api, &said.nodes) {
        for node in nodes.iter_mut().filter(|node| node.ready.is_none() && node.cause.is_none()) {
            node.cause = Some(format!("the API does not list its nodes: {cause}"));
        }
    }
    let is_well = |look: &Look| look.faults.is_empty() && look.failure.is_none() && look.unknown.is_none();
    let works = cluster
        .nodes
        .iter()
        .zip(&looks)
        .any(|(node, look)| node.role == Role::ControlPlane && node.is_running() && is_well(look));
    let mut balancer = balancer(cluster);
    if let Some(balancer) = &mut balancer {
        judge_balancer(balancer, &said.api, works);
    }
    let api_cause = match (said.api, &balancer) {
        (Api::Ready, _) => None,
        (Api::Silent(_), Some(balancer)) if balancer.container != State::Running => {
            Some(format!("its load balancer `{}` is {}", balancer.name, balancer.container))
        }
        (Api::Unready(cause) | Api::Silent(cause), _) => Some(cause),
    };
    Status {
        name: cluster.name.to_string(),
        version: cluster.version.clone().unwrap_or_default(),
        endpoint: cluster.endpoint.clone().unwrap_or_default(),
        state: cluster.state(),
        api_alive: api_cause.is_none(),
        api_cause,
        balancer,
        nodes,
        ports: ports(cluster),
        disk: looks.iter().find_map(|look| look.disk),
        certificates_expire: looks.iter().find_map(|look| look.certificate_ends?.format(&Rfc3339).ok()),
    }
}

/// Whether what stands in front of several control planes runs, or nothing has to.
fn front_runs(cluster: &Cluster) -> bool {
    cluster.balancer.as_ref().is_none_or(Container::is_running)
}

async fn ask(cluster: &Cluster, client: impl Future<Output = Result<Client>>) -> Said {
    if !front_runs(cluster) {
        let silent = "nothing forwards to it";
        return Said { api: Api::Silent(silent.to_owned()), nodes: Err(silent.to_owned()), pods: Value::Null };
    }
    match client.await {
        Ok(client) => {
            let late = || format!("no answer within {} s", API_TIMEOUT.as_secs());
            // At once: an API server that is not ready may have a list, and one that is may have none.
            let (api, nodes, pods) = tokio::join!(
                timeout(API_TIMEOUT, api::ask(&client)),
                timeout(API_TIMEOUT, client.get("/api/v1/nodes")),
                timeout(API_TIMEOUT, client.get(back::PODS))
            );
            let nodes = nodes.map_err(|_| late());
            Said {
                api: api.unwrap_or_else(|_| Api::Silent(late())),
                nodes: nodes.and_then(|list| list.map_err(|failure| failure.text().to_owned())),
                pods: pods.ok().and_then(Result::ok).unwrap_or_default(),
            }
        }
        Err(error) => Said { api: Api::Silent(error.to_string()), nodes: Err(error.to_string()), pods: Value::Null },
    }
}

async fn look_at_all(engine: &dyn Engine, cluster: &Cluster, kubeconfig: Sender<Vec<u8>>) -> Vec<Look> {
    let mut kubeconfig = Some(kubeconfig);
    let source = cluster.control_plane().map(|node| node.name.as_str());
    let looks = cluster.nodes.iter().map(|node| {
        let is_source = source == Some(node.name.as_str());
        look(engine, node, kubeconfig.take_if(|_| is_source))
    });
    join_all(looks).await
}

async fn look(engine: &dyn Engine, node: &Node, kubeconfig: Option<Sender<Vec<u8>>>) -> Look {
    if !node.is_running() {
        return Look::default();
    }
    let mut asked = pin!(probe::ask_and_tell(engine, &node.name, kubeconfig));
    // What does not answer soon will hardly answer well: its logs are read while it is waited for.
    let (found, failure) = if let Ok(found) = timeout(COMPONENTS_TIMEOUT, &mut asked).await {
        (found, None)
    } else {
        tokio::join!(asked, async { Some(find_failure(engine, &node.name).await) })
    };
    let (Found { faults, disk, certificate_ends }, unknown) = match found {
        Ok(found) => (found, None),
        Err(error) => (Found::default(), Some(error.in_words())),
    };
    let failure = match failure {
        _ if faults.is_empty() && unknown.is_none() => None,
        Some(failure) => failure,
        None => find_failure(engine, &node.name).await,
    };
    let failure = failure.map(|failure| failure.error.in_words());
    Look { faults, disk, certificate_ends, failure, unknown }
}

/// Puts together what the API says of a node and what was found in it.
fn judge(node: &mut NodeStatus, list: &Result<Value, String>, look: &Look) {
    if node.container != State::Running {
        (node.ready, node.cause) = (Some(false), Some(format!("its container is {}", node.container)));
        return;
    }
    let mut causes: Vec<String> = look.failure.iter().cloned().collect();
    // What keeps failing is told in its own words, and not once more as a symptom.
    let is_new = |fault: &&Fault| look.failure.as_ref().is_none_or(|failure| !failure.contains(&fault.component));
    causes.extend(look.faults.iter().filter(is_new).map(|fault| format!("{}: {}", fault.message(), fault.cause)));
    if let Ok(list) = list {
        causes.extend(match object::items(list).iter().find(|object| object::name(object) == node.name) {
            None => Some("it has not registered".to_owned()),
            Some(object) => unready(object),
        });
    }
    node.ready = match (causes.is_empty(), list.is_ok() && look.unknown.is_none()) {
        (false, _) => Some(false),
        (true, true) => Some(true),
        (true, false) => None,
    };
    if causes.is_empty() {
        causes.extend(look.unknown.clone());
    }
    node.cause = (!causes.is_empty()).then(|| causes.join("; "));
}

/// A node is ill if what every node runs keeps ending there, such as kube-proxy, without which Services do not work.
fn judge_pods(node: &mut NodeStatus, pods: &Value) {
    if node.container != State::Running {
        return;
    }
    let is_of_node = |pod: &&Value| {
        let label = pod["metadata"]["labels"][back::LABEL].as_str().unwrap_or_default();
        pod["spec"]["nodeName"] == node.name.as_str() && back::OF_NODES.contains(&label)
    };
    let ill = object::items(pods).iter().filter(is_of_node).filter(|pod| !workload::is_ready(pod));
    let troubles: Vec<String> = ill.filter_map(workload::trouble).collect();
    if !troubles.is_empty() {
        node.ready = Some(false);
        node.cause = Some(node.cause.iter().cloned().chain(troubles).collect::<Vec<_>>().join("; "));
    }
}

/// The load balancer is to blame if it is stopped, or if nothing comes through it although an API server works.
fn judge_balancer(balancer: &mut NodeStatus, api: &Api, works: bool) {
    (balancer.ready, balancer.cause) = match api {
        _ if balancer.container != State::Running => {
            (Some(false), Some(format!("its container is {}", balancer.container)))
        }
        Api::Ready | Api::Unready(_) => (Some(true), None),
        Api::Silent(cause) if works => {
            (Some(false), Some(format!("it does not lead to the API servers, although they work: {cause}")))
        }
        Api::Silent(_) => (None, None),
    };
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
