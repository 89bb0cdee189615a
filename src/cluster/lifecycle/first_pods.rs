//! Starting CoreDNS before the controllers are up.

use serde_json::Value;
use tokio::time::Instant;

use crate::error::Result;
use crate::kubernetes::{Client, apply, object};
use crate::plan::Layout;
use crate::plan::objects::first_pods;

/// Creates CoreDNS' `ReplicaSet` and pods if the scheduler would have no choice where to place them.
///
/// What the API server refuses, the controllers create later.
pub(crate) async fn start(client: &Client, layout: &Layout, workloads: &[Value], deadline: Instant) -> Result<()> {
    let is_coredns = |object: &&Value| object["kind"] == "Deployment" && object::name(object) == "coredns";
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
