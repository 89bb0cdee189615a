//! The plan of a cluster: every name, address, port, label, mount and file of every node. Pure.

use serde_json::{Value, json};

use crate::engine::spec::{ContainerSpec, NetworkSpec};
use crate::error::Result;

pub mod access;
mod allocation;
pub mod beside;
pub mod diff;
pub mod facts;
pub mod files;
pub mod labels;
pub mod layout;
pub mod lifetime;
pub mod node;
pub mod objects;
pub mod ownership;
pub mod patches;
pub mod pki;
pub mod subnet;

pub use access::{Access, Credentials};
pub use facts::{Facts, Images, NodeImage, ProxySettings};
pub use files::{File, FileTree, NodePlan};
pub use layout::{Layout, NodeLayout, reachable_address};
pub use node::{CLUSTER_CONFIG, NODE_CONFIG};

/// Everything that `create` is going to make.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names and addresses.
    pub layout: Layout,
    /// The cluster's network.
    pub network: NetworkSpec,
    /// Nodes, then the load balancer.
    pub nodes: Vec<NodePlan>,
    /// The API server and the credentials for it.
    pub access: Access,
}

/// The names in the engine that a cluster of this layout needs.
pub fn names(layout: &Layout, facts: &Facts) -> ownership::Names {
    let nodes = layout.nodes.iter().zip(&facts.images);
    let nodes = nodes.map(|(node, image)| node::container::node(layout, node, image, facts));
    let balancer = layout.balancer.iter().zip(facts.of_balancer());
    let balancer = balancer.map(|(balancer, image)| beside::balancer::plan(layout, balancer, image, facts).spec);
    let containers: Vec<ContainerSpec> = nodes.chain(balancer).collect();
    ownership::Names::of(&containers).and_network(&node::container::network(layout, facts))
}

/// Plans a cluster.
pub fn plan(layout: Layout, facts: &Facts, pki: &pki::Pki) -> Result<Plan> {
    let access = access(&layout, pki)?;
    let mut nodes = Vec::new();
    for (node, image) in layout.nodes.iter().zip(&facts.images) {
        nodes.push(NodePlan {
            spec: node::container::node(&layout, node, image, facts),
            files: node::files(&layout, node, image, facts, pki, &access)?,
        });
    }
    if let (Some(balancer), Some(image)) = (&layout.balancer, facts.of_balancer()) {
        nodes.push(beside::balancer::plan(&layout, balancer, image, facts));
    }
    let network = node::container::network(&layout, facts);
    Ok(Plan { layout, network, nodes, access })
}

/// Plans the nodes of a layout that come after the first `existing` ones, for a cluster that exists. `facts` has their images
/// only.
pub fn added(layout: &Layout, existing: usize, facts: &Facts, pki: &pki::Pki) -> Result<Vec<NodePlan>> {
    let access = access(layout, pki)?;
    let new = layout.nodes.iter().skip(existing).zip(&facts.images);
    let plan = |(node, image): (&NodeLayout, &NodeImage)| {
        let files = node::files(layout, node, image, facts, pki, &access)?;
        Ok(NodePlan { spec: node::container::node(layout, node, image, facts), files })
    };
    new.map(plan).collect()
}

/// The load balancer of a layout that has one, and the files that change in each of the nodes that exist when it gets one. All
/// nodes have `image`.
pub fn balancer(
    layout: &Layout,
    image: &NodeImage,
    facts: &Facts,
    pki: &pki::Pki,
) -> Result<Option<(NodePlan, Vec<FileTree>)>> {
    let Some(balancer) = &layout.balancer else { return Ok(None) };
    let access = access(layout, pki)?;
    let existing = layout.nodes.iter().take(layout.existed);
    let files = existing.map(|node| node::behind_balancer(layout, node, image, facts, pki, &access));
    let of_balancer = facts.balancer.as_ref().unwrap_or(image);
    Ok(Some((beside::balancer::plan(layout, balancer, of_balancer, facts), files.collect::<Result<_>>()?)))
}

/// The API server, and new credentials for it.
fn access(layout: &Layout, pki: &pki::Pki) -> Result<Access> {
    let admin =
        pki.issue(&pki.kubernetes, "kubernetes-admin", Some("kubeadm:cluster-admins"), pki::Usage::Client, &[], &[])?;
    let super_admin =
        pki.issue(&pki.kubernetes, "kubernetes-super-admin", Some("system:masters"), pki::Usage::Client, &[], &[])?;
    Ok(Access {
        server: layout.host_endpoint(),
        authority: pki.kubernetes.pair.certificate.clone(),
        admin,
        super_admin,
    })
}

impl Plan {
    /// The plan for people to read: secrets are shown by name, mode and subject only.
    pub fn describe(&self) -> Value {
        let container = |spec: &ContainerSpec| {
            let environment = spec.environment.iter().map(|variable| node::proxy::without_credentials(variable));
            json!(ContainerSpec { environment: environment.collect(), ..spec.clone() })
        };
        let nodes = self.nodes.iter();
        let nodes: Vec<Value> =
            nodes.map(|node| json!({"container": container(&node.spec), "files": describe(&node.files)})).collect();
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
