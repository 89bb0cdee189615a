//! Restores the labels of this node's object that the kubelet may not set, such as its role: the kubelet has created the
//! object again if somebody deleted it.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use coracle_shared::labels::LABELLED;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::sleep;

use crate::api::Api;
use crate::config::Config;
use crate::log::{self, Failures};
use crate::nodes::Nodes;

/// The pause after a failed write.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Restores forever, or does nothing in a node whose labels are not known.
pub(crate) async fn run(config: &Config, api: &Api<'_>, mut nodes: Receiver<Option<Nodes>>) -> Infallible {
    let wanted = std::fs::read(&config.labels_file).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let Some(wanted) = wanted else { return pending().await };
    let name = config.node_name.as_str();
    let is_new =
        |nodes: &Option<Nodes>| nodes.as_ref().and_then(|nodes| nodes.get(name)).is_some_and(|node| !node.labelled);
    let mut failures = Failures::default();
    loop {
        if nodes.wait_for(is_new).await.is_err() {
            return pending().await;
        }
        match api.write(Method::PATCH, &format!("/api/v1/nodes/{name}"), &patch(&wanted)).await {
            Ok(200) => {
                failures.clear();
                log::line(format_args!("labels: node {name} was registered again, and has its labels again"));
                if nodes.wait_for(|nodes| !is_new(nodes)).await.is_err() {
                    return pending().await;
                }
            }
            Ok(status) => failures.report(format!("labels: the API answers {status}")),
            Err(error) => failures.report(format!("labels: {error}")),
        }
        sleep(RETRY_PAUSE).await;
    }
}

fn patch(wanted: &Value) -> Value {
    json!({ "metadata": { "labels": wanted, "annotations": { LABELLED: "true" } } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_sets_the_labels_and_says_so() {
        let patch = patch(&json!({"node-role.kubernetes.io/x": ""}));
        assert_eq!(patch["metadata"]["labels"], json!({"node-role.kubernetes.io/x": ""}));
        assert_eq!(patch["metadata"]["annotations"][LABELLED], "true");
    }
}
