//! What will be done: every name, address, port, label, mount and file of every node. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Value, json};

use crate::config::{Cluster, Role};
use crate::engine::{ContainerSpec, EngineInfo, Labels, NetworkSpec};
use crate::error::Result;

pub mod addons;
pub mod balancer;
mod container;
pub mod containerd;
pub mod credentials;
mod entrypoint;
pub mod files;
mod flag_files;
pub mod kubelet;
pub mod layout;
mod node_files;
pub mod pki;
pub mod proxy;
pub mod registries;
pub mod registry;
pub mod static_pods;
pub mod subnet;
pub mod tunnel;

pub use container::{network, network_name};
pub use files::{File, FileTree};
pub use layout::{Layout, NodeLayout, callable};
pub use node_files::CLUSTER_CONFIG;
pub use proxy::ProxySettings;
pub use static_pods::Images;

/// Label with the cluster's name, on everything that coracle makes.
pub const CLUSTER_LABEL: &str = "dev.coracle.cluster";
/// Label with the container's role: `control-plane`, `worker` or `load-balancer`.
pub const ROLE_LABEL: &str = "dev.coracle.role";
/// Label with the ID of the command run that made it.
pub const RUN_LABEL: &str = "dev.coracle.run";
/// Label with the node's fixed addresses, with commas between them, the one of the primary family first.
pub const ADDRESS_LABEL: &str = "dev.coracle.address";
/// Label with the Kubernetes version.
pub const VERSION_LABEL: &str = "dev.coracle.kubernetes-version";
/// Label with the name of the node image, which the engine forgets because containers are created from its ID.
pub const IMAGE_LABEL: &str = "dev.coracle.image";
/// Label of a node image with the name of its CNI plugin by which a pod waits for its network policies.
pub const POLICY_PLUGIN_LABEL: &str = "dev.coracle.policy-plugin";
/// The name of that plugin: the agent's program under another name.
pub const POLICY_PLUGIN: &str = "coracle-policy";
/// Label of a node image with the name of its CNI plugin by which a pod's IPv6 addresses are usable at once.
pub const IPV6_PLUGIN_LABEL: &str = "dev.coracle.ipv6-plugin";
/// The name of that plugin: the same program.
pub const IPV6_PLUGIN: &str = "coracle-ipv6";
/// Label with the host endpoint of the API server.
pub const ENDPOINT_LABEL: &str = "dev.coracle.api-endpoint";
/// Label with the directory of the host that keeps the cluster's volumes.
pub const PERSIST_LABEL: &str = "dev.coracle.persist";
/// Role of the load balancer's container.
pub const BALANCER_ROLE: &str = "load-balancer";

/// The name of the engine's host in nodes and pods.
pub const HOST_NAME: &str = "host.coracle.internal";

/// Facts about the node image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImage {
    /// What nodes are created from: the image's ID.
    pub id: String,
    /// What it is called.
    pub reference: String,
    /// Which image tags are in it.
    pub images: Images,
    /// The pause image, with its tag.
    pub pause: String,
    /// The image has coracle's entrypoint with its shared store; otherwise it is one of kind's layout.
    pub shared_store: bool,
    /// The image has the CNI plugin by which a pod waits for its network policies.
    pub policy_plugin: bool,
    /// The image has the CNI plugin by which a pod's IPv6 addresses are usable at once.
    pub ipv6_plugin: bool,
}

/// What the plan needs to know beside the layout.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The engine.
    pub engine: EngineInfo,
    /// The node image of each node, in the order of the nodes.
    pub images: Vec<NodeImage>,
    /// Proxy settings for the nodes.
    pub proxy: ProxySettings,
    /// The local registry that the cluster uses.
    pub registry: Option<registry::Registry>,
    /// Certificates of the CA of each registry that has its own, by its host.
    pub authorities: BTreeMap<String, String>,
    /// ID of this run.
    pub run: String,
    /// Privileges that the engine can grant.
    pub privilege: crate::engine::Privilege,
    /// Devices of the host that nodes get when they are there, such as `/dev/fuse`.
    pub devices: Vec<String>,
    /// The host has `/lib/modules`, which kube-proxy may load modules from.
    pub modules: bool,
}

/// A container with the files it gets before it first boots.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// The container.
    pub spec: ContainerSpec,
    /// Its files.
    pub files: FileTree,
}

/// What the user's kubeconfig and coracle itself connect with.
#[derive(Debug, Clone)]
pub struct Access {
    /// `https://…` on the host.
    pub server: String,
    /// CA as PEM.
    pub authority: String,
    /// The administrator's certificate: member of `kubeadm:cluster-admins`.
    pub admin: pki::Pair,
    /// Member of `system:masters`, which works before RBAC is there.
    pub super_admin: pki::Pair,
}

/// Everything that `create` will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names and addresses.
    pub layout: Layout,
    /// The cluster's network.
    pub network: NetworkSpec,
    /// Nodes, then the load balancer.
    pub nodes: Vec<NodePlan>,
    /// How to reach the API.
    pub access: Access,
}

/// Plans a cluster.
pub fn plan(layout: Layout, facts: &Facts, pki: &pki::Pki) -> Result<Plan> {
    let admin =
        pki.issue(&pki.kubernetes, "kubernetes-admin", Some("kubeadm:cluster-admins"), pki::Usage::Client, &[], &[])?;
    let super_admin =
        pki.issue(&pki.kubernetes, "kubernetes-super-admin", Some("system:masters"), pki::Usage::Client, &[], &[])?;
    let access = Access {
        server: layout.host_endpoint(),
        authority: pki.kubernetes.pair.certificate.clone(),
        admin,
        super_admin,
    };
    let mut nodes = Vec::new();
    for (node, image) in layout.nodes.iter().zip(&facts.images) {
        nodes.push(NodePlan {
            spec: container::node(&layout, node, image, facts),
            files: node_files::node(&layout, node, image, facts, pki, &access)?,
        });
    }
    if let (Some(balancer), Some(image)) = (&layout.balancer, facts.images.first()) {
        let mut files = FileTree::default();
        files.text(balancer::CONFIG, balancer::configuration(&layout));
        nodes.push(NodePlan { spec: container::balancer(&layout, balancer, image, facts), files });
    }
    let network = container::network(&layout, facts);
    Ok(Plan { layout, network, nodes, access })
}

/// Labels of everything that belongs to the cluster.
pub fn labels(cluster: &Cluster, run: &str) -> Labels {
    Labels::from([(CLUSTER_LABEL.to_owned(), cluster.name.to_string()), (RUN_LABEL.to_owned(), run.to_owned())])
}

/// Names by which the API server is called, for its certificate.
fn api_names<'a>(layout: &'a Layout, node: &'a NodeLayout) -> (Vec<&'a str>, Vec<IpAddr>) {
    let mut names = vec![
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        node.name.as_str(),
    ];
    let mut addresses = local_addresses(layout, node);
    addresses.extend(layout.service_address(1).parse::<IpAddr>());
    if let Some(balancer) = &layout.balancer {
        names.push(&balancer.name);
        addresses.extend(&balancer.addresses);
    }
    let host = callable(layout.cluster.networking.api_server_address);
    if !addresses.contains(&host) {
        addresses.push(host);
    }
    (names, addresses)
}

/// All addresses at which a node is called, its loopback's included.
fn local_addresses(layout: &Layout, node: &NodeLayout) -> Vec<IpAddr> {
    let mut addresses = node.addresses.clone();
    addresses.push(IpAddr::from([127, 0, 0, 1]));
    if layout.has_ipv6() {
        addresses.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
    addresses
}

impl Plan {
    /// The plan as people read it: secrets by name, mode and subject only.
    pub fn describe(&self) -> Value {
        let nodes: Vec<Value> =
            self.nodes.iter().map(|node| json!({"container": node.spec, "files": describe(&node.files)})).collect();
        json!({
            "cluster": self.layout.cluster,
            "kubernetesVersion": self.layout.version,
            "apiServer": self.access.server,
            "network": self.network,
            "nodes": nodes,
        })
    }

    /// Names of all containers.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.spec.name.as_str())
    }
}

fn describe(files: &FileTree) -> Vec<Value> {
    files
        .iter()
        .map(|(path, file)| match file {
            File::Text { content, mode } => json!({"path": path, "mode": format!("{mode:04o}"), "content": content}),
            File::Certificate { subject, .. } => json!({"path": path, "mode": "0644", "certificate": subject}),
            File::Secret { subject, .. } => json!({"path": path, "mode": "0600", "secret": subject}),
            File::Link { target } => json!({"path": path, "link": target}),
        })
        .collect()
}

/// The role as containers are labelled with it.
pub fn role_of(label: &str) -> Option<Role> {
    match label {
        "control-plane" => Some(Role::ControlPlane),
        "worker" => Some(Role::Worker),
        _ => None,
    }
}
