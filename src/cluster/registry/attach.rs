//! Connecting a registry to clusters: their network, containerd of every node, and the ConfigMap that tools read.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::time::Instant;

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::cluster::registry::{configuration, put, stopped};
use crate::engine::Engine;
use crate::error::Result;
use crate::kubernetes::{Client, apply};
use crate::plan::FileTree;
use crate::plan::beside::registry;
use crate::plan::facts::Registry;
use crate::plan::node::container::network_name;
use crate::plan::node::registries;
use crate::ui::Ui;

/// How long the API of a cluster may take that was there before.
pub(crate) const API: Duration = Duration::from_secs(10);

/// Makes a registry reachable in the network of a cluster whose nodes know it, and tells tools about it.
pub async fn attach(
    engine: &dyn Engine,
    client: &Client,
    registry: &Registry,
    cluster: &str,
    deadline: Instant,
) -> Result<()> {
    let object = registry::hosting(registry)?;
    let connected = connect(engine, registry, cluster);
    tokio::try_join!(connected, apply::apply(client, &object, deadline)).map(drop)
}

async fn connect(engine: &dyn Engine, registry: &Registry, cluster: &str) -> Result<()> {
    let name = network_name(cluster);
    let networks = engine.networks().await?;
    let subnets = networks.iter().find(|network| network.name == name).map(|network| network.subnets.as_slice());
    let address = registry.address(subnets.unwrap_or_default());
    engine.connect_network(&name, &registry.name, &registry.alias(), address).await
}

/// The clusters that use a registry by what their configuration says, or does not say.
pub async fn users(engine: &dyn Engine, registry: &str) -> Result<Vec<Cluster>> {
    let all = crate::cluster::list(engine).await?;
    let uses = try_join_all(all.iter().map(|cluster| uses(engine, cluster, registry))).await?;
    Ok(all.into_iter().zip(uses).filter(|(_, uses)| *uses).map(|(cluster, _)| cluster).collect())
}

async fn uses(engine: &dyn Engine, cluster: &Cluster, registry: &str) -> Result<bool> {
    // What cannot be read any more says nothing else than a file without the field.
    let asked = configuration(engine, cluster).await.ok().flatten().and_then(|config| config.registry);
    Ok(registry::wanted(asked.as_ref()) == Some(registry))
}

/// Makes a registry known to clusters that are there, all at once; returns what each of them said.
pub async fn attach_all(engine: &dyn Engine, registry: &Registry, clusters: &[Cluster]) -> Vec<(String, Result<()>)> {
    let one = async |cluster: &Cluster| {
        let work = async {
            try_join_all(cluster.nodes.iter().map(|node| tell(engine, &node.name, registry))).await?;
            if let Some(node) = cluster.control_plane().filter(|node| !node.is_running()) {
                // Its API would only keep everybody waiting.
                connect(engine, registry, &cluster.name).await?;
                return Err(stopped(node));
            }
            let client = access::client(engine, cluster).await?;
            attach(engine, &client, registry, &cluster.name, Instant::now() + API).await
        };
        (cluster.name.clone(), work.await)
    };
    join_all(clusters.iter().map(one)).await
}

/// Says which clusters could not be told of a registry; returns the others.
pub fn report(told: Vec<(String, Result<()>)>, registry: &Registry, ui: &Ui) -> Vec<String> {
    let mut connected = Vec::new();
    for (cluster, result) in told {
        match result {
            Ok(()) => connected.push(cluster),
            Err(error) => ui.warn(format!(
                "cluster `{cluster}` was not told: {error}; when it runs: `coracle registry create --name {} --cluster {cluster}`",
                registry.name
            )),
        }
    }
    connected
}

/// Gives a node the file by which its containerd finds the registry.
async fn tell(engine: &dyn Engine, node: &str, registry: &Registry) -> Result<()> {
    let mut files = FileTree::default();
    registries::local_files(&mut files, registry);
    put(engine, node, &files).await
}
