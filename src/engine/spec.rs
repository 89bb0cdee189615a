//! What the engine is asked for and what it answers, as plain types.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

pub use crate::engine::words::{Grants, Limit, OsType, Propagation, Protocol, State};

/// Labels of a container, network or volume.
pub type Labels = BTreeMap<String, String>;

/// Label of a helper container, its volumes and its image, with an ID that begins with the second at which it was made.
pub const HELPER_LABEL: &str = "dev.coracle.helper";

/// Which cgroup hierarchy the engine's host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum CgroupVersion {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// Label with the [mark](crate::engine::process) of the process that made something, on what must not outlive it: a helper, and
/// a cluster that is being created.
pub const PROCESS_LABEL: &str = "dev.coracle.process";

/// What the plan needs to know about the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// Engine version, such as `20.10.24`.
    pub version: String,
    /// Which kind of containers it runs.
    pub os_type: OsType,
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
    /// How many seconds its clock is ahead of that of this host, if it says what time it is.
    pub ahead: Option<i64>,
    /// What it can give to a container, and limit.
    pub grants: Grants,
}

/// An image in the engine's store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The image ID, `sha256:…`.
    pub id: String,
    pub labels: Labels,
    /// Uncompressed layer digests (diffIDs), lowest first.
    pub layers: Vec<String>,
    /// Names with tags.
    pub tags: Vec<String>,
    /// Environment variables of its configuration.
    pub environment: Vec<String>,
    /// Size of all layers, bytes.
    pub size: u64,
    /// Operating system, CPU architecture by its name in Go, and its variant; empty where the image does not tell.
    pub platform: (String, String, String),
}

/// Credentials for a registry. They are secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The registry, as `docker login` names it.
    pub server: String,
    pub user: String,
    /// Password or token.
    pub password: String,
}

/// The addresses of a network in one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressPool {
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
    /// Its addresses: IPv4, and IPv6 if the network has it.
    pub pools: Vec<AddressPool>,
    /// Maximum packet size, if not the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    pub labels: Labels,
}

impl NetworkSpec {
    pub fn subnets(&self) -> Vec<IpNet> {
        self.pools.iter().map(|pool| pool.subnet).collect()
    }
}

/// A network of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub subnets: Vec<IpNet>,
    /// The largest packet, bytes, if it is not the default of 1500.
    pub mtu: Option<u32>,
    pub labels: Labels,
}

/// A file system mounted into a container.
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
        /// Which mounts are propagated.
        #[serde(skip_serializing_if = "Option::is_none")]
        propagation: Option<Propagation>,
    },
    /// A path of the engine's host, without the mounts below it.
    Directory {
        /// Path on the host.
        source: String,
        /// Path in the container.
        target: String,
        /// Without write access.
        read_only: bool,
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
    /// Transport protocol.
    pub protocol: Protocol,
}

/// The engine's name for no network.
pub const NO_NETWORK: &str = "none";

/// How much of the host a container may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// Nothing beyond the engine's defaults.
    None,
    /// Reading every mounted file, and nothing else.
    Files,
    /// Making directories and links in mounted directories, with every owner and attribute.
    Links,
    /// The container's own network: addresses, routes and rules.
    Network,
    /// Everything: the engine's `--privileged`.
    Privileged,
    /// What `--privileged` grants without `SYS_RESOURCE`, for hosts that cannot grant every capability.
    #[serde(rename = "explicit")]
    AllButSysResource,
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
    /// A name of the image, which `docker ps` shows instead of the ID as long as it is the name of the same image.
    #[serde(skip)]
    pub image_name: Option<String>,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The signal that asks its program to end, if not that of the image: systemd's means nothing to other programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<&'static str>,
    /// Environment, `NAME=value`.
    pub environment: Vec<String>,
    pub labels: Labels,
    /// Network ID or name; `None` for the engine's default network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Names of networks that it joins besides, with addresses that the engine chooses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<String>,
    /// Fixed IPv4 or IPv6 addresses in the network.
    pub addresses: Vec<IpAddr>,
    pub mounts: Vec<Mount>,
    /// Paths with an empty file system in memory.
    pub tmpfs: Vec<String>,
    pub ports: Vec<PortBinding>,
    pub privilege: Privilege,
    /// Start it again when the engine or the host restarts.
    pub restart: bool,
    /// With the exit code 0 its program ends for good, although `restart`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ends: bool,
    /// Search domains for names; `None` for those of the engine's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_search: Option<Vec<String>>,
    /// Names in its `/etc/hosts`, with an address each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of its processes (`ulimit`); those that it does not name are the engine's defaults.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Limit>,
    /// The most memory that it may use, without swap, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// The most processor time, in thousandths of a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milli_cpus: Option<u64>,
    /// Use the host's user namespace even when the engine maps users.
    pub host_user_namespace: bool,
    /// A cgroup namespace of its own.
    pub private_cgroup_namespace: bool,
    /// Extra devices of the host, same path inside.
    pub devices: Vec<String>,
    /// Names of devices in the Container Device Interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cdi_devices: Vec<String>,
    /// Whoever attaches provides its input and output; when the input ends, it ends and the engine removes it.
    #[serde(skip)]
    pub attached: bool,
}

impl ContainerSpec {
    /// A container with this name and host name, and otherwise the defaults of the image and the engine.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            hostname: name.clone(),
            name,
            image: image.into(),
            image_name: None,
            entrypoint: None,
            command: None,
            stop_signal: None,
            environment: Vec::new(),
            labels: Labels::new(),
            network: None,
            joins: Vec::new(),
            addresses: Vec::new(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            ports: Vec::new(),
            privilege: Privilege::None,
            restart: false,
            ends: false,
            dns_search: None,
            extra_hosts: Vec::new(),
            sysctls: BTreeMap::new(),
            limits: BTreeMap::new(),
            memory: None,
            milli_cpus: None,
            host_user_namespace: false,
            private_cgroup_namespace: false,
            devices: Vec::new(),
            cdi_devices: Vec::new(),
            attached: false,
        }
    }
}

/// A container as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    /// Reference or ID of its image.
    pub image: String,
    pub state: State,
    pub labels: Labels,
    /// Addresses on its networks.
    pub addresses: Vec<IpAddr>,
    /// Names of the networks that it is connected to.
    pub networks: Vec<String>,
    /// IDs of these networks, once it was started: two networks can have the same name.
    pub network_ids: Vec<String>,
    /// Names of its volumes.
    pub volumes: Vec<String>,
    pub ports: Vec<PortBinding>,
    /// Seconds since the epoch when it was created.
    pub created: i64,
}

impl Container {
    /// Whether its program runs.
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }
}

/// A container in detail.
#[derive(Clone, PartialEq)]
pub struct Inspected {
    /// Its whole ID, by which the kernel tells of it.
    pub id: String,
    pub name: String,
    /// Its program runs, or the engine is about to start it again.
    pub running: bool,
    /// Exit code of its last end; 0 once the engine has started it again.
    pub exit_code: i64,
    /// How often the engine has started it again.
    pub restart_count: u64,
    /// ID of the image that it was made from.
    pub image: String,
    pub labels: Labels,
    /// When it was started last, by the clock of the engine's host, in the form of RFC 3339.
    pub started_at: String,
    /// The network that it was made for, such as `host`, or `container:` with the ID of the container whose network it uses.
    pub network_mode: String,
    /// The host's ports that it has when it runs.
    pub ports: Vec<PortBinding>,
    /// The engine's full description, to be written to a file. It holds the values of environment variables, which may be secret.
    pub description: serde_json::Value,
}

/// A volume of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub labels: Labels,
}

/// The result of a command in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOutput {
    pub exit_code: i64,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}
