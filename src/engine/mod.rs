//! The interface to the container engine: verbs about containers, none about Kubernetes.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::engine::inside::Inside;
use crate::engine::place::Place;
use crate::engine::spec::{
    Container, ContainerSpec, EngineInfo, ExecOutput, Image, Inspected, Login, Network, NetworkSpec, Volume,
};
use crate::error::Result;

pub mod address;
pub mod connect;
mod conversation;
mod docker;
#[cfg(test)]
pub(crate) mod fake;
pub mod files;
pub mod finishing;
pub mod helper;
pub mod inside;
pub mod place;
pub mod process;
pub mod spec;
pub mod tls;
mod words;

pub use conversation::{ByteStream, Conversation, Said};

/// What the name of a container ends with while another one is made in its place: no container of coracle has a dot in its name
/// otherwise.
pub const REPLACED: &str = ".replaced";

/// An engine that tasks can share.
pub type SharedEngine = Arc<dyn Engine>;

/// Called with the bytes that are done and the total, for a progress display.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// The container engine. Removing something that does not exist succeeds; everything else that the engine refuses is an
/// error.
#[async_trait]
pub trait Engine: Inside {
    /// Where this process is, as seen from the engine.
    fn place(&self) -> &Place {
        &Place::Host
    }
    /// Facts about the engine; also the check that it answers.
    async fn info(&self) -> Result<EngineInfo>;
    /// The image of this reference or ID, if the engine has it.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;
    /// All images that have a name.
    async fn images(&self) -> Result<Vec<Image>>;
    /// Pulls one image from its registry: that with the tag `latest` if the reference has neither a tag nor a digest.
    async fn pull_image(&self, reference: &str, login: Option<&Login>, progress: Progress<'_>) -> Result<()>;
    /// Loads images from one tar in the format of `docker save`.
    async fn load_images(&self, tar: ByteStream) -> Result<()>;
    /// Removes an image name (and the image with its last name).
    async fn remove_image(&self, reference: &str) -> Result<()>;
    /// The images as one tar in the format of `docker save`.
    async fn save_images(&self, references: &[String]) -> Result<ByteStream>;
    /// All networks.
    async fn networks(&self) -> Result<Vec<Network>>;
    /// Creates a network and returns its ID. `Code::SubnetClash` when another network has the subnet.
    async fn create_network(&self, spec: &NetworkSpec) -> Result<String>;
    /// Removes a network.
    async fn remove_network(&self, id: &str) -> Result<()>;
    /// Connects a container to a network, under the additional name `alias` and with fixed addresses of the families that some
    /// are given of. Succeeds if it is already connected.
    async fn connect_network(&self, network: &str, container: &str, alias: &str, addresses: &[IpAddr]) -> Result<()>;
    /// Disconnects a container from a network. Succeeds if it is not connected.
    async fn disconnect_network(&self, network: &str, container: &str) -> Result<()>;
    /// Creates a container without starting it and returns its ID. `Reason::NameTaken` when the name is taken.
    async fn create_container(&self, spec: &ContainerSpec) -> Result<String>;
    /// Unpacks a tar at a container's root, volumes included. The container need not have been started.
    async fn upload(&self, container: &str, tar: Bytes) -> Result<()>;
    /// A path of a container as a tar, if it exists. The container may be stopped.
    async fn download(&self, container: &str, path: &str) -> Result<Option<ByteStream>>;
    /// Starts a container. `Code::PortTaken` when a published port is in use; `Reason::CapabilityMissing` or
    /// `Reason::NetworkAmbiguous` when another attempt can succeed.
    async fn start_container(&self, container: &str) -> Result<()>;
    /// Stops a container, killing it after `seconds`.
    async fn stop_container(&self, container: &str, seconds: i32) -> Result<()>;
    /// Freezes all processes of a container that runs. Succeeds if they already are.
    async fn pause_container(&self, container: &str) -> Result<()>;
    /// Lets the processes of a container go on. Succeeds if they are not frozen.
    async fn unpause_container(&self, container: &str) -> Result<()>;
    /// Kills and removes a container with its unnamed volumes. It is gone when this succeeds, whoever removed it.
    async fn remove_container(&self, container: &str) -> Result<()>;
    /// Containers in any state that have all these labels (`key` or `key=value`).
    async fn containers(&self, labels: &[String]) -> Result<Vec<Container>>;
    /// Volumes that have all these labels.
    async fn volumes(&self, labels: &[String]) -> Result<Vec<Volume>>;
    /// Removes a volume.
    async fn remove_volume(&self, name: &str) -> Result<()>;
    /// Runs a command in a container, optionally with an input stream, and gathers its output. `Reason::NotRunning` when
    /// the container is stopped or paused; `Code::DiskFull` when the engine has no space to begin the command.
    async fn exec(&self, container: &str, command: &[&str], input: Option<ByteStream>) -> Result<ExecOutput>;
    /// Runs a command in a container and leaves both ends of it to the caller.
    async fn converse(&self, container: &str, command: &[&str]) -> Result<Conversation>;
    /// Takes both ends of an `attached` container that is not started yet.
    async fn attach(&self, container: &str) -> Result<Conversation>;
    /// The last `tail` lines of a container's output (all with `None`).
    async fn logs(&self, container: &str, tail: Option<u32>) -> Result<Vec<u8>>;
    /// What the engine knows of a container.
    async fn inspect(&self, container: &str) -> Result<Option<Inspected>>;
    /// Exit code of a container's last end, also after the engine has started it again, which then no longer is in its
    /// state; `None` if the engine has forgotten it.
    async fn last_exit(&self, container: &str) -> Result<Option<i64>>;
}
