//! What the user asked for. Pure: text and flags in, a [`ClusterConfig`] or every problem out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

mod as_kind;
mod assembled;
mod comments;
mod components;
mod contents;
mod convert;
mod dns;
pub mod etcd;
mod flags;
pub mod init;
mod k3d;
mod kind;
pub mod known;
mod kubeadm;
mod lifetime;
mod load;
mod minikube;
mod name;
mod node_flags;
mod node_settings;
pub mod node_syntax;
mod nodes;
mod period;
mod places;
mod quantities;
mod reader;
mod registries;
mod scalar;
mod subnets;
mod syntax;
mod tree;
pub mod upstream;
mod validate;
mod value;
mod view;
mod volumes;

pub use convert::{Converted, convert, convert_minikube};
pub use dns::CoreDns;
pub use etcd::Durability;
pub use flags::{FlagValue, Flags};
pub use load::{Overrides, invalid, is_of_kind, load, load_partly, problem_count};
pub use name::ClusterName;
pub use node_flags::NodeFlags;
pub use node_settings::{Cpus, HostAlias, Memory, NodeSettings, UNLIMITED, Ulimit, is_cdi};
pub use period::Period;
pub use places::Places;
pub use registries::{Account, LocalRegistry, Registry, registry_name};
pub use subnets::Subnets;
pub use syntax::KUBELET_DIRECTORY;
pub use syntax::registry_host;
pub use validate::{MAX_CONTROL_PLANES, MAX_WORKERS, warnings};
pub use volumes::{Component, ExtraVolume};

/// The `apiVersion` of configuration files.
pub const API_VERSION: &str = "coracle.dev/v1alpha1";
/// The `kind` of configuration files.
pub const KIND: &str = "Cluster";

/// A cluster as the user wants it, with all defaults filled in, and checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterConfig {
    /// Name of the cluster.
    pub name: ClusterName,
    /// Image of nodes that do not name one; `None` for the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Nodes: at least one, with at least one control plane.
    pub nodes: Vec<Node>,
    /// Addresses, ports and subnets.
    pub networking: Networking,
    /// Feature gates of every component.
    pub feature_gates: BTreeMap<String, bool>,
    /// Merge patch (RFC 7386) of the kubelet's configuration.
    pub kubelet: serde_json::Value,
    /// Merge patch (RFC 7386) of kube-proxy's configuration.
    pub kube_proxy: serde_json::Value,
    /// Additions to CoreDNS' configuration.
    #[serde(rename = "coreDNS", skip_serializing_if = "CoreDns::is_empty")]
    pub core_dns: CoreDns,
    /// Flags of kube-apiserver, without dashes.
    pub api_server: Flags,
    pub controller_manager: Flags,
    pub scheduler: Flags,
    pub etcd: Flags,
    /// What etcd promises about what it has acknowledged.
    #[serde(skip_serializing_if = "Durability::is_safe")]
    pub durability: Durability,
    /// Paths of control planes that components see besides those that their flags name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_volumes: Vec<ExtraVolume>,
    /// Merge patch (RFC 7386) of containerd's configuration.
    #[serde(skip_serializing_if = "components::is_empty")]
    pub containerd: serde_json::Value,
    /// Absolute path of a directory on the host that keeps the data of volumes when the cluster is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persist: Option<String>,
    /// The local registry that the cluster uses; `None` for the one that all clusters share, if it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<LocalRegistry>,
    /// How nodes reach other registries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<Registry>,
    /// Images of the engine that are loaded into the nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Add-ons that are enabled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addons: Vec<String>,
    /// Absolute paths of files and directories with objects that are applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<String>,
    /// How long the cluster lives; `None` for as long as no one deletes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Period>,
    /// How long no one may use the API until the nodes stop; `None` for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_stop: Option<Period>,
    /// A Docker network that nodes join besides their own. With it, the cluster looks like one of kind to tools and scripts:
    /// its context is `kind-NAME`, and its containers have kind's labels too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind_network: Option<String>,
    /// Where all of this stands in the file.
    #[serde(skip)]
    pub places: Places,
    /// What the user should know about the file.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// A node as the user wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// What the node does.
    pub role: Role,
    /// Node image, if not the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Labels of the Node object.
    pub labels: BTreeMap<String, String>,
    /// Taints of the Node object; `None` for the default of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taints: Option<Vec<Taint>>,
    /// Flags of its kubelet, without dashes.
    #[serde(skip_serializing_if = "Flags::is_empty")]
    pub kubelet_flags: Flags,
    /// Absolute path of a directory on the host with patches of its static pods and of its kubelet's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches: Option<String>,
    /// Host directories and files that the node sees.
    pub extra_mounts: Vec<ExtraMount>,
    /// Host ports that are forwarded to ports of the node.
    pub extra_port_mappings: Vec<ExtraPortMapping>,
    /// What its container gets, and what its kubelet has of its own.
    #[serde(flatten)]
    pub settings: NodeSettings,
}

impl Node {
    /// A node with nothing but its role.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            image: None,
            labels: BTreeMap::new(),
            taints: None,
            kubelet_flags: Flags::new(),
            patches: None,
            extra_mounts: Vec::new(),
            extra_port_mappings: Vec::new(),
            settings: NodeSettings::default(),
        }
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs etcd, the API server, the controller manager and the scheduler.
    ControlPlane,
    /// Runs workloads only.
    Worker,
}

impl Role {
    /// The taint of a control plane in a cluster of several nodes, unless the configuration says something else.
    pub const CONTROL_PLANE_TAINT: &str = "node-role.kubernetes.io/control-plane";

    /// The role as written in configuration files and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
        }
    }
}

/// A taint of a Node object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taint {
    pub key: String,
    /// Value, may be empty.
    pub value: String,
    /// What happens to pods that do not tolerate it.
    pub effect: TaintEffect,
}

/// What a taint does with pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum TaintEffect {
    /// They are not scheduled there.
    NoSchedule,
    /// They are scheduled elsewhere if possible.
    PreferNoSchedule,
    /// They are evicted too.
    NoExecute,
}

impl TaintEffect {
    /// The effect as written in configuration files and Node objects.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// A host path that a node sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraMount {
    /// Path on the host, absolute after loading.
    pub host_path: String,
    /// Path in the node, absolute.
    pub container_path: String,
    pub read_only: bool,
    /// How later mounts propagate.
    pub propagation: Propagation,
}

/// How later mounts propagate between host and node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Propagation {
    None,
    /// From the host into the node.
    HostToContainer,
    Bidirectional,
}

/// A host port that is forwarded to a port of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraPortMapping {
    /// Port in the node.
    pub container_port: u16,
    /// Port on the host; 0 lets coracle choose.
    pub host_port: u16,
    /// Address on the host.
    pub listen_address: IpAddr,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// Addresses, ports and subnets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Networking {
    /// Host address on which the API server listens.
    pub api_server_address: IpAddr,
    /// Host port of the API server; 0 lets coracle choose.
    pub api_server_port: u16,
    /// More names and addresses in the certificate of the API server.
    #[serde(rename = "apiServerCertSANs", skip_serializing_if = "Vec::is_empty")]
    pub api_server_cert_sans: Vec<String>,
    /// Address families of pods, services and nodes.
    pub ip_family: IpFamily,
    pub pod_subnet: Subnets,
    pub service_subnet: Subnets,
    /// Subnets of the node network; coracle chooses a free one for each family without one.
    #[serde(skip_serializing_if = "Subnets::is_empty")]
    pub node_subnet: Subnets,
    /// Search domains of nodes and pods; `None` for those of the engine's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_search: Option<Vec<String>>,
    /// Leaves pod networking to a CNI plugin that the user installs.
    #[serde(rename = "disableDefaultCNI")]
    pub disable_default_cni: bool,
    /// Gives services of the type `LoadBalancer` an address.
    pub load_balancer: bool,
    /// How services are made reachable.
    pub kube_proxy_mode: KubeProxyMode,
}

impl Default for Networking {
    fn default() -> Self {
        Self {
            api_server_address: IpAddr::from([127, 0, 0, 1]),
            api_server_port: 0,
            api_server_cert_sans: Vec::new(),
            ip_family: IpFamily::Ipv4,
            pod_subnet: Subnets::default(),
            service_subnet: Subnets::default(),
            node_subnet: Subnets::default(),
            dns_search: None,
            disable_default_cni: false,
            load_balancer: true,
            kube_proxy_mode: KubeProxyMode::Iptables,
        }
        .with_default_subnets()
    }
}

/// Address families of pods, services and nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    Ipv4,
    Ipv6,
    Dual,
}

/// How services are made reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KubeProxyMode {
    /// kube-proxy with iptables rules, upstream's default.
    Iptables,
    /// kube-proxy with nftables rules.
    Nftables,
    /// kube-proxy with the kernel's IPVS, which Kubernetes deprecates.
    Ipvs,
    None,
}

impl ClusterConfig {
    /// A cluster of this name with one control plane and all defaults.
    pub fn new(name: ClusterName) -> Self {
        let empty = || serde_json::Value::Object(serde_json::Map::new());
        Self {
            name,
            image: None,
            nodes: vec![Node::new(Role::ControlPlane)],
            networking: Networking::default(),
            feature_gates: BTreeMap::new(),
            kubelet: empty(),
            kube_proxy: empty(),
            core_dns: CoreDns::default(),
            api_server: Flags::new(),
            controller_manager: Flags::new(),
            scheduler: Flags::new(),
            etcd: Flags::new(),
            durability: Durability::Safe,
            extra_volumes: Vec::new(),
            containerd: empty(),
            persist: None,
            registry: None,
            registries: Vec::new(),
            images: Vec::new(),
            addons: Vec::new(),
            manifests: Vec::new(),
            ttl: None,
            idle_stop: None,
            kind_network: None,
            places: Places::default(),
            notes: Vec::new(),
        }
    }

    /// Number of control plane nodes.
    pub fn control_planes(&self) -> usize {
        self.nodes.iter().filter(|node| node.role == Role::ControlPlane).count()
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod yaml_tests;
