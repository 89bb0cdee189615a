//! Deleting a registry, and disconnecting clusters from it.

use futures_util::future::{join_all, try_join_all};
use http::Method;
use tokio::time::Instant;

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::cluster::registry::attach::API_TIMEOUT;
use crate::cluster::registry::known::{Found, list};
use crate::cluster::registry::nodes::stopped;
use crate::config::ClusterName;
use crate::engine::Engine;
use crate::engine::SharedEngine;
use crate::error::Result;
use crate::kubernetes::{Client, Failure, apply};
use crate::plan::beside::registry::{HOSTING, hosting};
use crate::plan::facts::Registry;
use crate::plan::labels;
use crate::plan::node::registries::local_directory;

/// What was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryRemoval {
    pub container: bool,
    /// The container's port.
    pub port: Option<u16>,
    /// The volume with its images.
    pub volume: bool,
    /// The volume was kept.
    pub kept: bool,
    /// Clusters that were disconnected.
    pub disconnected: Vec<ClusterName>,
    /// Clusters that could not be disconnected completely, and why.
    pub connected: Vec<(ClusterName, String)>,
}

/// Whether there is neither a registry of this name nor a volume with images of an earlier one.
pub async fn is_absent(engine: &dyn Engine, name: &str) -> Result<bool> {
    let label = [format!("{}={name}", labels::REGISTRY)];
    Ok(engine.containers(&label).await?.is_empty() && engine.volumes(&label).await?.is_empty())
}

/// Deletes a registry, and disconnects clusters from it; deletes its images only if `volumes`.
pub async fn delete(engine: &SharedEngine, name: &str, volumes: bool) -> Result<RegistryRemoval> {
    let mut removed = RegistryRemoval::default();
    let (mut same, others): (Vec<Found>, Vec<Found>) =
        list(&**engine).await?.into_iter().partition(|found| found.registry.name == name);
    if let Some(found) = same.pop() {
        let clusters = crate::cluster::list(&**engine).await?;
        let clusters: Vec<&Cluster> =
            clusters.iter().filter(|cluster| found.clusters.contains(&cluster.name)).collect();
        let disconnected = async |cluster: &&Cluster| {
            let other = others.iter().find(|other| other.clusters.contains(&cluster.name));
            disconnect(&**engine, cluster, &found.registry, other.map(|other| &other.registry)).await
        };
        for (cluster, result) in clusters.iter().zip(join_all(clusters.iter().map(disconnected)).await) {
            match result {
                Ok(()) => removed.disconnected.push(cluster.name.clone()),
                Err(error) => removed.connected.push((cluster.name.clone(), error.to_string())),
            }
        }
        engine.remove_container(&found.container.id).await?;
        removed.container = true;
        removed.port = Some(found.registry.port);
    }
    let of_registry = format!("{}={name}", labels::REGISTRY);
    for volume in engine.volumes(&[of_registry]).await? {
        if volumes {
            engine.remove_volume(&volume.name).await?;
        }
        removed.volume |= volumes;
        removed.kept |= !volumes;
    }
    Ok(removed)
}

/// Removes a registry from a cluster's nodes and its ConfigMap, which then names another registry of the cluster.
async fn disconnect(
    engine: &dyn Engine,
    cluster: &Cluster,
    registry: &Registry,
    other: Option<&Registry>,
) -> Result<()> {
    let directory = local_directory(registry);
    let command = ["rm", "-rf", directory.as_str()];
    let (up, down): (Vec<_>, Vec<_>) = cluster.nodes.iter().partition(|node| node.is_running());
    let nodes = up.iter().map(|node| engine.exec(&node.name, &command, None));
    let nodes = try_join_all(nodes);
    if let Some(node) = cluster.control_plane().filter(|node| !node.is_running()) {
        nodes.await?;
        return Err(stopped(node));
    }
    let client = access::client(engine, cluster).await?;
    let object = async {
        match other {
            Some(other) => apply::apply(&client, &hosting(other)?, Instant::now() + API_TIMEOUT).await.map(drop),
            None => delete_hosting(&client, registry).await.map_err(Into::into),
        }
    };
    let (nodes, object) = tokio::join!(nodes, object);
    nodes?;
    object?;
    down.first().map_or(Ok(()), |node| Err(stopped(node)))
}

/// Deletes the ConfigMap, unless it names another registry.
async fn delete_hosting(client: &Client, registry: &Registry) -> Result<(), Failure> {
    let (namespace, name) = HOSTING;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    let object = match client.get(&path).await {
        Err(Failure::Status(404, ..)) => return Ok(()),
        other => other?,
    };
    let text = object["data"]["localRegistryHosting.v1"].as_str().unwrap_or_default();
    if !text.lines().any(|line| line.trim_end().ends_with(&registry.host())) {
        return Ok(());
    }
    client.send(Method::DELETE, &path, "application/json", None).await.map(drop)
}
