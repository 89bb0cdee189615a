//! Starting CoreDNS before the controllers are up.

use serde_json::Value;
use tokio::time::Instant;

use crate::error::Result;
use crate::kubernetes::{Client, apply};
use crate::plan::Layout;
use crate::plan::objects::first_pods;

/// Makes CoreDNS' `ReplicaSet` and pods, where the scheduler would have no choice to make.
///
/// # Errors
///
/// When the API server refuses one. The controllers then make them, only later.
pub(crate) async fn start(client: &Client, layout: &Layout, workloads: &[Value], deadline: Instant) -> Result<()> {
    let is_coredns = |object: &&Value| object["kind"] == "Deployment" && object["metadata"]["name"] == "coredns";
    let Some(deployment) = workloads.iter().find(is_coredns) else { return Ok(()) };
    let replicas = deployment["spec"]["replicas"].as_u64().unwrap_or_default();
    let nodes = first_pods::nodes(layout, usize::try_from(replicas).unwrap_or_default());
    if nodes.is_empty() {
        return Ok(());
    }
    let set = apply::create(client, &first_pods::replica_set(deployment), deadline).await?;
    let pods = nodes.into_iter().map(|node| first_pods::pod(&set, node));
    let pods: Vec<_> = pods.collect();
    futures_util::future::try_join_all(pods.iter().map(|pod| apply::create(client, pod, deadline))).await?;
    Ok(())
}
