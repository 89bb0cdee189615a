//! The registries that exist: containers of the engine, known by their labels only.

use serde::Serialize;

use crate::cluster::found::cluster_of;
use crate::config::{ClusterName, LocalRegistry};
use crate::engine::Engine;
use crate::engine::spec::{Container, Network, State};
use crate::error::{Code, Error, Result};
use crate::plan::beside::registry::{self, DEFAULT_PORT};
use crate::plan::facts::Registry;
use crate::plan::labels;
use crate::plan::node::container::network_name;

/// A registry that exists.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    #[serde(flatten)]
    pub registry: Registry,
    /// What names of images begin with.
    pub host: String,
    /// State of its container.
    pub state: State,
    /// Clusters that it is connected to.
    pub clusters: Vec<ClusterName>,
    #[serde(skip)]
    pub(super) container: Container,
}

/// All registries, by name.
pub async fn list(engine: &dyn Engine) -> Result<Vec<Found>> {
    let containers = engine.containers(&[labels::REGISTRY.to_owned()]).await?;
    if containers.is_empty() {
        return Ok(Vec::new());
    }
    let networks = engine.networks().await?;
    let found = containers.into_iter().map(|container| {
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let registry =
            Registry { name: label(labels::REGISTRY), port: label(labels::PORT).parse().unwrap_or(DEFAULT_PORT) };
        let of = |network: &&Network| container.networks.contains(&network.name);
        let mut clusters: Vec<ClusterName> = networks
            .iter()
            .filter(of)
            .filter_map(|network| {
                cluster_of(&network.labels).filter(|name| network.name == network_name(name.as_str()))
            })
            .collect();
        clusters.sort();
        Found { host: registry.host(), registry, state: container.state, clusters, container }
    });
    let mut found: Vec<Found> = found.collect();
    found.sort_by(|left, right| left.registry.name.cmp(&right.registry.name));
    Ok(found)
}

/// The registry of this name, if it exists.
pub async fn find(engine: &dyn Engine, name: &str) -> Result<Option<Found>> {
    Ok(list(engine).await?.into_iter().find(|found| found.registry.name == name))
}

/// The registry that a new cluster uses: the one that its configuration names, else the shared one if it exists.
pub(crate) async fn of_cluster(engine: &dyn Engine, asked: Option<&LocalRegistry>) -> Result<Option<Registry>> {
    let Some(name) = registry::wanted(asked) else { return Ok(None) };
    let found = find(engine, name).await?.map(|found| found.registry);
    // A named one is created with the cluster.
    Ok(found.or_else(|| asked.map(|_| Registry { name: name.to_owned(), port: DEFAULT_PORT })))
}

/// The option by which commands select a registry.
pub(super) fn name_option(name: &str) -> String {
    if name == LocalRegistry::DEFAULT { String::new() } else { format!(" --name {name}") }
}

pub(super) fn paused(name: &str) -> Error {
    Error::new(Code::StepFailed, format!("registry `{name}` does not run"))
        .because("its container is paused")
        .hint(format!("`docker unpause {name}`"))
}
