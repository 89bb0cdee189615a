//! What the plan needs to know about the engine, the host and the node images.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::config::Node;
use crate::config::known::Known;
use crate::engine::spec::{EngineInfo, Labels, Privilege};
use crate::plan::labels;
use crate::plan::layout::DOMAIN;
use crate::plan::lifetime::Expiry;
use crate::plan::patches::Patch;
use crate::plan::subnet::Division;

/// The CNI plugin by which a pod waits for its network policies: the agent's program under another name.
pub const POLICY_PLUGIN: &str = "coracle-policy";
/// The CNI plugin by which a pod's IPv6 addresses are usable at once: the same program under a third name.
pub const IPV6_PLUGIN: &str = "coracle-ipv6";
/// When a lone etcd elects itself (node-image/kubernetes/election.go).
pub const AT_ONCE: &str = "at-once";
/// The container runtime that node images have besides runc, and the name of its `RuntimeClass`.
pub const CRUN: &str = "crun";
/// Where a node image has the list of what can be set in its Kubernetes version, with its documentation.
pub const SETTINGS: &str = "/usr/share/coracle/settings.json";
/// The port of a local registry in its container.
pub const REGISTRY_PORT: u16 = 5000;

/// The largest packet of Ethernet, and of the engine's networks unless it is told otherwise, bytes.
pub const USUAL_MTU: u32 = 1500;

/// The names of the control plane's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Kubernetes version, such as `v1.36.3`.
    pub kubernetes: String,
    /// etcd's tag, such as `3.6.8-0`.
    pub etcd: String,
    /// CoreDNS' tag, such as `v1.14.2`.
    pub coredns: String,
}

/// Proxy settings of the user or the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// `HTTP_PROXY`.
    pub http: Option<String>,
    /// `HTTPS_PROXY`.
    pub https: Option<String>,
    /// `NO_PROXY`.
    pub none: Option<String>,
}

impl ProxySettings {
    /// Whether there is no proxy at all.
    pub fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }
}

/// A local registry, and the names by which the host and the clusters reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registry {
    /// Name of its container and volume.
    pub name: String,
    /// Its port on the host.
    pub port: u16,
}

impl Registry {
    /// The prefix of its images' names, on the host and in the cluster.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Its name in the networks of clusters.
    pub fn alias(&self) -> String {
        format!("{}{DOMAIN}", self.name)
    }

    /// The endpoint at which nodes and pods reach it.
    pub fn inside(&self) -> String {
        format!("{}:{REGISTRY_PORT}", self.alias())
    }

    /// Its fixed address in a network with IPv6.
    pub fn address(&self, subnets: &[IpNet]) -> Option<IpAddr> {
        guest_address(&self.name, subnets)
    }
}

/// The fixed address of a container that is no node in a network with IPv6: Docker 20.10 cannot choose one in the half of a
/// /64 that is left to it.
///
/// It is in the nodes' part, which the engine leaves alone, far behind the addresses of the largest cluster.
pub fn guest_address(name: &str, subnets: &[IpNet]) -> Option<IpAddr> {
    let subnet = subnets.iter().find(|subnet| subnet.addr().is_ipv6())?;
    let of_name = name.bytes().fold(0_usize, |sum, byte| (sum * 31 + usize::from(byte)) % 0x2000);
    Division::new(*subnet)?.address(0x1000 + of_name)
}

/// Facts about the node image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says what the image has")]
pub struct NodeImage {
    /// The image's ID, from which nodes are created.
    pub id: String,
    /// Its name.
    pub reference: String,
    /// The versions of the images in it.
    pub images: Images,
    /// The pause image, with its tag.
    pub pause: String,
    /// Whether the image has coracle's entrypoint with its shared store; otherwise it has kind's layout.
    pub shared_store: bool,
    /// Whether the image has the CNI plugin by which a pod waits for its network policies.
    pub policy_plugin: bool,
    /// Whether the image has the CNI plugin by which a pod's IPv6 addresses are usable at once.
    pub ipv6_plugin: bool,
    /// Whether a lone etcd of the image elects itself at once, whatever its timeouts are.
    pub early_election: bool,
    /// Whether the image has the container runtime crun.
    pub crun: bool,
    /// What can be set in its Kubernetes version; `None` for images that do not say it.
    pub known: Option<Arc<Known>>,
}

/// What can be set in the Kubernetes version of an image with these labels.
pub fn known(of_image: &Labels) -> Option<Arc<Known>> {
    of_image.get(labels::SETTINGS).and_then(|label| Known::from_label(label)).map(Arc::new)
}

/// What the plan needs to know besides the layout.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The engine.
    pub engine: EngineInfo,
    /// The node image of each node, in the order of the nodes.
    pub images: Vec<NodeImage>,
    /// The image of the load balancer, where that of the nodes has no HAProxy.
    pub balancer: Option<NodeImage>,
    /// The largest packet in the engine's networks, bytes, if it is not the usual 1500.
    pub mtu: Option<u32>,
    /// Proxy settings for the nodes.
    pub proxy: ProxySettings,
    /// The local registry that the cluster uses.
    pub registry: Option<Registry>,
    /// CA certificates of the registries that have their own CA, by host.
    pub authorities: BTreeMap<String, String>,
    /// The hosts that the credentials for a registry belong to, by the host of the registry.
    pub login_hosts: BTreeMap<String, BTreeSet<String>>,
    /// The patches of nodes, by the directory that has them.
    pub patches: BTreeMap<String, Vec<Patch>>,
    /// ID of this run.
    pub run: String,
    /// When the cluster's time is over.
    pub expires: Option<Expiry>,
    /// Privileges that the engine can grant.
    pub privilege: Privilege,
    /// Limits of the processes in nodes that are set whatever the engine's defaults are.
    pub limits: BTreeMap<String, i64>,
    /// Devices of the host that nodes get, such as `/dev/fuse`.
    pub devices: Vec<String>,
    /// Whether the host has `/lib/modules`, from which kube-proxy may load modules.
    pub modules: bool,
}

impl Facts {
    /// The image of the load balancer.
    pub fn of_balancer(&self) -> Option<&NodeImage> {
        self.balancer.as_ref().or_else(|| self.images.first())
    }

    /// The patches of a node.
    pub fn patches_of(&self, node: &Node) -> &[Patch] {
        let own = node.patches.as_ref().and_then(|directory| self.patches.get(directory));
        own.map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_ipv6_address_is_fixed_and_is_no_nodes() {
        let registry = |name: &str| Registry { name: name.to_owned(), port: 5001 };
        let subnets: Vec<IpNet> = ["172.18.0.0/22", "fdc0:ac1e::/64"].map(|text| text.parse().unwrap()).to_vec();
        let address = registry("coracle-registry").address(&subnets).unwrap();
        let division = Division::new(subnets[1]).unwrap();
        assert!(division.nodes.contains(&address) && !division.dynamic.contains(&address), "{address}");
        assert!(address > division.address(200).unwrap(), "{address}");
        assert_ne!(registry("other").address(&subnets), Some(address));
        let smallest = ["fdc0:ac1e::/112".parse().unwrap()];
        assert!(registry("coracle-registry").address(&smallest).is_some());
        assert_eq!(registry("coracle-registry").address(&subnets[..1]), None);
    }
}
