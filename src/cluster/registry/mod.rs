//! The local registry: one container of the engine that all clusters share, known by its labels only.

use serde::Serialize;

use super::addon::build_one;
use super::provision::Calls;
use crate::catalog;
use crate::config::LocalRegistry;
use crate::engine::{Container, Engine};
use crate::error::{Code, Error, Result};
use crate::plan::registry::{self, DEFAULT_PORT, PORT_LABEL, REGISTRY_LABEL, Registry};
use crate::plan::{CLUSTER_LABEL, network_name};
use crate::ui::Ui;

mod attach;
mod login;
mod ready;
mod removal;

pub use attach::{attach, attach_all, report};
pub use login::{configured, give, known_hosts, log_in};
pub use ready::wait;
pub use removal::{Removed, disconnect, remove};

/// A registry that is there.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Its name and port.
    #[serde(flatten)]
    pub registry: Registry,
    /// What names of images begin with.
    pub host: String,
    /// State of its container.
    pub state: String,
    /// Clusters that it is connected to.
    pub clusters: Vec<String>,
    /// Its container.
    #[serde(skip)]
    container: Container,
}

/// All registries, by name.
pub async fn list(engine: &dyn Engine) -> Result<Vec<Found>> {
    let containers = engine.containers(&[REGISTRY_LABEL.to_owned()]).await?;
    if containers.is_empty() {
        return Ok(Vec::new());
    }
    let networks = engine.networks().await?;
    let found = containers.into_iter().map(|container| {
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let registry =
            Registry { name: label(REGISTRY_LABEL), port: label(PORT_LABEL).parse().unwrap_or(DEFAULT_PORT) };
        let of = |network: &&crate::engine::Network| container.networks.contains(&network.name);
        let mut clusters: Vec<String> = networks
            .iter()
            .filter(of)
            .filter_map(|network| network.labels.get(CLUSTER_LABEL).filter(|name| network.name == network_name(name)))
            .cloned()
            .collect();
        clusters.sort();
        Found { host: registry.host(), registry, state: container.state.clone(), clusters, container }
    });
    let mut found: Vec<Found> = found.collect();
    found.sort_by(|one, other| one.registry.name.cmp(&other.registry.name));
    Ok(found)
}

/// The registry of this name, if it is there.
pub async fn find(engine: &dyn Engine, name: &str) -> Result<Option<Found>> {
    Ok(list(engine).await?.into_iter().find(|found| found.registry.name == name))
}

/// The registry that a new cluster uses: the shared one if it is there, or the one that its configuration names.
pub(super) async fn of_cluster(engine: &dyn Engine, asked: Option<&LocalRegistry>) -> Result<Option<Registry>> {
    let Some(name) = registry::wanted(asked) else { return Ok(None) };
    let found = find(engine, name).await?.map(|found| found.registry);
    // Named, it is created with the cluster.
    Ok(found.or_else(|| asked.map(|_| Registry { name: name.to_owned(), port: DEFAULT_PORT })))
}

/// Makes sure that the registry is there and runs; `false` when it did already.
pub async fn ensure(calls: &Calls, registry: &Registry, ui: &Ui) -> Result<bool> {
    let engine = &*calls.engine;
    if let Some(found) = find(engine, &registry.name).await? {
        if found.registry.port != registry.port {
            return Err(other_port(&found.registry, registry.port));
        }
        if found.state == "running" {
            return Ok(false);
        }
        return start(calls, &found.container.id, registry).await.map(|()| true);
    }
    let recipe = catalog::registry()?;
    build_one(calls, &recipe, "the registry", None, ui).await?;
    let step = ui.step(format!("Creating registry `{}` at {}", registry.name, registry.host()));
    let plan = registry::plan(registry, &recipe.image().unwrap_or_default())?;
    let (engine, name) = (calls.engine.clone(), registry.name.clone());
    let id = calls
        .run(async move {
            let id = engine.create_container(&plan.spec).await.map_err(|error| taken_name(error, &name))?;
            let uploaded = match plan.files.to_tar(0) {
                Ok(tar) => engine.upload(&id, tar).await,
                Err(error) => Err(error),
            };
            if let Err(error) = uploaded {
                engine.remove_container(&id).await?;
                return Err(error);
            }
            Ok(id)
        })
        .await?;
    if let Err(error) = start(calls, &id, registry).await {
        // A registry that cannot start would only be in the way; its volume may have the images of an earlier one.
        calls.engine.remove_container(&id).await?;
        return Err(error);
    }
    step.finish();
    Ok(true)
}

async fn start(calls: &Calls, id: &str, registry: &Registry) -> Result<()> {
    let (engine, id) = (calls.engine.clone(), id.to_owned());
    calls.run(async move { engine.start_container(&id).await }).await.map_err(|error| match error.code() {
        Code::PortTaken => Error::new(Code::PortTaken, format!("port {} of this host is taken", registry.port))
            .because(error.cause_text().unwrap_or_default())
            .hint("choose another one: `coracle registry create --port PORT`; clusters then use that registry"),
        _ => error,
    })
}

fn other_port(there: &Registry, wanted: u16) -> Error {
    Error::new(Code::RegistryExists, format!("registry `{}` is at port {}, not {wanted}", there.name, there.port))
        .hint(format!("use it: `{}/IMAGE`", there.host()))
        .hint(format!(
            "or move it, its images stay: `coracle registry delete --name {0}`, `coracle registry create --name {0} --port {wanted}`",
            there.name
        ))
}

/// The name of the container is in use, by something that is no registry of coracle's.
fn taken_name(error: Error, name: &str) -> Error {
    if error.code() != Code::ClusterExists {
        return error;
    }
    Error::new(Code::RegistryExists, format!("there is a container `{name}` that is no registry of coracle"))
        .hint(format!("choose another `--name`, or remove it: `docker rm --force {name}`"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
