//! The Node object, created before the kubelet registers, so that its pod subnets are those of the node's CNI file. Pure.

use coracle_shared::labels::LABELLED;
use serde_json::{Map, Value, json};

use crate::plan::layout::{Layout, NodeLayout};
use crate::plan::node::kubelet;

/// The Node object of a node.
pub fn object(layout: &Layout, node: &NodeLayout) -> Value {
    let mut labels = Map::new();
    labels.insert("kubernetes.io/hostname".to_owned(), json!(node.name));
    for (key, value) in kubelet::node_labels(layout, node) {
        labels.insert(key, json!(value));
    }
    let mut taints = kubelet::node_taints(layout, node);
    // The controller manager removes it as soon as the kubelet reports that the node is ready.
    taints.push(json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": labels,
            "annotations": {LABELLED: "true", "node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {
            "podCIDR": node.pod_cidrs.first(),
            "podCIDRs": node.pod_cidrs,
            "providerID": kubelet::provider_id(layout, node),
            "taints": taints,
        },
    })
}
