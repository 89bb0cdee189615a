//! What every command works with.

use tokio_util::sync::CancellationToken;

use crate::cluster::found::Cluster;
use crate::cluster::lifecycle::provision::interrupted;
use crate::engine::connect::Environment;
use crate::engine::{Address, SharedEngine};
use crate::error::Result;
use crate::ui::Ui;

/// The user, and the engine when it is asked for.
pub(crate) struct Context {
    pub(super) ui: Ui,
    /// Cancelled by Ctrl-C, SIGTERM and SIGHUP.
    pub(super) stop: CancellationToken,
    /// Every command and option, for completion scripts.
    pub(super) grammar: fn() -> clap::Command,
}

impl Context {
    /// Connects to the engine; the second value is whether it runs on this host.
    pub(super) async fn engine(&self) -> Result<(SharedEngine, bool)> {
        let (engine, address) = self.connect(&Environment::from_process()).await?;
        Ok((engine, address.is_local()))
    }

    /// Connects to the engine that the environment names; the second value is where it is.
    pub(super) async fn connect(&self, environment: &Environment) -> Result<(SharedEngine, Address)> {
        tokio::select! {
            connected = crate::engine::connect(environment) => connected,
            // An engine that hangs does not keep the command.
            () = self.stop.cancelled() => Err(interrupted()),
        }
    }

    /// Warns of the nodes that are left out.
    pub(super) fn warn_of_stopped(&self, cluster: &Cluster) {
        for node in cluster.nodes.iter().filter(|node| !node.is_running()) {
            self.ui.warn(format!("skipping node {}, because it is not running", node.name));
        }
    }
}
