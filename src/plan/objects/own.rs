//! What tells the requests of coracle's own pods from those of people, where unused clusters stop. Pure.

use serde_json::{Value, json};

use crate::plan::layout::Layout;

/// The namespaces of coracle's own pods that are not in `kube-system`: of the storage provisioner and of an add-on.
const NAMESPACES: [&str; 2] = ["local-path-storage", "ingress"];

/// A flow schema that counts their requests by themselves; they get the priority that they would have without it.
pub(crate) fn objects(layout: &Layout) -> Option<Value> {
    layout.cluster.idle_stop?;
    let group =
        |namespace: &str| json!({"kind": "Group", "group": {"name": format!("system:serviceaccounts:{namespace}")}});
    let resources =
        json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true});
    Some(json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": "coracle-own"},
        "spec": {
            // Just before upstream's schema of all service accounts.
            "matchingPrecedence": 8900,
            "priorityLevelConfiguration": {"name": "workload-low"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": NAMESPACES.map(group),
                "resourceRules": [resources],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }],
        },
    }))
}
