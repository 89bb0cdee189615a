//! What the caller of `create` decides.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::upstream::Written;
use crate::kubeconfig::Location;
use crate::plan::ProxySettings;
use crate::plan::node::credentials::Login;

/// How to create a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long to wait until the cluster is usable.
    pub wait: Duration,
    /// Whether to wait until it is usable, or only until the API server has all that it needs.
    pub is_awaited: bool,
    /// Keep what was made if it fails.
    pub retain: bool,
    /// Where the logs of the nodes go if it fails; else into a new directory of the cache.
    pub logs: Option<PathBuf>,
    /// coracle's cache, if there is one.
    pub cache: Option<PathBuf>,
    /// Which kubeconfig gets the entry.
    pub kubeconfig: Location,
    /// Proxy settings for the nodes.
    pub proxy: ProxySettings,
    /// The engine runs on this host.
    pub local: bool,
    /// The directory of the Docker client's configuration.
    pub docker_config: Option<PathBuf>,
    /// The configuration as the user wrote it, if there is a file.
    pub written: Option<Written>,
    /// Credentials for the registries of the configuration.
    pub logins: Vec<Login>,
}
