//! Deleting what coracle made: by label, so that it works on half a cluster, twice, and after an interruption.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use crate::cluster::found::cluster_of;
use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::engine::place::Place;
use crate::engine::spec::{Container, Labels, Network, Volume};
use crate::error::{Code, Error, Result};
use crate::plan::labels;
use crate::plan::lifetime::Expiry;

/// How often removing a container is tried: on cgroup v1 a frozen pod keeps its node alive until it is thawed.
const MAX_ATTEMPTS: u32 = 6;

/// What is deleted: everything of a cluster, or only what one run made.
#[derive(Debug, Clone)]
pub enum Scope {
    Cluster(ClusterName),
    /// The run with this ID.
    Run(String),
    /// A cluster that was created to end at this moment, and none that got its name afterwards.
    Expired(ClusterName, Expiry),
}

impl Scope {
    /// The labels that everything in it has.
    fn labels(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Cluster(name) => vec![(labels::CLUSTER, name.to_string())],
            Self::Run(id) => vec![(labels::RUN, id.clone())],
            Self::Expired(name, expiry) => {
                vec![(labels::CLUSTER, name.to_string()), (labels::EXPIRES, expiry.to_string())]
            }
        }
    }

    /// The same as the engine selects by them.
    fn selectors(&self) -> Vec<String> {
        self.labels().iter().map(|(key, value)| format!("{key}={value}")).collect()
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
    let labels = scope.selectors();
    let mut removed = ClusterRemoval::default();
    let containers = engine.containers(&labels).await?;
    let results = join_all(containers.iter().map(|container| remove_container(engine, container))).await;
    removed.containers.extend(containers.iter().map(|container| container.name.clone()));
    results.into_iter().collect::<Result<Vec<()>>>()?;

    let volumes = engine.volumes(&labels).await?;
    let results = join_all(volumes.iter().map(|volume| remove_volume(engine, volume))).await;
    removed.volumes.extend(volumes.iter().map(|volume| volume.name.clone()));

    let networks = networks(engine, scope).await?;
    removed.disconnected = disconnect(engine, &networks).await?;
    let network_results =
        join_all(networks.iter().map(|network| repeated(async || engine.remove_network(&network.id).await))).await;
    removed.networks.extend(networks.iter().map(|network| network.name.clone()));
    results.into_iter().chain(network_results).collect::<Result<Vec<()>>>()?;
    Ok(removed)
}

/// The networks that are deleted.
async fn networks(engine: &SharedEngine, scope: &Scope) -> Result<Vec<Network>> {
    let wanted = scope.labels();
    let matches = |labels: &Labels| wanted.iter().all(|(key, value)| labels.get(*key) == Some(value));
    Ok(engine.networks().await?.into_iter().filter(|network| matches(&network.labels)).collect())
}

/// Whether nothing of this scope exists.
pub async fn is_absent(engine: &SharedEngine, scope: &Scope) -> Result<bool> {
    let labels = scope.selectors();
    Ok(engine.containers(&labels).await?.is_empty()
        && engine.volumes(&labels).await?.is_empty()
        && networks(engine, scope).await?.is_empty())
}

/// The names of all clusters that something is left of, also if it is only a network or a volume.
pub async fn names(engine: &SharedEngine) -> Result<BTreeSet<ClusterName>> {
    let label = [labels::CLUSTER.to_owned()];
    let (containers, volumes, networks) =
        (engine.containers(&label).await?, engine.volumes(&label).await?, engine.networks().await?);
    let labels = containers.iter().map(|container| &container.labels);
    let labels = labels.chain(volumes.iter().map(|volume| &volume.labels));
    Ok(labels.chain(networks.iter().map(|network| &network.labels)).filter_map(cluster_of).collect())
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

/// Tries a removal several times: what another command removes at the same time still holds it for a moment.
async fn repeated(removal: impl AsyncFn() -> Result<()>) -> Result<()> {
    let mut last = removal().await;
    for attempt in 1..MAX_ATTEMPTS {
        // An engine that does not answer would take as long again, for as little.
        if last.as_ref().map_or_else(|error| error.code() == Code::EngineUnreachable, |()| true) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200 * u64::from(attempt))).await;
        last = removal().await;
    }
    last
}

pub(super) async fn remove_container(engine: &SharedEngine, container: &Container) -> Result<()> {
    let removed = repeated(async || {
        // With a frozen process the engine gives up only after ten seconds.
        thaw(&container.id);
        engine.remove_container(&container.id).await
    });
    removed.await.map_err(|error| match error.code() {
        Code::EngineUnreachable => error.on_node(&container.name),
        _ => Error::new(Code::StepFailed, "cannot remove the container")
            .on_node(&container.name)
            .because(error.to_string())
            .hint(format!("restart the engine, then `docker rm -f -v {}`", container.name)),
    })
}

pub(super) async fn remove_volume(engine: &SharedEngine, volume: &Volume) -> Result<()> {
    let removed = repeated(async || engine.remove_volume(&volume.name).await).await;
    removed.map_err(|error| {
        error.hint(format!("`docker ps --all --filter volume={}` shows which container uses it", volume.name))
    })
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

#[cfg(test)]
#[path = "delete_tests.rs"]
mod tests;
