//! Starting CoreDNS, kube-proxy and the agent before the controllers are up.

use futures_util::future::{join_all, try_join_all};
use serde_json::Value;
use tokio::time::Instant;

use crate::error::Result;
use crate::kubernetes::{Client, apply, object};
use crate::plan::Layout;
use crate::plan::objects::first_pods;

/// Creates the pods for which the scheduler would have no choice where to place them.
///
/// What the API server refuses, the controllers create later, or report.
pub(crate) async fn start(client: &Client, layout: &Layout, created: &[Value], deadline: Instant) {
    let daemons = daemons(layout, created);
    let daemons = join_all(daemons.iter().map(|pod| apply::create(client, pod, deadline)));
    let _ = tokio::join!(coredns(client, layout, created, deadline), daemons);
}

/// Creates CoreDNS' `ReplicaSet` and pods.
async fn coredns(client: &Client, layout: &Layout, created: &[Value], deadline: Instant) -> Result<()> {
    let is_coredns = |object: &&Value| object["kind"] == "Deployment" && object::name(object) == "coredns";
    let Some(deployment) = created.iter().find(is_coredns) else { return Ok(()) };
    let replicas = deployment["spec"]["replicas"].as_u64().unwrap_or_default();
    let nodes = first_pods::nodes(layout, usize::try_from(replicas).unwrap_or_default());
    if nodes.is_empty() {
        return Ok(());
    }
    let set = apply::create(client, &first_pods::replica_set(deployment), deadline).await?;
    let pods: Vec<_> = nodes.into_iter().map(|node| first_pods::pod(&set, node)).collect();
    try_join_all(pods.iter().map(|pod| apply::create(client, pod, deadline))).await?;
    Ok(())
}

/// The pods of the `DaemonSet`s, one on each node.
fn daemons(layout: &Layout, created: &[Value]) -> Vec<Value> {
    let sets = created.iter().filter(|object| object["kind"] == "DaemonSet");
    sets.flat_map(|set| layout.nodes.iter().filter_map(|node| first_pods::daemon_pod(set, &node.name))).collect()
}
