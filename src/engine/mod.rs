//! The port to the container engine: verbs about containers, none about Kubernetes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use ipnet::IpNet;
use serde::Serialize;

use crate::error::Result;

pub mod connect;
mod conversation;
mod docker;
mod failure;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod fake_files;
#[cfg(test)]
mod fake_state;
mod translate;

pub use connect::{Address, connect};
pub use conversation::{Conversation, Said};

/// A stream of bytes that the engine sends or takes.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Labels of a container, network or volume.
pub type Labels = BTreeMap<String, String>;

/// Which cgroup hierarchy the engine's host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum CgroupVersion {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// What the plan needs to know about the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// Engine version, such as `20.10.24`.
    pub version: String,
    /// Operating system type, `linux` or `windows`.
    pub os_type: String,
    /// CPU architecture as the kernel names it, such as `x86_64`.
    pub architecture: String,
    /// The storage driver, such as `overlay2`.
    pub storage_driver: String,
    /// The cgroup hierarchy.
    pub cgroup: CgroupVersion,
    /// The engine runs without root rights.
    pub rootless: bool,
    /// The engine maps container users to others (`userns-remap`).
    pub userns_remap: bool,
    /// The engine's own name for its operating system, such as `Docker Desktop`.
    pub operating_system: String,
    /// Where the engine keeps its data, on the engine's host.
    pub data_root: String,
    /// Proxy settings of the engine's own configuration: HTTP, HTTPS, exclusions.
    pub proxy: (String, String, String),
    /// Number of CPUs of the engine's host.
    pub cpus: i64,
    /// Memory of the engine's host, bytes.
    pub memory: i64,
}

/// An image in the engine's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The image ID, `sha256:…`.
    pub id: String,
    /// Its labels.
    pub labels: Labels,
    /// Uncompressed layer digests (diffIDs), lowest first.
    pub layers: Vec<String>,
    /// Names with tags.
    pub tags: Vec<String>,
    /// Environment variables of its configuration.
    pub environment: Vec<String>,
    /// Size of all layers, bytes.
    pub size: u64,
}

/// Addresses of one family in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressPool {
    /// The subnet.
    pub subnet: IpNet,
    /// The host's address in it.
    pub gateway: IpAddr,
    /// Part of the subnet from which the engine hands out addresses by itself.
    pub dynamic_range: IpNet,
}

/// A network to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkSpec {
    /// Name; not unique in the engine.
    pub name: String,
    /// Its addresses: of IPv4, and of IPv6 where the network has it.
    pub pools: Vec<AddressPool>,
    /// Size of packets, if not the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Labels.
    pub labels: Labels,
}

impl NetworkSpec {
    /// Its subnets.
    pub fn subnets(&self) -> Vec<IpNet> {
        self.pools.iter().map(|pool| pool.subnet).collect()
    }
}

/// A network of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// ID.
    pub id: String,
    /// Name.
    pub name: String,
    /// Subnets.
    pub subnets: Vec<IpNet>,
    /// Labels.
    pub labels: Labels,
}

/// A file system that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Mount {
    /// A named volume, created with the container and filled with what the image has there.
    Volume {
        /// Name of the volume.
        name: String,
        /// Path in the container.
        target: String,
        /// Labels of the volume.
        labels: Labels,
    },
    /// A path of the engine's host.
    Bind {
        /// Path on the host.
        source: String,
        /// Path in the container.
        target: String,
        /// Without write access.
        read_only: bool,
        /// Mount propagation: `private`, `rslave` or `rshared`.
        #[serde(skip_serializing_if = "Option::is_none")]
        propagation: Option<String>,
    },
    /// A path of the engine's host, read-only, and without what is mounted below it.
    Folder {
        /// Path on the host.
        source: String,
        /// Path in the container.
        target: String,
    },
}

/// A port of the engine's host that leads to a container's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortBinding {
    /// Address on the host.
    pub host_address: IpAddr,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// The engine's name for having no network at all.
pub const NO_NETWORK: &str = "none";

/// How much of the host a container may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// Nothing beyond the engine's defaults.
    None,
    /// Nothing but reading every file that is mounted.
    Files,
    /// The container's own network: addresses, routes and rules.
    Network,
    /// Everything: the engine's `--privileged`.
    Privileged,
    /// The explicit form for hosts that cannot grant every capability: all but `SYS_RESOURCE`.
    Explicit,
}

/// A container to create.
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerSpec {
    /// Name, unique in the engine: creating it claims the name.
    pub name: String,
    /// Host name inside.
    pub hostname: String,
    /// Image ID or reference.
    pub image: String,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Environment, `NAME=value`.
    pub environment: Vec<String>,
    /// Labels.
    pub labels: Labels,
    /// Network ID or name; `None` for the engine's default network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Fixed IPv4 or IPv6 addresses in the network.
    pub addresses: Vec<IpAddr>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Paths with an empty file system in memory.
    pub tmpfs: Vec<String>,
    /// Published ports.
    pub ports: Vec<PortBinding>,
    /// Privileges.
    pub privilege: Privilege,
    /// Come back after the engine or the host restarts.
    pub restart: bool,
    /// Search domains for names; `None` for those of the engine's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_search: Option<Vec<String>>,
    /// Names in its `/etc/hosts`, with an address each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Give the host's user namespace even when the engine maps users.
    pub host_user_namespace: bool,
    /// A cgroup namespace of its own.
    pub private_cgroup_namespace: bool,
    /// Extra devices of the host, same path inside.
    pub devices: Vec<String>,
    /// Its input and output are those of who attaches to it; without them it ends, and goes away.
    #[serde(skip)]
    pub attached: bool,
}

impl ContainerSpec {
    /// A container of this name, also as its host name, with nothing beyond what the image and the engine give it.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            hostname: name.clone(),
            name,
            image: image.into(),
            entrypoint: None,
            command: None,
            environment: Vec::new(),
            labels: Labels::new(),
            network: None,
            addresses: Vec::new(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            ports: Vec::new(),
            privilege: Privilege::None,
            restart: false,
            dns_search: None,
            extra_hosts: Vec::new(),
            sysctls: BTreeMap::new(),
            host_user_namespace: false,
            private_cgroup_namespace: false,
            devices: Vec::new(),
            attached: false,
        }
    }
}

/// What a container does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// ID.
    pub id: String,
    /// Name.
    pub name: String,
    /// Image reference or ID it was made from.
    pub image: String,
    /// State: `created`, `running`, `paused`, `restarting`, `exited`, `dead`.
    pub state: String,
    /// Labels.
    pub labels: Labels,
    /// Addresses on its networks.
    pub addresses: Vec<IpAddr>,
    /// Names of the networks that it is connected to.
    pub networks: Vec<String>,
    /// IDs of the same, once it was started: two networks can have one name.
    pub network_ids: Vec<String>,
    /// Published ports.
    pub ports: Vec<PortBinding>,
    /// Seconds since the epoch when it was created.
    pub created: i64,
}

/// A volume of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
}

/// What a command run in a container said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOutput {
    /// Exit code.
    pub exit_code: i64,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Tells how many bytes of how many are done, for a progress display.
pub type Seen<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// The container engine. Removing what is absent succeeds; everything else that the engine refuses is an error.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Facts about the engine; also the check that it answers.
    async fn info(&self) -> Result<EngineInfo>;
    /// The image of this reference or ID, if the engine has it.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;
    /// All images that have a name.
    async fn images(&self) -> Result<Vec<Image>>;
    /// Pulls an image from its registry.
    async fn pull_image(&self, reference: &str, seen: Seen<'_>) -> Result<()>;
    /// Takes images from one tar, as `docker save` gives it.
    async fn load_images(&self, tar: ByteStream) -> Result<()>;
    /// Removes an image name (and the image with its last name).
    async fn remove_image(&self, reference: &str) -> Result<()>;
    /// The images as one tar, as `docker save` gives it.
    async fn save_images(&self, references: &[String]) -> Result<ByteStream>;
    /// All networks.
    async fn networks(&self) -> Result<Vec<Network>>;
    /// Creates a network and returns its ID. `Code::SubnetClash` when another network has the subnet.
    async fn create_network(&self, spec: &NetworkSpec) -> Result<String>;
    /// Removes a network.
    async fn remove_network(&self, id: &str) -> Result<()>;
    /// Connects a container to a network, in which it also answers to the name `alias` and may have a fixed address;
    /// also one that was connected.
    async fn connect_network(&self, network: &str, container: &str, alias: &str, address: Option<IpAddr>)
    -> Result<()>;
    /// Disconnects a container from a network; also one that was not connected.
    async fn disconnect_network(&self, network: &str, container: &str) -> Result<()>;
    /// Creates a container without starting it and returns its ID. `Code::ClusterExists` when the name is taken.
    async fn create_container(&self, spec: &ContainerSpec) -> Result<String>;
    /// Unpacks a tar into a container's root, also one that was not started yet; volumes included.
    async fn upload(&self, container: &str, tar: Bytes) -> Result<()>;
    /// A path of a container as a tar; also of one that is stopped.
    async fn download(&self, container: &str, path: &str) -> Result<Option<ByteStream>>;
    /// Starts a container. `Code::PortTaken` when a published port is in use.
    async fn start_container(&self, container: &str) -> Result<()>;
    /// Stops a container, killing it after `seconds`.
    async fn stop_container(&self, container: &str, seconds: i32) -> Result<()>;
    /// Kills and removes a container with its unnamed volumes.
    async fn remove_container(&self, container: &str) -> Result<()>;
    /// Containers in any state that have all these labels (`key` or `key=value`).
    async fn containers(&self, labels: &[String]) -> Result<Vec<Container>>;
    /// Volumes that have all these labels.
    async fn volumes(&self, labels: &[String]) -> Result<Vec<Volume>>;
    /// Removes a volume.
    async fn remove_volume(&self, name: &str) -> Result<()>;
    /// Runs a command in a container, optionally with an input stream, and gathers what it says.
    async fn exec(&self, container: &str, command: &[&str], input: Option<ByteStream>) -> Result<ExecOutput>;
    /// Runs a command in a container and leaves both ends of it to the caller.
    async fn converse(&self, container: &str, command: &[&str]) -> Result<Conversation>;
    /// Takes both ends of an `attached` container that was not started yet.
    async fn attach(&self, container: &str) -> Result<Conversation>;
    /// The last `tail` lines of a container's output (all with `None`).
    async fn logs(&self, container: &str, tail: Option<u32>) -> Result<Vec<u8>>;
    /// The engine's full description of a container, as JSON.
    async fn inspect(&self, container: &str) -> Result<Option<serde_json::Value>>;
}
