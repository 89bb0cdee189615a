//! The Node object, created before the kubelet registers, so that its pod subnets are those of the node's CNI file. Pure.

use coracle_shared::labels::LABELLED;
use serde_json::{Map, Value, json};

use crate::engine::spec::EngineInfo;
use crate::plan::layout::{Layout, NodeLayout};
use crate::plan::node::kubelet;

/// How many pods a kubelet accepts unless it is told otherwise.
const PODS: &str = "110";

/// The Node object of a node, on the machine of an engine.
///
/// It says what the machine has until the kubelet says it better: a kubelet that learns of the first pods before it has
/// reported anything refuses them for good on a node without room (`OutOfpods`).
pub fn object(layout: &Layout, node: &NodeLayout, machine: &EngineInfo) -> Value {
    let mut labels = Map::new();
    labels.insert("kubernetes.io/hostname".to_owned(), json!(node.name));
    for (key, value) in kubelet::node_labels(layout, node) {
        labels.insert(key, json!(value));
    }
    let mut taints = kubelet::node_taints(layout, node);
    // The controller manager removes it as soon as the kubelet reports that the node is ready.
    taints.push(json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
    let room = json!({"cpu": machine.cpus.to_string(), "memory": machine.memory.to_string(), "pods": PODS});
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
        "status": {"capacity": room, "allocatable": room},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::fake::FakeEngine;
    use crate::plan::layout::tests::layout;

    #[tokio::test]
    async fn a_node_has_room_for_pods_before_its_kubelet_says_so() {
        let layout = layout(1, 1);
        let machine = FakeEngine::new(&["node"]).info().await.unwrap();
        for node in &layout.nodes {
            let object = object(&layout, node, &machine);
            let room = &object["status"]["allocatable"];
            assert_eq!(room["pods"], "110", "{object}");
            assert_eq!(room["cpu"], json!(machine.cpus.to_string()), "{object}");
            assert_eq!(object["status"]["capacity"], *room, "{object}");
        }
    }
}
