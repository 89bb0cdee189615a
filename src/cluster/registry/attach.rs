//! Connecting a registry to clusters: their network, containerd of every node, and the ConfigMap that tools read.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use crate::cluster::access;
use crate::cluster::found::{Cluster, cluster_of};
use crate::cluster::registry::known::find;
use crate::cluster::registry::nodes::{stopped, write_files};
use crate::cluster::run::Run;
use crate::config::ClusterName;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::kubernetes::{Client, apply};
use crate::plan::FileTree;
use crate::plan::beside::registry;
use crate::plan::facts::Registry;
use crate::plan::node::registries;
use crate::ui::Ui;

/// How long the API of an existing cluster may take.
pub(super) const API_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a registry reachable in the network of a cluster whose nodes know it, and announces it to tools.
pub async fn attach(run: &Run, client: &Client, registry: &Registry, cluster: &ClusterName) -> Result<()> {
    let object = registry::hosting(registry)?;
    let connected = connect_network(&*run.engine, registry, cluster);
    tokio::try_join!(connected, apply::apply(client, &object, run.deadline)).map(drop)
}

/// Connects the registry's container with the cluster's network: both found by label, since others may have their names.
async fn connect_network(engine: &dyn Engine, registry: &Registry, cluster: &ClusterName) -> Result<()> {
    let missing = |what: String| Error::new(Code::NotFound, format!("{what} does not exist"));
    let networks = engine.networks().await?;
    let network = networks.iter().find(|network| cluster_of(&network.labels).as_ref() == Some(cluster));
    let network = network.ok_or_else(|| missing(format!("the network of cluster `{cluster}`")))?;
    let found = find(engine, &registry.name).await?;
    let found = found.ok_or_else(|| missing(format!("registry `{}`", registry.name)))?;
    let address = registry.address(&network.subnets);
    engine.connect_network(&network.id, &found.container.id, &registry.alias(), address.as_slice()).await
}

/// The clusters whose configuration names a registry, or for the shared one does not refuse it.
pub async fn users(engine: &dyn Engine, registry: &str) -> Result<Vec<Cluster>> {
    let all = crate::cluster::list(engine).await?;
    let uses = try_join_all(all.iter().map(|cluster| uses(engine, cluster, registry))).await?;
    Ok(all.into_iter().zip(uses).filter(|(_, uses)| *uses).map(|(cluster, _)| cluster).collect())
}

async fn uses(engine: &dyn Engine, cluster: &Cluster, registry: &str) -> Result<bool> {
    // A configuration that cannot be read counts as one without the field.
    let asked = cluster.configuration(engine).await.ok().flatten().and_then(|config| config.registry);
    Ok(registry::wanted(asked.as_ref()) == Some(registry))
}

/// Connects existing clusters with a registry, all at once; returns the result for each of them.
pub async fn attach_all(run: &Run, registry: &Registry, clusters: &[Cluster]) -> Vec<(ClusterName, Result<()>)> {
    let results =
        clusters.iter().map(async |cluster| (cluster.name.clone(), attach_existing(run, registry, cluster).await));
    join_all(results).await
}

async fn attach_existing(run: &Run, registry: &Registry, cluster: &Cluster) -> Result<()> {
    let engine = &*run.engine;
    try_join_all(cluster.nodes.iter().map(|node| connect(engine, &node.name, registry))).await?;
    if let Some(node) = cluster.control_plane().filter(|node| !node.is_running()) {
        // There is no API to wait for.
        connect_network(engine, registry, &cluster.name).await?;
        return Err(stopped(node));
    }
    let client = access::client(engine, cluster).await?;
    attach(&run.within(API_TIMEOUT), &client, registry, &cluster.name).await
}

/// Warns of the clusters that could not be connected; returns the others.
pub fn report(results: Vec<(ClusterName, Result<()>)>, registry: &Registry, ui: &Ui) -> Vec<ClusterName> {
    let mut connected = Vec::new();
    for (cluster, result) in results {
        match result {
            Ok(()) => connected.push(cluster),
            Err(error) => ui.warn(format!(
                "cluster `{cluster}` was not connected: {error}; when it runs: `coracle registry create --name {} --cluster {cluster}`",
                registry.name
            )),
        }
    }
    connected
}

/// Writes the file by which a node's containerd finds the registry.
async fn connect(engine: &dyn Engine, node: &str, registry: &Registry) -> Result<()> {
    let mut files = FileTree::default();
    registries::local_files(&mut files, registry);
    write_files(engine, node, &files).await
}
