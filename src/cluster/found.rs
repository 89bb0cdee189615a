//! Clusters: found by the labels of their containers, the only state outside the nodes. Labels become values here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{self, ClusterName, Overrides, Role};
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::engine::spec::{Container, Labels, State};
use crate::error::{Code, Error, Result};
use crate::plan::CLUSTER_CONFIG;
use crate::plan::labels::{self, ContainerRole};
use crate::plan::lifetime::Expiry;

/// A cluster that the engine has containers of.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub name: ClusterName,
    /// Kubernetes version of the first node, such as `v1.36.3`.
    pub version: Option<String>,
    /// The API server's address on the host, `https://…`.
    pub endpoint: Option<String>,
    /// When its time is over, if it was created with a limit; it may have got more time since.
    pub expires: Option<Expiry>,
    /// After which time it stops if no one uses it, such as `30m`.
    pub idle_stop: Option<String>,
    /// Whether it looks like one of kind to tools and scripts.
    pub is_as_kind: bool,
    /// Control planes first, in the order of their numbers.
    pub nodes: Vec<Node>,
    pub balancer: Option<Container>,
    /// The tunnel, while one is open.
    pub tunnel: Option<Container>,
    /// The forwarders behind ports that were added, by their names.
    pub ports: Vec<Container>,
}

/// A node of a cluster.
#[derive(Debug, Clone)]
pub struct Node {
    /// Name of the container and of the Node object.
    pub name: String,
    pub role: Role,
    /// Its fixed addresses, the one of the primary family first.
    pub addresses: Vec<IpAddr>,
    /// Kubernetes version of its image.
    pub version: Option<String>,
    /// Name of its image; the image's ID if the name is not known.
    pub image: String,
    pub container: Container,
}

impl Node {
    fn new(role: Role, container: Container) -> Self {
        let addresses = container.labels.get(labels::ADDRESS).map(String::as_str).unwrap_or_default();
        Self {
            name: container.name.clone(),
            role,
            addresses: addresses.split(',').filter_map(|address| address.parse().ok()).collect(),
            version: container.labels.get(labels::VERSION).cloned(),
            image: container.labels.get(labels::IMAGE).unwrap_or(&container.image).clone(),
            container,
        }
    }

    /// When its time is over, as its label says.
    pub fn expires(&self) -> Option<Expiry> {
        self.container.labels.get(labels::EXPIRES)?.parse().ok()
    }

    /// State of its container.
    pub fn state(&self) -> State {
        self.container.state
    }

    /// Whether its container runs.
    pub fn is_running(&self) -> bool {
        self.container.is_running()
    }
}

impl Cluster {
    fn new(name: ClusterName) -> Self {
        let (expires, idle_stop) = (None, None);
        Self {
            name,
            version: None,
            endpoint: None,
            expires,
            idle_stop,
            is_as_kind: false,
            nodes: Vec::new(),
            balancer: None,
            tunnel: None,
            ports: Vec::new(),
        }
    }

    /// The kubeconfig context, cluster and user name.
    pub fn context(&self) -> String {
        if self.is_as_kind { self.name.kind_context() } else { self.name.context() }
    }

    /// When its first container was created, seconds since the epoch.
    pub fn created(&self) -> Option<i64> {
        self.nodes.iter().map(|node| node.container.created).min()
    }

    /// Names of all nodes.
    pub fn node_names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// Nodes whose containers run.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    /// The first control plane that runs, else the first one.
    pub fn control_plane(&self) -> Option<&Node> {
        let mut planes = self.nodes.iter().filter(|node| node.role == Role::ControlPlane);
        let first = planes.clone().next();
        planes.find(|node| node.is_running()).or(first)
    }

    /// The address of this host that ports listen on by default: of IPv6, if the nodes have no other.
    pub fn loopback(&self) -> IpAddr {
        let has_v4 = self.nodes.iter().flat_map(|node| &node.addresses).any(IpAddr::is_ipv4);
        if has_v4 || self.nodes.is_empty() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
    }

    /// All containers: nodes, then the load balancer, then the tunnel and the forwarders.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.nodes.iter().map(|node| &node.container).chain(&self.balancer).chain(&self.tunnel).chain(&self.ports)
    }

    /// The effective configuration, from a control plane; `None` for a cluster that has none (yet).
    pub async fn configuration(&self, engine: &dyn Engine) -> Result<Option<config::ClusterConfig>> {
        let Some(node) = self.control_plane() else { return Ok(None) };
        let Some(text) = read_file(engine, &node.name, CLUSTER_CONFIG).await? else { return Ok(None) };
        config::load(&String::from_utf8_lossy(&text), CLUSTER_CONFIG, &Overrides::default()).map(Some)
    }

    /// The effective configuration, from a control plane; an error if none has it.
    pub async fn require_configuration(&self, engine: &dyn Engine) -> Result<config::ClusterConfig> {
        self.configuration(engine).await?.ok_or_else(|| {
            Error::new(Code::NotFound, format!("cluster `{}` has no configuration", self.name))
                .because(format!("no control plane has `{CLUSTER_CONFIG}`"))
                .hint(format!(
                    "delete it if its creation was interrupted: `coracle delete cluster --name {}`",
                    self.name
                ))
        })
    }
}

/// All clusters, by name.
pub async fn list(engine: &dyn Engine) -> Result<Vec<Cluster>> {
    Ok(group(engine.containers(&[labels::CLUSTER.to_owned()]).await?))
}

/// The cluster of this name; an error if it does not exist.
pub async fn get(engine: &dyn Engine, name: &ClusterName) -> Result<Cluster> {
    let containers = engine.containers(&[format!("{}={name}", labels::CLUSTER)]).await?;
    match group(containers).pop() {
        Some(cluster) => Ok(cluster),
        None => Err(not_found(engine, name).await),
    }
}

async fn not_found(engine: &dyn Engine, name: &ClusterName) -> Error {
    let others = list(engine).await.unwrap_or_default();
    let names: Vec<_> = others.iter().map(|cluster| format!("`{}`", cluster.name)).collect();
    let error = Error::new(Code::ClusterNotFound, format!("cluster `{name}` does not exist"));
    if names.is_empty() {
        error.hint(format!("create it: `coracle create cluster --name {name}`"))
    } else {
        error.hint(format!("existing clusters: {}; choose one with `--name`", names.join(", ")))
    }
}

/// The cluster that a container belongs to, if it is one that coracle can have made.
pub fn cluster_of(labels: &Labels) -> Option<ClusterName> {
    labels.get(labels::CLUSTER)?.parse().ok()
}

pub(crate) fn group(containers: Vec<Container>) -> Vec<Cluster> {
    let mut clusters: BTreeMap<ClusterName, Cluster> = BTreeMap::new();
    for container in containers {
        let Some(name) = cluster_of(&container.labels) else { continue };
        let role = ContainerRole::of(&container.labels);
        let cluster = clusters.entry(name).or_insert_with_key(|name| Cluster::new(name.clone()));
        match role {
            Some(ContainerRole::LoadBalancer) => cluster.balancer = Some(container),
            Some(ContainerRole::Tunnel) => cluster.tunnel = Some(container),
            Some(ContainerRole::Port) => cluster.ports.push(container),
            Some(ContainerRole::Node(role)) => cluster.nodes.push(Node::new(role, container)),
            Some(ContainerRole::Reader) | None => {}
        }
    }
    for cluster in clusters.values_mut() {
        // A name with a number sorts after the shorter ones: worker, worker2, worker10.
        cluster.nodes.sort_by_key(|node| (node.role, node.name.len(), node.name.clone()));
        cluster.ports.sort_by(|one, other| one.name.cmp(&other.name));
        let first = cluster.nodes.first();
        cluster.version = first.and_then(|node| node.version.clone());
        cluster.expires = first.and_then(Node::expires);
        cluster.is_as_kind = first.is_some_and(|node| node.container.labels.contains_key(labels::KIND_CLUSTER));
        cluster.idle_stop = first.and_then(|node| node.container.labels.get(labels::IDLE_STOP).cloned());
        // What publishes it: a port that was moved is in no other label.
        let front = cluster.balancer.as_ref().or(first.map(|node| &node.container));
        cluster.endpoint = front.and_then(|container| container.labels.get(labels::ENDPOINT).cloned());
    }
    clusters.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, values: &[(&str, &str)]) -> Container {
        Container {
            id: String::new(),
            name: name.to_owned(),
            image: "sha256:1".to_owned(),
            state: State::Running,
            labels: values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            addresses: Vec::new(),
            networks: Vec::new(),
            network_ids: Vec::new(),
            volumes: Vec::new(),
            ports: Vec::new(),
            created: 0,
        }
    }

    #[test]
    fn labels_become_values_and_a_missing_one_is_none() {
        let of = |role: &'static str| [(labels::CLUSTER, "dev"), (labels::ROLE, role)];
        let mut plane = container("dev-control-plane", &of("control-plane"));
        plane.labels.insert(labels::ADDRESS.to_owned(), "172.18.0.3,fdc0:ac1e::3".to_owned());
        plane.labels.insert(labels::VERSION.to_owned(), "v1.36.3".to_owned());
        plane.labels.insert(labels::IMAGE.to_owned(), "coracle/node:v1.36.3".to_owned());
        let others = ["port", "load-balancer", "worker", "tunnel"].map(|role| container(role, &of(role)));
        let all: Vec<Container> = others.into_iter().chain([plane]).collect();
        let cluster = group(all).pop().unwrap();
        assert_eq!((cluster.version.as_deref(), cluster.endpoint.as_deref()), (Some("v1.36.3"), None));
        let names: Vec<&str> = cluster.containers().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["dev-control-plane", "worker", "load-balancer", "tunnel", "port"]);
        let addresses: Vec<String> = cluster.nodes[0].addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["172.18.0.3", "fdc0:ac1e::3"]);
        assert_eq!(cluster.nodes[0].image, "coracle/node:v1.36.3");
        let worker = &cluster.nodes[1];
        assert_eq!((worker.version.as_deref(), worker.image.as_str()), (None, "sha256:1"));
        assert!(worker.addresses.is_empty());
    }

    #[test]
    fn a_name_that_coracle_never_gives_is_no_cluster() {
        assert!(group(vec![container("x", &[(labels::CLUSTER, "No Name")])]).is_empty());
    }
}
