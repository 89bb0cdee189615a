//! The objects of kubeadm, so that its commands work in a cluster: `token create`, `certs check-expiration`, `join`. Pure.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::engine::spec::CgroupVersion;
use crate::error::Result;
use crate::plan::facts::Images;
use crate::plan::layout::Layout;
use crate::plan::node::kubelet;
use crate::yaml;

/// The groups of kubeadm's bootstrap tokens and of nodes.
const TOKEN_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
const NODES_GROUP: &str = "system:nodes";

/// The ConfigMaps and RBAC rules that `kubeadm init` creates.
pub(crate) fn objects(layout: &Layout, images: &Images, authority: &str, cgroup: CgroupVersion) -> Result<Vec<Value>> {
    let mut objects = config_maps(layout, images, authority, cgroup)?;
    objects.extend(cluster_bindings());
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "kubeadm:get-nodes"},
        "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
    }));
    for name in ["kubeadm-config", "kubelet-config", "kube-proxy"] {
        let role = if name == "kubeadm-config" {
            "kubeadm:nodes-kubeadm-config"
        } else if name == "kubelet-config" {
            "kubeadm:kubelet-config"
        } else {
            "kube-proxy"
        };
        let mut groups = vec![group(TOKEN_GROUP)];
        if name != "kube-proxy" {
            groups.push(group(NODES_GROUP));
        }
        objects.extend(config_reader("kube-system", role, name, &groups));
    }
    let anonymous = [json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:anonymous"})];
    objects.extend(config_reader("kube-public", "kubeadm:bootstrap-signer-clusterinfo", "cluster-info", &anonymous));
    Ok(objects)
}

fn config_maps(layout: &Layout, images: &Images, authority: &str, cgroup: CgroupVersion) -> Result<Vec<Value>> {
    let networking = &layout.cluster.networking;
    let kubeadm = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "apiServer": {"certSANs": ["localhost", "127.0.0.1"]},
        "caCertificateValidityPeriod": "87600h0m0s",
        "certificateValidityPeriod": "87600h0m0s",
        "certificatesDir": "/etc/kubernetes/pki",
        "clusterName": layout.cluster.name,
        "controlPlaneEndpoint": layout.endpoint(),
        "dns": {},
        "encryptionAlgorithm": "ECDSA-P256",
        "etcd": {"local": {"dataDir": "/var/lib/etcd"}},
        "imageRepository": "registry.k8s.io",
        "kubernetesVersion": images.kubernetes,
        "networking": {
            "dnsDomain": "cluster.local",
            "podSubnet": networking.pod_subnet.to_string(),
            "serviceSubnet": networking.service_subnet.to_string(),
        },
    });
    let info = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": {
            "certificate-authority-data": base64::engine::general_purpose::STANDARD.encode(authority),
            "server": format!("https://{}", layout.endpoint()),
        }}],
        "contexts": null,
        "current-context": "",
        "users": null,
    });
    let mut kubelet = kubelet::configuration(layout, None, cgroup);
    if let Some(map) = kubelet.as_object_mut() {
        // A node that joins with kubeadm creates its own serving certificate.
        map.shift_remove("tlsCertFile");
        map.shift_remove("tlsPrivateKeyFile");
    }
    let map = |namespace: &str, name: &str, key: &str, value: String| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": {key: value}});
    Ok(vec![
        map("kube-system", "kubeadm-config", "ClusterConfiguration", yaml::to_string(&kubeadm)?),
        map("kube-system", "kubelet-config", "kubelet", yaml::to_string(&kubelet)?),
        map("kube-public", "cluster-info", "kubeconfig", yaml::to_string(&info)?),
    ])
}

fn group(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name})
}

fn cluster_bindings() -> Vec<Value> {
    let rows = [
        ("kubeadm:cluster-admins", "cluster-admin", "kubeadm:cluster-admins"),
        ("kubeadm:get-nodes", "kubeadm:get-nodes", TOKEN_GROUP),
        ("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", TOKEN_GROUP),
        (
            "kubeadm:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            TOKEN_GROUP,
        ),
        (
            "kubeadm:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            NODES_GROUP,
        ),
    ];
    rows.into_iter()
        .map(|(name, role, subject)| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [group(subject)],
            })
        })
        .collect()
}

/// A Role that may read one ConfigMap, bound to `subjects`.
fn config_reader(namespace: &str, name: &str, config_map: &str, subjects: &[Value]) -> [Value; 2] {
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": name, "namespace": namespace},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [config_map], "verbs": ["get"]}],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": subjects,
        }),
    ]
}
