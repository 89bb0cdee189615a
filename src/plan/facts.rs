//! What the plan needs to know about the engine, the host and the node images.

use std::collections::BTreeMap;

use crate::engine::spec::{EngineInfo, Privilege};
use crate::plan::beside::registry::Registry;
use crate::plan::node::proxy::ProxySettings;
use crate::plan::node::static_pods::Images;

/// The name of that plugin: the agent's program under another name.
pub const POLICY_PLUGIN: &str = "coracle-policy";
/// The name of that plugin: the same program.
pub const IPV6_PLUGIN: &str = "coracle-ipv6";

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
    pub registry: Option<Registry>,
    /// Certificates of the CA of each registry that has its own, by its host.
    pub authorities: BTreeMap<String, String>,
    /// ID of this run.
    pub run: String,
    /// Privileges that the engine can grant.
    pub privilege: Privilege,
    /// Devices of the host that nodes get when they are there, such as `/dev/fuse`.
    pub devices: Vec<String>,
    /// The host has `/lib/modules`, which kube-proxy may load modules from.
    pub modules: bool,
}
