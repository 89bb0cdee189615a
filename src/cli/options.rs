//! Options that several commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::ClusterName;
use crate::error::{Code, Error, Result};
use crate::kubeconfig::{self, Location};

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Say nothing but errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more; twice for even more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A table with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Names only
    Name,
}

/// Output for programs.
#[derive(Debug, Clone, Args)]
pub(crate) struct JsonOption {
    /// Print events and the result as JSON
    #[arg(long, short, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

impl JsonOption {
    pub(crate) fn is_json(&self) -> bool {
        self.output.is_some()
    }
}

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct NameOption {
    /// Name of the cluster
    #[arg(long, short, env = "CORACLE_CLUSTER_NAME", value_name = "NAME")]
    pub name: Option<String>,
}

impl NameOption {
    /// The name given, or the default one.
    pub(crate) fn get(&self) -> Result<ClusterName> {
        parse_name(self.name.as_deref().unwrap_or(ClusterName::DEFAULT))
    }
}

/// A cluster name from the command line.
pub(crate) fn parse_name(text: &str) -> Result<ClusterName> {
    text.parse().map_err(|cause: String| Error::new(Code::UsageInvalid, "this is not a cluster name").because(cause))
}

/// Which name space.
#[derive(Debug, Clone, Args)]
pub(crate) struct NamespaceOption {
    /// Name space; that of the cluster's context in the kubeconfig if not given
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

impl NamespaceOption {
    /// The name space given, that of the context, or `default`.
    pub(crate) fn get(&self, cluster: &ClusterName) -> String {
        let of_context = || {
            let location = KubeconfigOption { kubeconfig: None }.location().ok()?;
            kubeconfig::namespace(&location, &cluster.context())
        };
        self.namespace.clone().or_else(of_context).unwrap_or_else(|| "default".to_owned())
    }
}

/// Which kubeconfig.
#[derive(Debug, Clone, Args)]
pub(crate) struct KubeconfigOption {
    /// Kubeconfig to change instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

impl KubeconfigOption {
    /// The files that this option and the environment mean.
    pub(crate) fn location(&self) -> Result<Location> {
        let variable = std::env::var_os("KUBECONFIG");
        let home = dirs::home_dir();
        let location = Location::new(self.kubeconfig.as_deref(), variable.as_deref(), home.as_deref())?;
        let text = |name: &str| std::env::var(name).ok();
        Ok(location.owned_by(text("SUDO_UID").as_deref(), text("SUDO_GID").as_deref()))
    }
}
