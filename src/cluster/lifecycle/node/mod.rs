//! Nodes that come to a cluster and leave it, while it runs.

pub mod add;
mod drain;
mod etcd;
mod images;
pub mod list;
mod members;
mod planes;
mod prepare;
pub mod remove;
mod takeover;
mod wait;

use futures_util::future::try_join_all;

use crate::cluster::access;
use crate::cluster::found::{self, Cluster};
use crate::cluster::port;
use crate::config::ClusterName;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::kubernetes::{Client, drain as nodes};

/// Tells what depends on the nodes which ones there are now: the control planes, which have the configuration, and the
/// forwarders of ports that were added.
async fn update_dependents(engine: &dyn Engine, name: &ClusterName) -> Result<()> {
    let cluster = found::get(engine, name).await?;
    members::record(engine, &cluster).await?;
    port::follow_nodes(engine, &cluster).await
}

/// Removes what the API has of a node whose container is gone.
async fn remove_objects(client: &Client, node: &str) -> Result<()> {
    nodes::remove_node(client, node, None).await?;
    // Their controllers would notice after a minute that these pods are gone.
    let pods = nodes::pods_on(client, node).await?;
    try_join_all(pods.iter().map(|pod| nodes::remove_pod(client, pod))).await.map(drop).map_err(Error::from)
}

/// A cluster whose API answers, and a client of it.
async fn running(engine: &dyn Engine, name: &ClusterName) -> Result<(Cluster, Client)> {
    let cluster = found::get(engine, name).await?;
    let client = access::client(engine, &cluster).await?;
    client.get("/readyz").await.map_err(|failure| {
        Error::new(Code::ApiFailed, format!("the API of cluster `{name}` is not ready"))
            .because(failure.text())
            .hint(format!("`coracle status --name {name}` says why"))
    })?;
    Ok((cluster, client))
}
