//! CoreDNS as kubeadm deploys it, except for a readiness probe every second. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::plan::facts::Images;
use crate::plan::layout::{HOST_NAME, Layout};
use crate::plan::subnet::DNS;

const COREFILE: &str = "\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
{plugins}    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
";

/// The configuration of CoreDNS: kubeadm's, a server for the host's name, and the user's additions.
///
/// The name has a server of its own, so that it does not affect the user's plugins.
fn corefile(layout: &Layout) -> String {
    let additions = &layout.cluster.core_dns;
    let mut text = COREFILE.replace("{plugins}", &indented(&additions.plugins));
    let _ = writeln!(text, "{HOST_NAME}:53 {{\n    errors\n    hosts {{");
    for address in layout.gateways() {
        let _ = writeln!(text, "       {address} {HOST_NAME}");
    }
    text.push_str("    }\n}\n");
    if !additions.servers.is_empty() {
        let _ = writeln!(text, "{}", additions.servers);
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| all + "    " + line + "\n")
}

/// Service account, RBAC, configuration, Deployment and Service.
pub(crate) fn objects(layout: &Layout, images: &Images) -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("coredns")}),
        cluster_role(),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
        }),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("coredns"), "data": {"Corefile": corefile(layout)}}),
        service(layout),
        deployment(layout, images),
    ]
}

fn meta(name: &str) -> Value {
    json!({"name": name, "namespace": "kube-system"})
}

fn cluster_role() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    })
}

fn service(layout: &Layout) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kube-dns", "namespace": "kube-system",
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {
            "clusterIP": layout.service_address(DNS),
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
            ],
            "selector": {"k8s-app": "kube-dns"},
        },
    })
}

fn container(images: &Images) -> Value {
    json!({
        "name": "coredns",
        "image": format!("registry.k8s.io/coredns/coredns:{}", images.coredns),
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "ports": [
            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
            {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
            {"containerPort": 9153, "name": "metrics", "protocol": "TCP"},
            {"containerPort": 8080, "name": "liveness-probe", "protocol": "TCP"},
            {"containerPort": 8181, "name": "readiness-probe", "protocol": "TCP"},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": "liveness-probe", "scheme": "HTTP"},
            "initialDelaySeconds": 60, "timeoutSeconds": 5, "successThreshold": 1, "failureThreshold": 5,
        },
        // kubeadm keeps the default of 10 s, for which the DNS of a new cluster would wait about 3 s.
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "readiness-probe", "scheme": "HTTP"}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": [{"mountPath": "/etc/coredns", "name": "config-volume", "readOnly": true}],
    })
}

fn deployment(layout: &Layout, images: &Images) -> Value {
    let spread = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "labelSelector": {"matchExpressions": [{"key": "k8s-app", "operator": "In", "values": ["kube-dns"]}]},
            "topologyKey": "kubernetes.io/hostname",
        },
    }]}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "coredns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            // A second replica on the same node would only cost memory.
            "replicas": if layout.is_single() { 1 } else { 2 },
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-dns"}},
                "spec": {
                    "priorityClassName": "system-cluster-critical",
                    "serviceAccountName": "coredns",
                    "affinity": spread,
                    "tolerations": [
                        {"key": "CriticalAddonsOnly", "operator": "Exists"},
                        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                    ],
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "containers": [container(images)],
                    "dnsPolicy": "Default",
                    "volumes": [{"name": "config-volume", "configMap": {"name": "coredns", "items": [{"key": "Corefile", "path": "Corefile"}]}}],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::layout::tests::layout;

    #[test]
    fn additions_stand_in_front_of_what_forwards_and_behind_the_other_servers() {
        let mut layout = layout(1, 0);
        let plain = corefile(&layout);
        assert!(plain.contains("    prometheus :9153\n    forward . /etc/resolv.conf {"), "{plain}");
        assert!(plain.ends_with(
            "host.coracle.internal:53 {\n    errors\n    hosts {\n       172.18.0.1 host.coracle.internal\n    }\n}\n"
        ));
        layout.cluster.core_dns.plugins = "log\nrewrite name a.example b.example".to_owned();
        layout.cluster.core_dns.servers = "c.example {\n  whoami\n}".to_owned();
        let added = corefile(&layout);
        assert!(
            added.contains("    prometheus :9153\n    log\n    rewrite name a.example b.example\n    forward ."),
            "{added}"
        );
        assert!(added.ends_with("    }\n}\nc.example {\n  whoami\n}\n"), "{added}");
    }
}
