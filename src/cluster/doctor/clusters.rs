//! The clusters that exist, and what others have left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cluster::doctor::entries;
use crate::cluster::doctor::finding::Finding;
use crate::cluster::doctor::fix::Fix;
use crate::cluster::found::{self, Cluster};
use crate::cluster::lifecycle::bindings;
use crate::cluster::lifecycle::garbage::{self, Fate, Item};
use crate::cluster::registry;
use crate::cluster::state::ClusterState;
use crate::engine::process::{self, Life};
use crate::engine::spec::State;
use crate::engine::{Engine, SharedEngine};
use crate::error::{Error, Result};
use crate::host::check::odd;
use crate::host::checks::Id;
use crate::host::routes;
use crate::kubeconfig::Location;
use crate::plan::labels;
use crate::plan::node::container::network_name;

/// How long kubectl may take to say its version.
const KUBECTL_TIMEOUT: Duration = Duration::from_secs(1);

type Failures = Vec<(Error, Option<Fix>)>;

/// Looks at all clusters of the engine, what is left of killed commands, directories of killed builds among it, and the entries
/// that lead to clusters.
pub(super) async fn findings(
    engine: &SharedEngine,
    kubeconfig: Option<&Location>,
    directories: Vec<PathBuf>,
) -> Result<Vec<Finding>> {
    let clusters = found::list(&**engine).await?;
    let settled: Vec<&Cluster> = clusters.iter().filter(|cluster| !is_in_the_making(cluster)).collect();
    let (mut found, version) = tokio::try_join!(left(engine, directories), async {
        Ok::<_, Error>(kubectl_version(Path::new("kubectl")).await)
    })?;
    found.extend(states(&settled));
    found.extend(startable(&**engine, &settled).await?);
    found.extend(registries(&**engine).await?);
    let skew = version.as_deref().into_iter().flat_map(|version| skew(version, &clusters)).collect();
    found.extend(Finding::each(Id::KubectlSkew, skew));
    if engine.place().is_host() {
        found.extend(Finding::each(Id::NetworkAstray, settled.iter().filter_map(|cluster| astray(cluster)).collect()));
    }
    if let Some(location) = kubeconfig {
        found.extend(entries::findings(&**engine, location, &clusters).await);
    }
    Ok(found)
}

/// Whether the `create` that makes it still runs.
fn is_in_the_making(cluster: &Cluster) -> bool {
    let mut marks = cluster.nodes.iter().filter_map(|node| node.container.labels.get(labels::PROCESS));
    marks.any(|mark| process::life(mark) == Life::Lives)
}

/// What `gc` would remove or leave.
async fn left(engine: &SharedEngine, directories: Vec<PathBuf>) -> Result<Vec<Finding>> {
    let (mut over, mut gone, mut unknown) = (Failures::new(), Failures::new(), Failures::new());
    for item in garbage::find(engine, directories).await? {
        let Item { kind, name, why, fate } = &item;
        let what = format!("{kind} `{name}`");
        match fate {
            Fate::Stays => {
                let hint = format!("if it is no longer needed: {}", removal(kind, name, why));
                unknown.push((odd(format!("{what} may be a leftover of a killed command"), hint).because(why), None));
            }
            Fate::Expire(_) => {
                let hint = "`coracle gc` removes it";
                over.push((odd(what, hint).because(why), Some(Fix::Collect(Box::new(item)))));
            }
            _ => {
                let error = odd(format!("{what} is left"), "`coracle gc` removes it").because(why);
                gone.push((error, Some(Fix::Collect(Box::new(item)))));
            }
        }
    }
    let lists = [(Id::ClusterExpired, over), (Id::Leftovers, gone), (Id::ClusterUnfinished, unknown)];
    Ok(lists.into_iter().flat_map(|(id, failures)| Finding::each(id, failures)).collect())
}

/// The command that removes what `gc` leaves.
fn removal(kind: &str, name: &str, why: &str) -> String {
    let named = why.split('`').find(|part| part.starts_with("coracle delete")).map(str::to_owned);
    let command = named.unwrap_or_else(|| match kind {
        "cluster" => format!("coracle delete cluster --name {name}"),
        kind => format!("docker {kind} rm {name}"),
    });
    format!("`{command}`")
}

/// A cluster whose nodes this host reaches by another route than through their network.
fn astray(cluster: &Cluster) -> Option<(Error, Option<Fix>)> {
    let node = cluster.nodes.iter().find(|node| node.is_running())?;
    let (network, address) = (node.container.network_ids.first()?, *node.addresses.first()?);
    let route = routes::astray(network, address)?;
    let error = odd(
        format!("this host does not reach the nodes of cluster `{}` through their network", cluster.name),
        format!("let the VPN leave private addresses alone, or: `sudo ip rule add to {address} table main priority 1`"),
    );
    Some((error.because(format!("it uses the route `{route}` instead, as VPN clients set it")), None))
}

/// Whether they run.
fn states(clusters: &[&Cluster]) -> Vec<Finding> {
    let (mut idle, mut partial, mut restarting) = (Failures::new(), Failures::new(), Failures::new());
    for cluster in clusters {
        let name = &cluster.name;
        let ill = |state| matches!(state, State::Restarting | State::Dead);
        for container in cluster.containers().filter(|container| ill(container.state)) {
            let hint = format!("`coracle export logs --name {name}` writes its logs");
            let error = odd(format!("`{}` of cluster `{name}` does not start", container.name), hint);
            restarting.push((error.because(format!("its container is {}", container.state)), None));
        }
        let start = format!("`coracle start {name}` starts it");
        match cluster.state() {
            ClusterState::Running => {}
            ClusterState::Stopped => idle.push((odd(format!("cluster `{name}` is stopped"), start), None)),
            ClusterState::Paused => {
                let hint = format!("`coracle unpause {name}` resumes it");
                idle.push((odd(format!("cluster `{name}` is paused"), hint), None));
            }
            ClusterState::Partial => {
                let still = cluster.containers().filter(|container| !container.is_running() && !ill(container.state));
                let names: Vec<String> =
                    still.map(|container| format!("`{}` is {}", container.name, container.state)).collect();
                let error = || odd(format!("cluster `{name}` is only partly running"), start).because(names.join(", "));
                partial.extend((!names.is_empty()).then(|| (error(), None)));
            }
        }
    }
    let lists = [(Id::ClusterStopped, idle), (Id::ClusterPartial, partial), (Id::NodeRestarting, restarting)];
    lists.into_iter().flat_map(|(id, failures)| Finding::each(id, failures)).collect()
}

/// Whether those that are stopped have what they need to start.
async fn startable(engine: &dyn Engine, clusters: &[&Cluster]) -> Result<Vec<Finding>> {
    let (networks, containers) = (engine.networks().await?, engine.containers(&[]).await?);
    let (mut without, mut taken) = (Failures::new(), Failures::new());
    for cluster in clusters.iter().filter(|cluster| cluster.state() == ClusterState::Stopped) {
        let name = &cluster.name;
        if !networks.iter().any(|network| network.name == network_name(name.as_str())) {
            let hint = format!("delete and recreate it: `coracle delete cluster --name {name}`");
            let error = odd(format!("cluster `{name}` cannot start: its network is gone"), hint);
            without.push((error.because("`docker network prune` removes the networks of stopped clusters"), None));
        }
        taken.extend(bindings::obstacle(engine, cluster, &containers).await?.map(|error| (error, None)));
    }
    let lists = [(Id::NetworkMissing, without), (Id::PortLost, taken)];
    Ok(lists.into_iter().flat_map(|(id, failures)| Finding::each(id, failures)).collect())
}

async fn registries(engine: &dyn Engine) -> Result<Vec<Finding>> {
    let idle = registry::list(engine).await?.into_iter().filter(|found| found.state != State::Running);
    let failure = |found: registry::Found| {
        let name = &found.registry.name;
        let (verb, fix) = match found.state {
            State::Paused => ("unpause", None),
            _ => ("start", Some(Fix::Start(name.clone()))),
        };
        let error = odd(format!("registry `{name}` does not run"), format!("`docker {verb} {name}`"));
        (error.because(format!("its container is {}", found.state)), fix)
    };
    Ok(Finding::each(Id::RegistryStopped, idle.map(failure).collect()))
}

/// The version of the user's kubectl, such as `v1.36.3`; none if there is none, or it does not say.
async fn kubectl_version(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.args(["version", "--client", "--output=json"]).kill_on_drop(true);
    let output = timeout(KUBECTL_TIMEOUT, command.output()).await.ok()?.ok()?;
    let said: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(said["clientVersion"]["gitVersion"].as_str()?.to_owned())
}

/// The clusters for which this kubectl is not made.
fn skew(kubectl: &str, clusters: &[Cluster]) -> Failures {
    let minor = |version: &str| version.trim_start_matches('v').split('.').nth(1)?.parse::<u32>().ok();
    let Some(own) = minor(kubectl) else { return Failures::new() };
    let other = |cluster: &&Cluster| {
        let version = cluster.version.as_deref().and_then(minor);
        version.is_some_and(|version| version.abs_diff(own) > 1)
    };
    let failure = |cluster: &Cluster| {
        let (name, version) = (&cluster.name, cluster.version.as_deref().unwrap_or_default());
        let hint = format!("`coracle kubectl --name {name}` has the cluster's own version");
        let error = odd(format!("kubectl {kubectl} does not support cluster `{name}`"), hint);
        (
            error.because(format!(
                "the cluster has {version}, and kubectl supports clusters one minor version older or newer"
            )),
            None,
        )
    };
    clusters.iter().filter(other).map(failure).collect()
}

#[cfg(test)]
#[path = "clusters_tests.rs"]
mod tests;
