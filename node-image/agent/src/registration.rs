//! Restores this node's object after someone has deleted it and the kubelet has created it again: its pod subnets, which
//! the cluster gives anew, and the labels that the kubelet may not set, such as its role.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use coracle_shared::labels::LABELLED;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::sleep;

use crate::api::Api;
use crate::config::Config;
use crate::log::{self, Failures};
use crate::nodes::Nodes;

/// The pause after a failed write.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// What the node's object had when the node was made.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    labels: Value,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

/// Restores forever, or does nothing in a node of which nothing is known.
pub(crate) async fn run(config: &Config, api: &Api<'_>, mut nodes: Receiver<Option<Nodes>>) -> Infallible {
    let wanted = std::fs::read(&config.registration_file).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let Some(wanted) = wanted else { return pending().await };
    let name = config.node_name.as_str();
    let is_new =
        |nodes: &Option<Nodes>| nodes.as_ref().and_then(|nodes| nodes.get(name)).is_some_and(|node| !node.labelled);
    let mut failures = Failures::default();
    loop {
        if nodes.wait_for(is_new).await.is_err() {
            return pending().await;
        }
        match restore(api, name, &wanted).await {
            Ok(()) => {
                failures.clear();
                log::line(format_args!("registration: node {name} was registered again, and is what it was"));
                if nodes.wait_for(|nodes| !is_new(nodes)).await.is_err() {
                    return pending().await;
                }
            }
            Err(error) => failures.report(format!("registration: {error}")),
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn restore(api: &Api<'_>, name: &str, wanted: &Registration) -> Result<(), String> {
    let path = format!("/api/v1/nodes/{name}");
    let node = api.read(&path).await?;
    if has_subnets(&node, wanted) {
        return done(api.write(Method::PATCH, &path, &patch(wanted)).await?);
    }
    // An object keeps the subnets that it was given, so that only another one can have those of the pods that still run.
    let precondition = json!({"preconditions": {"uid": node["metadata"]["uid"]}});
    done(api.write(Method::DELETE, &path, &precondition).await?)?;
    let successor = successor(&node, wanted);
    let mut failures = Failures::default();
    // The kubelet registers only when it starts: without this object the node would be gone.
    loop {
        match api.write(Method::POST, "/api/v1/nodes", &successor).await {
            Ok(status) => return done(status),
            Err(error) => failures.report(format!("registration: {error}")),
        }
        sleep(RETRY_PAUSE).await;
    }
}

fn done(status: u16) -> Result<(), String> {
    if status == 200 { Ok(()) } else { Err(format!("the API answers {status}")) }
}

fn has_subnets(node: &Value, wanted: &Registration) -> bool {
    wanted.pod_cidrs.is_empty() || node["spec"]["podCIDRs"] == json!(wanted.pod_cidrs)
}

fn patch(wanted: &Registration) -> Value {
    json!({ "metadata": { "labels": wanted.labels, "annotations": { LABELLED: "true" } } })
}

/// The same node with its former subnets. It keeps its status: the kubelet would refuse every pod of a node without capacity.
fn successor(node: &Value, wanted: &Registration) -> Value {
    let merged = |field: &str, more: &Value| {
        let mut merged = node["metadata"][field].as_object().cloned().unwrap_or_default();
        merged.extend(more.as_object().cloned().unwrap_or_default());
        merged
    };
    let mut spec = node["spec"].clone();
    spec["podCIDR"] = json!(wanted.pod_cidrs[0]);
    spec["podCIDRs"] = json!(wanted.pod_cidrs);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node["metadata"]["name"],
            "labels": merged("labels", &wanted.labels),
            "annotations": merged("annotations", &json!({LABELLED: "true"})),
        },
        "spec": spec,
        "status": node["status"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pod_cidrs: &[&str]) -> Registration {
        let text = json!({"labels": {"node-role.kubernetes.io/x": ""}, "podCIDRs": pod_cidrs});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn the_patch_sets_the_labels_and_says_so() {
        let patch = patch(&wanted(&[]));
        assert_eq!(patch["metadata"]["labels"], json!({"node-role.kubernetes.io/x": ""}));
        assert_eq!(patch["metadata"]["annotations"][LABELLED], "true");
    }

    #[test]
    fn a_node_with_other_subnets_gets_a_successor_that_differs_in_nothing_else() {
        let node = json!({
            "metadata": {"name": "n", "uid": "1", "resourceVersion": "2", "labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24"], "providerID": "p", "taints": [{"key": "t"}]},
            "status": {"allocatable": {"cpu": "2"}},
        });
        let wanted = wanted(&["10.244.1.0/24", "fd00:0:0:1::/64"]);
        assert!(!has_subnets(&node, &wanted));
        let successor = successor(&node, &wanted);
        assert!(has_subnets(&successor, &wanted));
        assert_eq!(successor["spec"]["podCIDR"], "10.244.1.0/24");
        assert_eq!(successor["spec"]["taints"], node["spec"]["taints"]);
        assert_eq!(successor["status"], node["status"]);
        assert_eq!(successor["metadata"]["labels"], json!({"a": "b", "node-role.kubernetes.io/x": ""}));
        assert_eq!(successor["metadata"]["annotations"], json!({"c": "d", LABELLED: "true"}));
        assert_eq!(successor["metadata"]["uid"], Value::Null);
    }
}
