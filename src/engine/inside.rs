//! What people do with a container: a session in it, files in and out, what it says, and how much it uses.

use std::time::Duration;

use async_trait::async_trait;

use crate::engine::conversation::{ByteStream, Conversation};
use crate::engine::spec::{Labels, PortBinding};
use crate::error::Result;

/// A command that is run in a container for a person, or whose exit code counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionSpec {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Variables, `NAME=value`, beside those of the container.
    pub environment: Vec<String>,
    /// Where it runs, if not where the container's program does.
    pub directory: Option<String>,
    /// The size of its terminal, if it has one.
    pub terminal: Option<TerminalSize>,
    /// Whether it reads an input.
    pub input: bool,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// A command that runs in a container.
pub struct Session {
    /// By which the engine knows it.
    pub id: String,
    /// Its input and its output; with a terminal, all of the output is [`Said::Output`](crate::engine::Said::Output).
    pub ends: Conversation,
}

/// What a path of a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathInfo {
    pub is_directory: bool,
    /// Where it leads, if it is a symbolic link.
    pub link: Option<String>,
}

/// What a container has used and uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Processor time since its start.
    pub cpu: Duration,
    /// Memory that could not be had back at once, bytes.
    pub memory: u64,
    /// The most memory that it can have, bytes.
    pub memory_limit: u64,
}

/// Which part of a container's output is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputOptions {
    /// Also what it says from now on.
    pub follow: bool,
    /// Only since this second since the epoch.
    pub since: Option<i64>,
    /// Only so many of the last lines.
    pub tail: Option<u64>,
}

/// The part of an engine that commands for people use.
#[async_trait]
pub trait Inside: Send + Sync {
    /// Starts a command in a container that runs. `Reason::NotRunning` when it is stopped or paused.
    async fn open(&self, container: &str, spec: &SessionSpec) -> Result<Session>;
    /// Changes the size of a session's terminal.
    async fn resize(&self, session: &str, size: TerminalSize) -> Result<()>;
    /// The exit code of a session that has ended.
    async fn exit_code(&self, session: &str) -> Result<i64>;
    /// What a path of a container is, if it exists. The container may be stopped; what it has in memory is not seen.
    async fn find_path(&self, container: &str, path: &str) -> Result<Option<PathInfo>>;
    /// Unpacks a tar in a directory of a container. The same restrictions hold.
    async fn unpack(&self, container: &str, directory: &str, tar: ByteStream) -> Result<()>;
    /// Makes a container that does not run anew with these ports of the host and these labels, and with the same name, files,
    /// volumes and addresses; returns its ID. What was killed in the middle of it is completed: the container's name then ends
    /// with [`REPLACED`](crate::engine::REPLACED).
    async fn republish(&self, container: &str, ports: &[PortBinding], labels: &Labels) -> Result<String>;
    /// What a container that runs uses at this moment.
    async fn sample(&self, container: &str) -> Result<Sample>;
    /// What a container says and has said.
    async fn output(&self, container: &str, options: OutputOptions) -> Result<Conversation>;
}
