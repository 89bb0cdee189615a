//! Deleting what coracle made: by label, so that it works on half a cluster, twice, and after an interruption.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::engine::place::Place;
use crate::engine::spec::{Container, Network};
use crate::error::{Code, Error, Result};
use crate::plan::labels;

/// How often removing a container is tried: on cgroup v1 a frozen pod keeps its node alive until it is thawed.
const MAX_ATTEMPTS: u32 = 6;

/// What is deleted: everything of a cluster, or only what one run made.
#[derive(Debug, Clone)]
pub enum Scope {
    Cluster(ClusterName),
    /// The run with this ID.
    Run(String),
}

impl Scope {
    fn label(&self) -> String {
        match self {
            Self::Cluster(name) => format!("{}={name}", labels::CLUSTER),
            Self::Run(id) => format!("{}={id}", labels::RUN),
        }
    }
}

/// What was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterRemoval {
    /// Names of containers.
    pub containers: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Names of containers, not made by coracle, that were connected to a network.
    pub disconnected: Vec<String>,
}

impl ClusterRemoval {
    /// Whether nothing existed.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.volumes.is_empty() && self.networks.is_empty()
    }
}

/// Deletes containers, then volumes and networks.
pub async fn delete(engine: &SharedEngine, scope: &Scope) -> Result<ClusterRemoval> {
    let labels = [scope.label()];
    let mut removed = ClusterRemoval::default();
    let containers = engine.containers(&labels).await?;
    let results = join_all(containers.iter().map(|container| remove_container(engine, container))).await;
    removed.containers.extend(containers.iter().map(|container| container.name.clone()));
    results.into_iter().collect::<Result<Vec<()>>>()?;

    let volumes = engine.volumes(&labels).await?;
    let results = join_all(volumes.iter().map(|volume| engine.remove_volume(&volume.name))).await;
    removed.volumes.extend(volumes.iter().map(|volume| volume.name.clone()));

    let networks = engine.networks().await?;
    let matches = |labels: &crate::engine::spec::Labels| match scope {
        Scope::Cluster(name) => labels.get(labels::CLUSTER).is_some_and(|value| value == name.as_str()),
        Scope::Run(id) => labels.get(labels::RUN) == Some(id),
    };
    let networks: Vec<_> = networks.into_iter().filter(|network| matches(&network.labels)).collect();
    removed.disconnected = disconnect(engine, &networks).await?;
    let network_results = join_all(networks.iter().map(|network| engine.remove_network(&network.id))).await;
    removed.networks.extend(networks.iter().map(|network| network.name.clone()));
    results.into_iter().chain(network_results).collect::<Result<Vec<()>>>()?;
    Ok(removed)
}

/// Disconnects all containers from networks that are about to be removed, which is not possible before. Returns the names of
/// those that coracle did not make.
async fn disconnect(engine: &SharedEngine, networks: &[Network]) -> Result<Vec<String>> {
    if networks.is_empty() {
        return Ok(Vec::new());
    }
    let containers = engine.containers(&[]).await?;
    let pairs = containers.iter().flat_map(|container| networks.iter().map(move |network| (container, network)));
    // By ID: another create may have made a network of the same name, and its nodes stay connected.
    let connected: Vec<_> = pairs.filter(|(container, network)| container.network_ids.contains(&network.id)).collect();
    try_join_all(connected.iter().map(|(container, network)| engine.disconnect_network(&network.id, &container.id)))
        .await?;
    // The container that coracle is in was connected by coracle.
    let is_own = |container: &Container| matches!(engine.place(), Place::Container { id, .. } if container.id.starts_with(id.as_str()));
    let others = connected
        .into_iter()
        .filter(|(container, _)| !container.labels.contains_key(labels::REGISTRY) && !is_own(container));
    Ok(others.map(|(container, _)| container.name.clone()).collect())
}

async fn remove_container(engine: &SharedEngine, container: &Container) -> Result<()> {
    let mut last = None;
    for attempt in 0..MAX_ATTEMPTS {
        // With a frozen process the engine gives up only after ten seconds.
        thaw(&container.id);
        match engine.remove_container(&container.id).await {
            Ok(()) => return Ok(()),
            // Another attempt would wait as long, for as little.
            Err(error) if error.code() == Code::EngineUnreachable => return Err(error.on_node(&container.name)),
            Err(error) => {
                last = Some(error);
                tokio::time::sleep(Duration::from_millis(200 * u64::from(attempt + 1))).await;
            }
        }
    }
    let cause = last.map(|error| error.to_string()).unwrap_or_default();
    Err(Error::new(Code::StepFailed, "cannot remove the container")
        .on_node(&container.name)
        .because(cause)
        .hint(format!("restart the engine, then `docker rm -f -v {}`", container.name)))
}

/// Thaws every cgroup below a container: a pod that was frozen when its node was killed cannot die (cgroup v1 only).
///
/// Works only where the engine is on this host and the user may write there.
fn thaw(id: &str) {
    // The names of the engine's cgroupfs and systemd drivers.
    let places = [format!("docker/{id}"), format!("system.slice/docker-{id}.scope")];
    let mut directories = places.map(|place| std::path::Path::new("/sys/fs/cgroup/freezer").join(place)).to_vec();
    while let Some(directory) = directories.pop() {
        let state = directory.join("freezer.state");
        if std::fs::read_to_string(&state).is_ok_and(|text| text.trim() != "THAWED") {
            // A cgroup that disappears meanwhile is what is wanted.
            let _ = std::fs::write(&state, "THAWED");
        }
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        directories.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
    }
}
