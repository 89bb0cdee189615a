//! kube-proxy as kubeadm deploys it. Pure.

use serde_json::{Value, json};

use crate::config::KubeProxyMode;
use crate::engine::spec::Privilege;
use crate::error::Result;
use crate::plan::facts::Images;
use crate::plan::layout::Layout;
use crate::plan::node::kubelet::merge;
use crate::yaml;

/// Service account, RBAC, configuration and DaemonSet.
pub(crate) fn objects(layout: &Layout, images: &Images, privilege: Privilege) -> Result<Vec<Value>> {
    Ok(vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "kube-proxy", "namespace": "kube-system"}}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "kubeadm:node-proxier"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"},
            "subjects": [{"kind": "ServiceAccount", "name": "kube-proxy", "namespace": "kube-system"}],
        }),
        config_map(layout, privilege)?,
        daemon_set(images),
    ])
}

/// kube-proxy's configuration with the user's merge patch over it.
fn configuration(layout: &Layout, privilege: Privilege) -> Value {
    let mode = match layout.cluster.networking.kube_proxy_mode {
        KubeProxyMode::Nftables => "nftables",
        KubeProxyMode::Ipvs => "ipvs",
        KubeProxyMode::Iptables | KubeProxyMode::None => "iptables",
    };
    let mut config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": layout.wildcard(),
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf"},
        "clusterCIDR": layout.cluster.networking.pod_subnet.to_string(),
        // A node may not change the connection tracking of the host, and kube-proxy would exit when it fails to.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "mode": mode,
    });
    if layout.cluster.networking.kube_proxy_mode == KubeProxyMode::Ipvs {
        // Every node has the addresses of all Services then, and must not answer for that of the load balancer.
        config["ipvs"] = json!({"strictARP": true});
    }
    if privilege == Privilege::AllButSysResource {
        // It may not lower its score for the OOM killer there, and would try twice, with pauses of 0.1 s, before it serves.
        config["oomScoreAdj"] = json!(0);
    }
    if !layout.cluster.feature_gates.is_empty() {
        config["featureGates"] = json!(layout.cluster.feature_gates);
    }
    merge(&mut config, &layout.cluster.kube_proxy);
    config
}

fn config_map(layout: &Layout, privilege: Privilege) -> Result<Value> {
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"cluster": {"certificate-authority": format!("{account}/ca.crt"), "server": format!("https://{}", layout.endpoint())}, "name": "default"}],
        "contexts": [{"context": {"cluster": "default", "namespace": "default", "user": "default"}, "name": "default"}],
        "current-context": "default",
        "users": [{"name": "default", "user": {"tokenFile": format!("{account}/token")}}],
    });
    Ok(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kube-proxy", "namespace": "kube-system", "labels": {"app": "kube-proxy"}},
        "data": {"config.conf": yaml::to_string(&configuration(layout, privilege))?, "kubeconfig.conf": yaml::to_string(&kubeconfig)?},
    }))
}

fn daemon_set(images: &Images) -> Value {
    let container = json!({
        "name": "kube-proxy",
        "image": format!("registry.k8s.io/kube-proxy:{}", images.kubernetes),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"],
        "env": [
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "GOGC", "value": "40"},
        ],
        "securityContext": {"privileged": true},
        "volumeMounts": [
            {"mountPath": "/var/lib/kube-proxy", "name": "kube-proxy"},
            {"mountPath": "/run/xtables.lock", "name": "xtables-lock"},
            {"mountPath": "/lib/modules", "name": "lib-modules", "readOnly": true},
        ],
    });
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "kube-proxy", "namespace": "kube-system", "labels": {"k8s-app": "kube-proxy"}},
        "spec": {
            "selector": {"matchLabels": {"k8s-app": "kube-proxy"}},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-proxy"}},
                "spec": {
                    "priorityClassName": "system-node-critical",
                    "containers": [container],
                    "hostNetwork": true,
                    "serviceAccountName": "kube-proxy",
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "tolerations": [{"operator": "Exists"}],
                    "volumes": [
                        {"name": "kube-proxy", "configMap": {"name": "kube-proxy"}},
                        {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
                        {"name": "lib-modules", "hostPath": {"path": "/lib/modules"}},
                    ],
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
    fn only_where_it_may_not_be_lowered_is_the_score_of_the_oom_killer_left_as_it_is() {
        let mut layout = layout(1, 0);
        assert!(configuration(&layout, Privilege::Privileged).get("oomScoreAdj").is_none());
        assert_eq!(configuration(&layout, Privilege::AllButSysResource)["oomScoreAdj"], json!(0));
        layout.cluster.kube_proxy = json!({"oomScoreAdj": -1});
        assert_eq!(configuration(&layout, Privilege::AllButSysResource)["oomScoreAdj"], json!(-1));
    }
}
