//! Creating and starting a registry.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::catalog;
use crate::cluster::addon::build_image;
use crate::cluster::ownership::{OTHER_NAME, require_free};
use crate::cluster::registry::known::{Found, find, list, name_option, paused};
use crate::cluster::run::Run;
use crate::engine::spec::{ContainerSpec, Labels, Mount, State};
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Reason, Result};
use crate::plan::beside::registry;
use crate::plan::facts::Registry;
use crate::plan::ownership::Names;
use crate::plan::{NodePlan, labels};

/// How long a port may still be taken: the program that has it may be ending.
const PORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes sure that the registry exists and runs; `false` if it already did. `local`: the engine is on this host.
pub async fn ensure(run: &Run, registry: &Registry, local: bool) -> Result<bool> {
    let engine = &*run.engine;
    let recipe = catalog::registry()?;
    let mut plan = registry::plan(registry, &recipe.image().unwrap_or_default())?;
    mark(&mut plan.spec, &run.id);
    let found = usable(engine, registry, &plan.spec, local).await?;
    match &found {
        Some(found) if found.state == State::Running => return Ok(false),
        Some(_) => {}
        None => drop(build_image(run, &recipe, "the registry", None).await?),
    }
    let step = run.ui.step(format!("Starting registry `{}` at {}", registry.name, registry.host()));
    let id = match found {
        Some(found) => found.container.id,
        None => create(engine, &plan, registry).await?,
    };
    if let Err(error) = start(engine, &id, &plan, registry).await {
        // It would only be in the way.
        undo(engine, &run.id).await?;
        return Err(error);
    }
    step.finish();
    Ok(true)
}

/// Checks that `ensure` could make or start the registry, without doing either: building its program takes minutes.
pub async fn check(engine: &dyn Engine, registry: &Registry, local: bool) -> Result<()> {
    let plan = registry::plan(registry, &catalog::registry()?.image().unwrap_or_default())?;
    usable(engine, registry, &plan.spec, local).await.map(drop)
}

/// The registry if there is one that can be used; otherwise nothing is in its way.
async fn usable(engine: &dyn Engine, registry: &Registry, spec: &ContainerSpec, local: bool) -> Result<Option<Found>> {
    let found = find(engine, &registry.name).await?;
    if let Some(found) = &found {
        same_port(&found.registry, registry.port)?;
        if found.state == State::Paused {
            return Err(paused(&registry.name));
        }
    } else {
        let is_own = |labels: &Labels| labels.get(labels::REGISTRY) == Some(&registry.name);
        require_free(engine, &Names::of([spec]), (Code::RegistryExists, OTHER_NAME), is_own).await?;
        free_port(engine, registry, local).await?;
    }
    Ok(found)
}

/// Labels what a run makes, so that it can be undone.
fn mark(spec: &mut ContainerSpec, run: &str) {
    let label = || (labels::MADE_BY.to_owned(), run.to_owned());
    spec.labels.extend([label()]);
    for mount in &mut spec.mounts {
        match mount {
            Mount::Volume { labels, .. } => labels.extend([label()]),
            Mount::Bind { .. } | Mount::Directory { .. } => {}
        }
    }
}

/// Removes the container and the volume that a run has made; a volume with images of an earlier registry stays.
async fn undo(engine: &dyn Engine, run: &str) -> Result<()> {
    let made = [format!("{}={run}", labels::MADE_BY)];
    for container in engine.containers(&made).await? {
        engine.remove_container(&container.id).await?;
    }
    for volume in engine.volumes(&made).await? {
        engine.remove_volume(&volume.name).await?;
    }
    Ok(())
}

/// Removes a registry that an interrupted run has made, and disconnects clusters from it. One that existed stays.
pub async fn abandon(engine: &SharedEngine, registry: &str, run: &str) -> Result<()> {
    let made = [format!("{}={run}", labels::MADE_BY)];
    if !engine.containers(&made).await?.is_empty() {
        super::delete(engine, registry, false).await?;
    }
    undo(&**engine, run).await
}

/// Creates the container and returns its ID; that of another run which was faster.
async fn create(engine: &dyn Engine, plan: &NodePlan, registry: &Registry) -> Result<String> {
    match engine.create_container(&plan.spec).await {
        Err(error) if error.reason() == Some(Reason::NameTaken) => match find(engine, &registry.name).await? {
            Some(other) => same_port(&other.registry, registry.port).map(|()| other.container.id),
            None => Err(taken_name(&registry.name)),
        },
        created => created,
    }
}

/// Writes the container's configuration and starts it; also one whose start was interrupted, or that runs.
async fn start(engine: &dyn Engine, id: &str, plan: &NodePlan, registry: &Registry) -> Result<()> {
    let tar = plan.files.to_tar(0)?;
    let work = async {
        engine.upload(id, tar).await?;
        engine.start_container(id).await
    };
    work.await.map_err(|error| match error.code() {
        Code::PortTaken => taken_by_program(registry, &error.cause().unwrap_or_default()),
        _ => error,
    })
}

/// Fails if another registry has the port, or another program on this host that does not end in a moment.
async fn free_port(engine: &dyn Engine, registry: &Registry, local: bool) -> Result<()> {
    let deadline = Instant::now() + PORT_TIMEOUT;
    let mut bound = bind(registry.port);
    while local && bound.is_err() && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
        bound = bind(registry.port);
    }
    let registries = list(engine).await?;
    match (registries.iter().find(|other| other.registry.port == registry.port), bound) {
        // Another run was faster.
        (Some(other), _) if other.registry.name == registry.name => Ok(()),
        (Some(other), _) => Err(taken_port(registry, &format!("registry `{}` has it", other.registry.name))),
        (None, Err(source)) if local && source.kind() == ErrorKind::AddrInUse => {
            Err(taken_by_program(registry, &source))
        }
        _ => Ok(()),
    }
}

fn bind(port: u16) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}

fn taken_by_program(registry: &Registry, cause: &dyn Display) -> Error {
    let hint = format!("or see which program uses it: `ss -lnp 'sport = :{}'`", registry.port);
    taken_port(registry, &cause.to_string()).hint(hint)
}

fn taken_port(registry: &Registry, cause: &str) -> Error {
    let Registry { name, port } = registry;
    Error::new(Code::PortTaken, format!("port {port} of this host is taken, so registry `{name}` cannot use it"))
        .because(cause)
        .hint(format!(
            "choose another port: `coracle registry create{} --port PORT`; clusters then use that registry",
            name_option(name)
        ))
}

fn same_port(existing: &Registry, wanted: u16) -> Result<()> {
    if existing.port == wanted { Ok(()) } else { Err(other_port(existing, wanted)) }
}

fn other_port(existing: &Registry, wanted: u16) -> Error {
    Error::new(Code::RegistryExists, format!("registry `{}` is at port {}, not {wanted}", existing.name, existing.port))
        .hint(format!("use it: `{}/IMAGE`", existing.host()))
        .hint(format!(
            "or move it and keep its images: `coracle registry delete --name {0}`, `coracle registry create --name {0} --port {wanted}`",
            existing.name
        ))
}

/// The name is used by a container that is not a registry of coracle.
fn taken_name(name: &str) -> Error {
    Error::new(Code::RegistryExists, format!("container `{name}` exists and is not a registry of coracle"))
        .hint(format!("choose another `--name`, or remove the container: `docker rm --force {name}`"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
