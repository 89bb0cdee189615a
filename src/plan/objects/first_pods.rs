//! The first pods of CoreDNS, kube-proxy and the agent, as the controllers would create them a few seconds later. Pure.
//!
//! Controller manager and scheduler start last. With pods that exist by then, containers start in the meantime; the
//! controllers find a `ReplicaSet` of the Deployment's template and its pods, and a pod of each `DaemonSet` on every node,
//! and have nothing left to do (docs/decisions).

use serde_json::{Value, json};

use crate::config::{KubeProxyMode, Role};
use crate::plan::layout::{API_PORT, Layout, NodeLayout};

/// The objects that a pod needs to start, which the API server or a controller would create a second or two later.
pub(crate) fn needed(layout: &Layout, authority: &str) -> Vec<Value> {
    let class = |name: &str, value: u64, description: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value, "globalDefault": false, "description": description,
        })
    };
    let movable =
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.";
    let fixed = "Used for system critical pods that must not be moved from their current node.";
    let [role, binding] = readable();
    vec![
        role,
        binding,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "kube-root-ca.crt", "namespace": "kube-system"},
            "data": {"ca.crt": authority},
        }),
        class("system-cluster-critical", 2_000_000_000, movable),
        class("system-node-critical", 2_000_001_000, fixed),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"},
        }),
        // The kubelet sets its address in the environment of pods.
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": layout.service_address(1),
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": API_PORT}],
            },
        }),
    ]
}

/// The right of all nodes to read the configuration of the first pods.
///
/// A kubelet may read what its pods refer to as soon as the API server's authorizer has heard of the pod. Of the first pods, the
/// kubelet may hear earlier; it then tries again after 1.5 to 3 s, for which the whole cluster would wait.
fn readable() -> [Value; 2] {
    let meta = json!({"name": "coracle:nodes-first-pods", "namespace": "kube-system"});
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta,
            "rules": [{
                "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"],
                "resourceNames": ["kube-root-ca.crt", "coredns", "kube-proxy"],
            }],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": meta["name"]},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
        }),
    ]
}

/// The nodes for the first pods of a Deployment, a control plane first; empty if the scheduler has to choose.
pub fn nodes(layout: &Layout, replicas: usize) -> Vec<&str> {
    let networking = &layout.cluster.networking;
    if networking.disable_default_cni || networking.kube_proxy_mode == KubeProxyMode::None {
        return Vec::new();
    }
    // A kubelet refuses a pod for which its node is too small; only the scheduler knows what fits.
    let is_small = |node: &NodeLayout| node.config.settings.memory.is_some() || node.config.settings.cpus.is_some();
    let open = |node: &&NodeLayout| node.config.taints.as_ref().is_none_or(Vec::is_empty) && !is_small(node);
    let planes = layout.nodes.iter().filter(|node| node.config.role == Role::ControlPlane).take(1);
    let others = layout.nodes.iter().filter(|node| node.config.role == Role::Worker);
    let nodes: Vec<&str> = planes.chain(others).filter(open).map(|node| node.name.as_str()).take(replicas).collect();
    if nodes.len() < replicas { Vec::new() } else { nodes }
}

/// The `ReplicaSet` of a Deployment that the API server has accepted.
pub fn replica_set(deployment: &Value) -> Value {
    let name = deployment["metadata"]["name"].as_str().unwrap_or_default();
    let hash = hash(&deployment["spec"]["template"]);
    let labels = |value: &Value| {
        let mut value = value.clone();
        value["pod-template-hash"] = json!(hash);
        value
    };
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"] = labels(&template["metadata"]["labels"]);
    let replicas = &deployment["spec"]["replicas"];
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{name}-{hash}"),
            "namespace": deployment["metadata"]["namespace"],
            "labels": template["metadata"]["labels"],
            "annotations": {
                "deployment.kubernetes.io/desired-replicas": replicas.to_string(),
                "deployment.kubernetes.io/max-replicas": (replicas.as_u64().unwrap_or_default() + 1).to_string(),
                "deployment.kubernetes.io/revision": "1",
            },
            "ownerReferences": [owner(deployment, "Deployment")],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels(&deployment["spec"]["selector"]["matchLabels"])},
            "template": template,
        },
    })
}

/// A pod of a `ReplicaSet` that the API server has accepted, on a node.
pub fn pod(replica_set: &Value, node: &str) -> Value {
    of_template(replica_set, "ReplicaSet", node)
}

/// A pod of its owner's template, on a node.
fn of_template(of: &Value, kind: &str, node: &str) -> Value {
    let mut pod = of["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    let name = of["metadata"]["name"].as_str().unwrap_or_default();
    pod["metadata"]["generateName"] = json!(format!("{name}-"));
    pod["metadata"]["namespace"] = of["metadata"]["namespace"].clone();
    pod["metadata"]["ownerReferences"] = json!([owner(of, kind)]);
    pod["spec"]["nodeName"] = json!(node);
    pod
}

/// A pod of a `DaemonSet` that the API server has accepted, on a node; `None` if the node may not be for it.
///
/// Its controller takes the generation as the proof that a pod is of the current template.
pub fn daemon_pod(set: &Value, node: &str) -> Option<Value> {
    let spec = &set["spec"]["template"]["spec"];
    let selector = &spec["nodeSelector"];
    let everywhere = selector.is_null() || *selector == json!({"kubernetes.io/os": "linux"});
    let tolerations = spec["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
    let tolerant =
        tolerations.iter().any(|one| one["operator"] == "Exists" && one["key"].is_null() && one["effect"].is_null());
    if !everywhere || !tolerant || !spec["affinity"].is_null() {
        return None;
    }
    let mut pod = of_template(set, "DaemonSet", node);
    pod["metadata"]["labels"]["pod-template-generation"] = json!(set["metadata"]["generation"].to_string());
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    pod["spec"]["affinity"] = json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [field]}]},
    }});
    let is_on_host = pod["spec"]["hostNetwork"] == true;
    let all = pod["spec"]["tolerations"].as_array_mut()?;
    all.extend(daemon_tolerations(is_on_host));
    Some(pod)
}

/// What its controller lets every pod of a `DaemonSet` tolerate.
fn daemon_tolerations(is_on_host: bool) -> impl Iterator<Item = Value> {
    let all = [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
        ("network-unavailable", "NoSchedule"),
    ];
    let count = if is_on_host { all.len() } else { all.len() - 1 };
    let toleration = |(condition, effect): (&str, &str)| json!({"key": format!("node.kubernetes.io/{condition}"), "operator": "Exists", "effect": effect});
    all.into_iter().take(count).map(toleration)
}

fn owner(object: &Value, kind: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind,
        "name": object["metadata"]["name"], "uid": object["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// FNV-1a of the template. Any value works, since the Deployment's controller compares templates without this label.
fn hash(template: &Value) -> String {
    let bytes = template.to_string().into_bytes();
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Taint, TaintEffect};
    use crate::plan::layout::tests::layout;

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "coredns", "namespace": "kube-system", "uid": "d"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
                "template": {"metadata": {"labels": {"k8s-app": "kube-dns"}}, "spec": {"containers": []}},
            },
        })
    }

    #[test]
    fn the_controllers_recognise_the_replica_set_and_its_pods_as_theirs() {
        let mut set = replica_set(&deployment());
        set["metadata"]["uid"] = json!("r");
        let hash = set["metadata"]["labels"]["pod-template-hash"].clone();
        assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], "d");
        assert_eq!(set["spec"]["selector"]["matchLabels"]["pod-template-hash"], hash);
        let pod = pod(&set, "dev-worker");
        assert_eq!(pod["metadata"]["labels"], json!({"k8s-app": "kube-dns", "pod-template-hash": hash}));
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "r");
        assert_eq!(pod["spec"]["nodeName"], "dev-worker");
    }

    #[test]
    fn a_daemon_sets_controller_recognises_its_pod_by_owner_and_generation() {
        let mut set = json!({
            "metadata": {"name": "kube-proxy", "namespace": "kube-system", "uid": "s", "generation": 1},
            "spec": {"template": {
                "metadata": {"labels": {"k8s-app": "kube-proxy"}},
                "spec": {"hostNetwork": true, "tolerations": [{"operator": "Exists"}], "containers": []},
            }},
        });
        let pod = daemon_pod(&set, "dev-worker").unwrap();
        assert_eq!(pod["metadata"]["labels"], json!({"k8s-app": "kube-proxy", "pod-template-generation": "1"}));
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "s");
        assert_eq!(pod["spec"]["nodeName"], "dev-worker");
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 8);
        set["spec"]["template"]["spec"]["nodeSelector"] = json!({"gpu": "yes"});
        assert_eq!(daemon_pod(&set, "dev-worker"), None);
    }

    #[test]
    fn first_pods_run_on_a_control_plane_and_a_worker() {
        assert_eq!(nodes(&layout(1, 0), 1), ["dev-control-plane"]);
        assert_eq!(nodes(&layout(3, 2), 2), ["dev-control-plane", "dev-worker"]);
    }

    #[test]
    fn the_scheduler_decides_where_nodes_have_taints_or_no_network() {
        let mut tainted = layout(1, 1);
        let taint = Taint { key: "a".to_owned(), value: String::new(), effect: TaintEffect::NoExecute };
        tainted.nodes[1].config.taints = Some(vec![taint]);
        assert!(nodes(&tainted, 2).is_empty());
        let mut without_cni = layout(1, 1);
        without_cni.cluster.networking.disable_default_cni = true;
        assert!(nodes(&without_cni, 2).is_empty());
    }
}
