//! The local registry: one container of the engine that all clusters share, known by its labels only.

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use serde::Serialize;

use crate::catalog;
use crate::cluster::addon::build_one;
use crate::cluster::found::Node;
use crate::cluster::lifecycle::provision;
use crate::config::LocalRegistry;
use crate::engine::Engine;
use crate::engine::spec::{Container, State};
use crate::error::{Code, Error, Reason, Result};
use crate::plan::beside::registry::{self, DEFAULT_PORT};
use crate::plan::facts::Registry;
use crate::plan::node::container::network_name;
use crate::plan::{FileTree, NodePlan, labels};
use crate::ui::Ui;

mod attach;
pub(crate) mod authorities;
mod delete;
mod login;
mod prune;
mod ready;

pub use attach::{attach, attach_all, report, users};
pub use delete::{Removed, remove};
use login::configuration;
pub use login::{configured, give, known_hosts, log_in};
pub use prune::{Pruned, prune};
pub use ready::wait;

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
    pub state: State,
    /// Clusters that it is connected to.
    pub clusters: Vec<String>,
    /// Its container.
    #[serde(skip)]
    container: Container,
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
        let of = |network: &&crate::engine::spec::Network| container.networks.contains(&network.name);
        let mut clusters: Vec<String> = networks
            .iter()
            .filter(of)
            .filter_map(|network| network.labels.get(labels::CLUSTER).filter(|name| network.name == network_name(name)))
            .cloned()
            .collect();
        clusters.sort();
        Found { host: registry.host(), registry, state: container.state, clusters, container }
    });
    let mut found: Vec<Found> = found.collect();
    found.sort_by(|one, other| one.registry.name.cmp(&other.registry.name));
    Ok(found)
}

/// The registry of this name, if it is there.
pub async fn find(engine: &dyn Engine, name: &str) -> Result<Option<Found>> {
    Ok(list(engine).await?.into_iter().find(|found| found.registry.name == name))
}

/// Puts files into a node that runs.
async fn put(engine: &dyn Engine, node: &str, files: &FileTree) -> Result<()> {
    engine.upload(node, files.to_tar(provision::now())?).await.map_err(|error| error.on_node(node))
}

/// Why a node cannot be told.
fn stopped(node: &Node) -> Error {
    Error::new(Code::StepFailed, format!("node {} does not run", node.name))
}

/// The registry that a new cluster uses: the shared one if it is there, or the one that its configuration names.
pub(crate) async fn of_cluster(engine: &dyn Engine, asked: Option<&LocalRegistry>) -> Result<Option<Registry>> {
    let Some(name) = registry::wanted(asked) else { return Ok(None) };
    let found = find(engine, name).await?.map(|found| found.registry);
    // Named, it is created with the cluster.
    Ok(found.or_else(|| asked.map(|_| Registry { name: name.to_owned(), port: DEFAULT_PORT })))
}

/// Makes sure that the registry is there and runs; `false` when it did already. `local`: the engine is on this host.
pub async fn ensure(engine: &dyn Engine, registry: &Registry, local: bool, ui: &Ui) -> Result<bool> {
    let found = find(engine, &registry.name).await?;
    if let Some(found) = &found {
        same_port(&found.registry, registry.port)?;
        match found.state {
            State::Running => return Ok(false),
            State::Paused => return Err(paused(&registry.name)),
            _ => {}
        }
    }
    let recipe = catalog::registry()?;
    let kept = kept_volume(engine, &registry.name).await?;
    if found.is_none() {
        // The program takes minutes to build: what is in the way is told before.
        free_port(engine, registry, local).await?;
        build_one(engine, &recipe, "the registry", None, ui).await?;
    }
    let step = ui.step(format!("Starting registry `{}` at {}", registry.name, registry.host()));
    let plan = registry::plan(registry, &recipe.image().unwrap_or_default())?;
    let made = match found {
        Some(_) => None,
        None => make(engine, &plan, registry).await?,
    };
    if let Err(error) = start(engine, plan, registry).await {
        if let Some(id) = made {
            // It would only be in the way.
            engine.remove_container(&id).await?;
            if !kept {
                engine.remove_volume(&registry.name).await?;
            }
        }
        return Err(error);
    }
    step.finish();
    Ok(true)
}

/// Creates the container; `None` when another run was faster.
async fn make(engine: &dyn Engine, plan: &NodePlan, registry: &Registry) -> Result<Option<String>> {
    match engine.create_container(&plan.spec).await {
        Ok(id) => Ok(Some(id)),
        Err(error) if error.reason() == Some(Reason::NameTaken) => match find(engine, &registry.name).await? {
            Some(other) => same_port(&other.registry, registry.port).map(|()| None),
            None => Err(taken_name(&registry.name)),
        },
        Err(error) => Err(error),
    }
}

/// Gives the container its configuration and starts it; right also for one that was interrupted here, or runs.
async fn start(engine: &dyn Engine, plan: NodePlan, registry: &Registry) -> Result<()> {
    let tar = plan.files.to_tar(0)?;
    let work = async {
        engine.upload(&plan.spec.name, tar).await?;
        engine.start_container(&plan.spec.name).await
    };
    work.await.map_err(|error| match error.code() {
        Code::PortTaken => by_a_program(registry, &error.cause_text().unwrap_or_default()),
        _ => error,
    })
}

/// Fails when another registry has the port, or on this host another program.
async fn free_port(engine: &dyn Engine, registry: &Registry, local: bool) -> Result<()> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, registry.port)).map(drop);
    let there = list(engine).await?;
    match (there.iter().find(|other| other.registry.port == registry.port), bound) {
        // Another run was faster.
        (Some(other), _) if other.registry.name == registry.name => Ok(()),
        (Some(other), _) => Err(taken_port(registry, &format!("registry `{}` has it", other.registry.name))),
        (None, Err(source)) if local && source.kind() == ErrorKind::AddrInUse => Err(by_a_program(registry, &source)),
        _ => Ok(()),
    }
}

/// Whether there are images of an earlier registry; an error when the volume is somebody else's.
async fn kept_volume(engine: &dyn Engine, name: &str) -> Result<bool> {
    let volumes = engine.volumes(&[]).await?;
    let Some(volume) = volumes.iter().find(|volume| volume.name == name) else { return Ok(false) };
    if volume.labels.get(labels::REGISTRY).is_some_and(|of| of == name) {
        return Ok(true);
    }
    Err(Error::new(Code::RegistryExists, format!("there is a volume `{name}` that is no registry's"))
        .hint(format!("choose another `--name`, or remove it with what is in it: `docker volume rm {name}`")))
}

/// The option by which commands know a registry.
fn name_option(name: &str) -> String {
    if name == LocalRegistry::DEFAULT { String::new() } else { format!(" --name {name}") }
}

fn by_a_program(registry: &Registry, cause: &dyn Display) -> Error {
    let hint = format!("or see who has it: `ss -lnp 'sport = :{}'`", registry.port);
    taken_port(registry, &cause.to_string()).hint(hint)
}

fn taken_port(registry: &Registry, cause: &str) -> Error {
    let Registry { name, port } = registry;
    Error::new(Code::PortTaken, format!("port {port} of this host is taken, registry `{name}` cannot have it"))
        .because(cause)
        .hint(format!(
            "choose another one: `coracle registry create{} --port PORT`; clusters then use that registry",
            name_option(name)
        ))
}

fn paused(name: &str) -> Error {
    Error::new(Code::StepFailed, format!("registry `{name}` does not run"))
        .because("somebody paused its container")
        .hint(format!("`docker unpause {name}`"))
}

fn same_port(there: &Registry, wanted: u16) -> Result<()> {
    if there.port == wanted { Ok(()) } else { Err(other_port(there, wanted)) }
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
fn taken_name(name: &str) -> Error {
    Error::new(Code::RegistryExists, format!("there is a container `{name}` that is no registry of coracle"))
        .hint(format!("choose another `--name`, or remove it: `docker rm --force {name}`"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
