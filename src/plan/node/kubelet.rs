//! The kubelet's configuration, flags and kubeconfigs. Pure.

use serde_json::{Value, json};

use crate::config::{Role, TaintEffect};
use crate::engine::spec::CgroupVersion;
use crate::error::Result;
use crate::plan::layout::{Layout, NodeLayout};
use crate::plan::node::{credentials, resources};
use crate::plan::subnet::DNS;
use crate::yaml;

/// The kubelet's configuration with the user's merge patch over it.
///
/// `node` is the one that it is for; without one, it is what all nodes have in common.
pub fn configuration(layout: &Layout, node: Option<&NodeLayout>, cgroup: CgroupVersion) -> Value {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": if cgroup == CgroupVersion::V1 { "cgroupfs" } else { "systemd" },
        "clusterDNS": [layout.service_address(DNS)],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // The host has the disk, and what else is on it must neither evict pods nor remove images.
        "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "failSwapOn": false,
        // A node that was Ready before its kubelet started again may be reported as not Ready once, and as Ready after the next
        // look at it: with the default of 10 s, one start in five took 8 s longer. Without a change, the API is told as seldom
        // as by default.
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "5m",
        "resolvConf": "/etc/resolv.conf",
        "rotateCertificates": true,
        "staticPodPath": "/etc/kubernetes/manifests",
        // Static pods that were ready before the API server appear in it after the next synchronisation, and pods get a
        // changed ConfigMap then: with the default of 1 min, both take up to 90 s.
        "syncFrequency": "10s",
        "tlsCertFile": "/var/lib/kubelet/pki/kubelet.crt",
        "tlsPrivateKeyFile": "/var/lib/kubelet/pki/kubelet.key",
    });
    if layout.wildcard() != "0.0.0.0" {
        config["address"] = json!(layout.wildcard());
    }
    if cgroup == CgroupVersion::V1 {
        // From 1.35 on the kubelet refuses cgroup v1 by default (KEP-5573), and a node has the version of its host.
        config["failCgroupV1"] = json!(false);
    }
    if !layout.cluster.feature_gates.is_empty() {
        config["featureGates"] = json!(layout.cluster.feature_gates);
    }
    if node.is_some_and(|node| restarts_soon(layout, node)) {
        config["crashLoopBackOff"] = json!({"maxContainerRestartPeriod": "10s"});
    }
    if let Some(node) = node {
        resources::kubelet(&mut config, &node.config.settings);
    }
    merge(&mut config, &layout.cluster.kubelet);
    if let Some(node) = node {
        merge(&mut config, &Value::Object(node.config.settings.kubelet.clone()));
    }
    config
}

/// Whether the node's containers start again after 10 s at most, instead of 5 min: it runs the control plane and nothing of
/// the user's (docs/decisions/0019).
fn restarts_soon(layout: &Layout, node: &NodeLayout) -> bool {
    const GATE: &str = "KubeletCrashLoopBackOffMax";
    let minor = layout.version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    // The setting is there from 1.35 on; where its gate is off, the kubelet refuses it.
    let is_known = minor.is_some_and(|minor| minor >= 35);
    let is_off = layout.cluster.feature_gates.iter().any(|(name, on)| name == GATE && !*on);
    let is_kept_free = node_taints(layout, node).iter().any(|taint| taint["effect"] != "PreferNoSchedule");
    node.config.role == Role::ControlPlane && is_kept_free && is_known && !is_off
}

/// RFC 7386: objects merge, `null` removes, everything else replaces.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|map| map.shift_remove(key));
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// The initial labels of the Node object.
pub fn node_labels(layout: &Layout, node: &NodeLayout) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    if node.config.role == Role::ControlPlane {
        labels.push(("node-role.kubernetes.io/control-plane".to_owned(), String::new()));
        if !layout.is_single() {
            labels.push(("node.kubernetes.io/exclude-from-external-load-balancers".to_owned(), String::new()));
        }
    }
    labels.extend(node.config.labels.clone());
    labels
}

/// The initial taints of the Node object.
pub fn node_taints(layout: &Layout, node: &NodeLayout) -> Vec<Value> {
    let taint = |key: &str, value: &str, effect: TaintEffect| {
        let effect = effect.as_str();
        if value.is_empty() {
            json!({"key": key, "effect": effect})
        } else {
            json!({"key": key, "value": value, "effect": effect})
        }
    };
    match &node.config.taints {
        Some(taints) => taints.iter().map(|wanted| taint(&wanted.key, &wanted.value, wanted.effect)).collect(),
        None if node.config.role == Role::ControlPlane && !layout.is_single() => {
            vec![taint(Role::CONTROL_PLANE_TAINT, "", TaintEffect::NoSchedule)]
        }
        None => Vec::new(),
    }
}

/// The provider ID of the Node object.
pub fn provider_id(layout: &Layout, node: &NodeLayout) -> String {
    let scheme = if layout.cluster.kind_network.is_some() { "kind" } else { "coracle" };
    format!("{scheme}://docker/{}/{}", layout.cluster.name, node.name)
}

/// `/var/lib/kubelet/kubeadm-flags.env`, which the kubelet's unit reads.
pub fn flags(layout: &Layout, node: &NodeLayout) -> String {
    let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
    let mut flags = vec![
        format!("--hostname-override={}", node.name),
        format!("--node-ip={}", addresses.join(",")),
        format!("--provider-id={}", provider_id(layout, node)),
    ];
    // The other ones, the Node object gets from coracle, and later from the agent.
    let labels = node_labels(layout, node);
    let allowed = labels.iter().filter(|(key, _)| !is_restricted(key));
    let labels: Vec<_> = allowed.map(|(key, value)| format!("{key}={value}")).collect();
    if !labels.is_empty() {
        flags.push(format!("--node-labels={}", labels.join(",")));
    }
    let taints = node_taints(layout, node);
    if !taints.is_empty() {
        let text = |taint: &Value, key: &str| taint[key].as_str().unwrap_or_default().to_owned();
        let spell =
            |taint: &Value| format!("{}={}:{}", text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        flags.push(format!("--register-with-taints={}", taints.iter().map(spell).collect::<Vec<_>>().join(",")));
    }
    if layout.cluster.registries.iter().any(|registry| registry.login) {
        flags.extend(credentials::flags());
    }
    for (name, value) in &node.config.kubelet_flags {
        // The last one wins, as with kubeadm's `kubeletExtraArgs`.
        flags.extend(value.arguments(false).into_iter().map(|value| format!("--{name}={value}")));
    }
    format!("KUBELET_KUBEADM_ARGS=\"{}\"\n", flags.join(" "))
}

/// Labels of Kubernetes' own domains that the kubelet may set, and domains in which it may set any.
const KUBELET_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const KUBELET_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Labels that the kubelet refuses as `--node-labels`, and the API server from it (the admission plugin `NodeRestriction`).
fn is_restricted(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return false };
    let is_in = |domain: &&str| prefix == *domain || prefix.ends_with(&format!(".{domain}"));
    let kubernetes = ["kubernetes.io", "k8s.io"].iter().any(is_in);
    kubernetes && !KUBELET_LABELS.contains(&key) && !KUBELET_DOMAINS.iter().any(is_in)
}

/// A drop-in that starts a worker's kubelet once the API answers; a connection alone is no proof, because the kubelet of a
/// control plane holds calls for an API server that only starts.
///
/// If it started earlier, its next attempt to register would come seconds later, and that for its `CSINode` after 15 s. The
/// wait is limited, so that a worker still runs its pods when its control plane is down.
pub fn wait_for_api(endpoint: &str) -> String {
    let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, "6443"));
    let host = host.trim_matches(['[', ']']);
    let connects = format!("(exec 3<>/dev/tcp/{host}/{port}) 2>/dev/null");
    let answers = format!("curl --silent --insecure --output /dev/null --max-time 20 https://{endpoint}/livez");
    format!(
        "[Service]\nExecStartPre=-/usr/bin/timeout 60 /bin/bash -c 'for i in {{1..600}}; do {connects} && {answers} && exit 0; sleep 0.05; done'\n"
    )
}

/// A kubeconfig for a component.
pub fn kubeconfig(server: &str, authority: &str, user: &str, certificate: &str, key: &str) -> Result<String> {
    let credentials = json!({"client-certificate-data": base64(certificate), "client-key-data": base64(key)});
    kubeconfig_with(server, authority, user, &credentials)
}

/// The kubelet's kubeconfig; it names the file in which rotation replaces the certificate.
pub fn kubelet_kubeconfig(server: &str, authority: &str, node: &str) -> Result<String> {
    let current = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    let credentials = json!({"client-certificate": current, "client-key": current});
    kubeconfig_with(server, authority, &format!("system:node:{node}"), &credentials)
}

fn kubeconfig_with(server: &str, authority: &str, user: &str, credentials: &Value) -> Result<String> {
    let context = format!("{user}@kubernetes");
    yaml::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": {"certificate-authority-data": base64(authority), "server": server}}],
        "contexts": [{"name": context, "context": {"cluster": "kubernetes", "user": user}}],
        "current-context": context,
        "users": [{"name": user, "user": credentials}],
    }))
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::layout::tests::layout;

    #[test]
    fn a_merge_patch_replaces_removes_and_merges() {
        let mut target = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut target, &json!({"a": {"b": null, "e": 3}, "d": [2]}));
        assert_eq!(target, json!({"a": {"c": 2, "e": 3}, "d": [2]}));
    }

    #[test]
    fn a_lone_control_plane_has_no_taint() {
        let one = layout(1, 0);
        assert!(node_taints(&one, &one.nodes[0]).is_empty());
        let two = layout(1, 1);
        assert_eq!(node_taints(&two, &two.nodes[0]).len(), 1);
        assert!(
            flags(&two, &two.nodes[0])
                .contains("--register-with-taints=node-role.kubernetes.io/control-plane=:NoSchedule")
        );
    }

    #[test]
    fn the_kubelet_gets_the_labels_that_it_may_set() {
        let mut layout = layout(1, 0);
        let labels = &mut layout.nodes[0].config.labels;
        labels.insert("tier".to_owned(), "x".to_owned());
        labels.insert("node-role.kubernetes.io/x".to_owned(), String::new());
        labels.insert("topology.kubernetes.io/zone".to_owned(), "a".to_owned());
        labels.insert("node-restriction.kubernetes.io/y".to_owned(), String::new());
        assert!(
            flags(&layout, &layout.nodes[0]).contains("--node-labels=tier=x,topology.kubernetes.io/zone=a\""),
            "{}",
            flags(&layout, &layout.nodes[0])
        );
    }

    #[test]
    fn cgroup_v1_is_allowed_only_on_hosts_that_have_it() {
        let layout = layout(1, 0);
        assert_eq!(configuration(&layout, None, CgroupVersion::V1)["failCgroupV1"], json!(false));
        assert!(configuration(&layout, None, CgroupVersion::V2).get("failCgroupV1").is_none());
    }

    #[test]
    fn the_control_plane_is_back_soon_where_nothing_else_runs() {
        let period = |layout: &Layout, index: usize| {
            let config = configuration(layout, Some(&layout.nodes[index]), CgroupVersion::V2);
            config["crashLoopBackOff"]["maxContainerRestartPeriod"].as_str().map(str::to_owned)
        };
        let mut two = layout(1, 1);
        assert_eq!(period(&two, 0).as_deref(), Some("10s"));
        assert_eq!(period(&two, 1), None);
        assert_eq!(period(&layout(1, 0), 0), None, "a lone node runs the user's pods");
        two.cluster.feature_gates.insert("KubeletCrashLoopBackOffMax".to_owned(), false);
        assert_eq!(period(&two, 0), None);
        two.cluster.feature_gates.clear();
        two.version = "v1.34.2".to_owned();
        assert_eq!(period(&two, 0), None);
    }
}
