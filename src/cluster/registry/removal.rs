//! Taking registries away: from a network that goes, or altogether.

use futures_util::future::{join_all, try_join_all};
use http::Method;

use super::find;
use crate::cluster::{Cluster, SharedEngine, access};
use crate::engine::Engine;
use crate::error::Result;
use crate::kubernetes::{Client, Failure};
use crate::plan::registry::{HOSTING, REGISTRY_LABEL, Registry, directory};

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// The container.
    pub container: bool,
    /// The volume with its images.
    pub volume: bool,
    /// The volume is still there.
    pub kept: bool,
    /// Clusters that could not be told, and why.
    pub untold: Vec<(String, String)>,
}

/// Removes a registry, and what clusters know of it; its images only if `volumes`.
pub async fn remove(engine: &SharedEngine, name: &str, volumes: bool) -> Result<Removed> {
    let mut removed = Removed::default();
    if let Some(found) = find(&**engine, name).await? {
        let clusters = crate::cluster::list(&**engine).await?;
        let clusters: Vec<&Cluster> =
            clusters.iter().filter(|cluster| found.clusters.contains(&cluster.name)).collect();
        let told = join_all(clusters.iter().map(|cluster| forget(&**engine, cluster, &found.registry))).await;
        for (cluster, told) in clusters.iter().zip(told) {
            removed.untold.extend(told.err().map(|error| (cluster.name.clone(), error.to_string())));
        }
        engine.remove_container(&found.container.id).await?;
        removed.container = true;
    }
    let of_registry = format!("{REGISTRY_LABEL}={name}");
    for volume in engine.volumes(&[of_registry]).await? {
        if volumes {
            engine.remove_volume(&volume.name).await?;
        }
        removed.volume |= volumes;
        removed.kept |= !volumes;
    }
    Ok(removed)
}

/// Takes a registry out of a cluster's nodes and its ConfigMap.
async fn forget(engine: &dyn Engine, cluster: &Cluster, registry: &Registry) -> Result<()> {
    let folder = directory(registry);
    let command = ["rm", "-rf", folder.as_str()];
    let nodes = cluster.nodes.iter().map(|node| engine.exec(&node.name, &command, None));
    let client = access::client(engine, cluster).await?;
    let (nodes, object) = tokio::join!(try_join_all(nodes), forget_object(&client, registry));
    nodes?;
    object.map_err(Into::into)
}

/// Deletes the ConfigMap, unless it is about another registry.
async fn forget_object(client: &Client, registry: &Registry) -> Result<(), Failure> {
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
