//! Options that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::{complete, namespace};
use crate::cluster::found::Cluster;
use crate::cluster::target::{self, Target};
use crate::config::{ClusterName, LocalRegistry, Period, registry_name};
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::kubeconfig::Location;
use crate::ui::Format;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print nothing but results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print the details of every step
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// `--output` of a command that reports progress.
#[derive(Debug, Clone, Args)]
pub(crate) struct JsonOption {
    /// Print events and the result as JSON
    #[arg(long, short, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

impl JsonOption {
    /// How the command writes progress and errors.
    pub(crate) fn format(&self) -> Format {
        if self.output.is_some() { Format::Json } else { Format::Plain }
    }
}

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct NameOption {
    /// Name of the cluster [default: coracle]
    #[arg(long, short, env = "CORACLE_CLUSTER_NAME", value_name = "NAME", add = complete::clusters())]
    pub name: Option<String>,
}

impl NameOption {
    /// The name, if one is given. A variable that is set to nothing gives none, as for other programs.
    pub(crate) fn given(&self) -> Option<&str> {
        given(self.name.as_deref())
    }

    /// The name given, or the default one.
    pub(crate) fn get(&self) -> Result<ClusterName> {
        name_or_default(self.name.as_deref())
    }
}

/// The name of an option, or the default one.
pub(crate) fn name_or_default(option: Option<&str>) -> Result<ClusterName> {
    parse_name(given(option).unwrap_or(ClusterName::DEFAULT))
}

fn given(option: Option<&str>) -> Option<&str> {
    let is_unset = std::env::var_os("CORACLE_CLUSTER_NAME").is_some_and(|value| value.is_empty());
    option.filter(|name| !(name.is_empty() && is_unset))
}

/// Which cluster, with or without `--name`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PositionalName {
    /// Name of the cluster, as with `--name`
    #[arg(value_name = "NAME", add = complete::clusters())]
    positional: Option<String>,
    #[command(flatten)]
    option: NameOption,
}

impl PositionalName {
    /// The name, if one is given. Two names are a mistake, unless one is only the environment's.
    pub(crate) fn given(&self) -> Result<Option<&str>> {
        let environment = std::env::var("CORACLE_CLUSTER_NAME").ok();
        match (self.positional.as_deref(), self.option.given()) {
            (Some(one), Some(other)) if one != other && Some(other) != environment.as_deref() => {
                Err(Error::new(Code::UsageInvalid, format!("two clusters are named: `{one}` and `{other}`")))
            }
            (positional, option) => Ok(positional.or(option)),
        }
    }

    /// Whether a name stands in the command line itself.
    pub(crate) fn is_typed(&self) -> bool {
        let environment = std::env::var("CORACLE_CLUSTER_NAME").ok();
        self.positional.is_some() || (self.option.name.is_some() && self.option.name != environment)
    }

    /// The name given, or the default one.
    pub(crate) fn get(&self) -> Result<ClusterName> {
        parse_name(self.given()?.unwrap_or(ClusterName::DEFAULT))
    }
}

/// A cluster name from the command line.
pub(crate) fn parse_name(text: &str) -> Result<ClusterName> {
    text.parse().map_err(|cause: String| Error::new(Code::UsageInvalid, "invalid cluster name").because(cause))
}

/// One container of a cluster: mostly a node.
#[derive(Debug, Clone, Args)]
pub(crate) struct OneNode {
    /// Node, such as `dev-worker`, or another container of the cluster, such as `dev-load-balancer`
    #[arg(value_name = "NODE", add = complete::containers())]
    node: String,
    /// Name of its cluster [default: the one that has a node of this name]
    #[arg(long, short, value_name = "NAME", add = complete::clusters())]
    name: Option<String>,
}

impl OneNode {
    /// The container and its cluster.
    pub(crate) async fn find(&self, engine: &dyn Engine) -> Result<Target> {
        let name = self.name.as_deref().map(parse_name).transpose()?;
        target::find(engine, name.as_ref(), &self.node).await
    }
}

/// Which namespace.
#[derive(Debug, Clone, Args)]
pub(crate) struct NamespaceOption {
    /// Namespace [default: the one of the cluster's kubeconfig context]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

impl NamespaceOption {
    /// The namespace given, that of the cluster's context, or `default`.
    pub(crate) fn get(&self, cluster: &Cluster) -> String {
        self.namespace.clone().unwrap_or_else(|| namespace::of_context(cluster))
    }
}

/// Which kubeconfig.
#[derive(Debug, Clone, Args)]
pub(crate) struct KubeconfigOption {
    /// Kubeconfig to use instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

impl KubeconfigOption {
    /// The files that this option and the environment name.
    pub(crate) fn location(&self) -> Result<Location> {
        let variable = std::env::var_os("KUBECONFIG");
        let home = dirs::home_dir();
        let location = Location::new(self.kubeconfig.as_deref(), variable.as_deref(), home.as_deref())?;
        let text = |name: &str| std::env::var(name).ok();
        Ok(location.owned_by(text("SUDO_UID").as_deref(), text("SUDO_GID").as_deref()))
    }
}

/// Which address of the API server a kubeconfig has.
#[derive(Debug, Clone, Args)]
pub(crate) struct InternalOption {
    /// Use the address for containers in the cluster's network
    #[arg(long)]
    pub internal: bool,
}

/// Which registry on this host.
#[derive(Debug, Clone, Args)]
pub(crate) struct RegistryNameOption {
    /// Name of the registry, its container and its volume
    #[arg(long, short, value_name = "NAME", default_value = LocalRegistry::DEFAULT, add = complete::registries())]
    name: String,
}

impl RegistryNameOption {
    /// The name, if it is one.
    pub(crate) fn get(&self) -> Result<String> {
        registry_name(&self.name)
            .map_err(|cause| Error::new(Code::UsageInvalid, "invalid registry name").because(cause))
    }
}

/// `90s`, `5m`, `1h30m` or a number of seconds; a year at most.
pub(crate) fn duration(text: &str) -> std::result::Result<Duration, String> {
    text.parse().map(Period::duration)
}
