//! The static pods of the control plane: kubeadm's, with the settings that make a local cluster fast. Pure.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::config::etcd::{PROBED_PORT, is_probed};
use crate::config::known::is_repeated;
use crate::config::{Durability, ExtraVolume, Flags};
use crate::error::Result;
use crate::plan::facts::NodeImage;
use crate::plan::layout::{API_PORT, Layout, NodeLayout, api_endpoint, peer_url};
use crate::plan::node::flag_files::{HostPath, host_paths};
use crate::plan::patches::{self, Patch};
use crate::plan::pki::DIRECTORY as PKI;
use crate::yaml;

/// The directory in which the kubelet looks for static pods.
pub const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// etcd's own client, in a control plane, without its command.
pub const ETCDCTL: [&str; 7] = [
    "etcdctl",
    "--endpoints=https://127.0.0.1:2379",
    "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
    "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt",
    "--key=/etc/kubernetes/pki/etcd/healthcheck-client.key",
    "--command-timeout=10s",
    "--write-out=json",
];

/// The four static pods of a control plane node: file name and manifest.
pub fn manifests(
    layout: &Layout,
    node: &NodeLayout,
    image: &NodeImage,
    patches: &[Patch],
) -> Result<Vec<(String, String)>> {
    let mut pods = [
        etcd(layout, node, image),
        api_server(layout, node, image),
        controller_manager(layout, node, image),
        scheduler(layout, node, image),
    ];
    pods.iter_mut()
        .map(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            patches::apply(patches, &name, pod)?;
            Ok((format!("{MANIFESTS}/{name}.yaml"), yaml::to_string(pod)?))
        })
        .collect()
}

/// The default flags, overridden by the user's flags, as arguments in order.
fn arguments(
    program: &str,
    image: &NodeImage,
    defaults: Vec<(&str, String)>,
    flags: &Flags,
    gates: String,
) -> Vec<String> {
    let mut all: Flags = defaults.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    if !gates.is_empty() {
        all.insert("feature-gates".to_owned(), gates.into());
    }
    for (name, value) in flags {
        all.insert(name.clone(), value.clone());
    }
    let flags = all.iter().flat_map(|(name, value)| {
        let values = value.arguments(is_repeated(image.known.as_deref(), program, name));
        values.into_iter().map(move |value| format!("--{name}={value}"))
    });
    std::iter::once(program.to_owned()).chain(flags).collect()
}

/// `A=true,B=false`, empty without gates.
pub fn feature_gates(layout: &Layout) -> String {
    let gates = layout.cluster.feature_gates.iter().map(|(name, on)| format!("{name}={on}"));
    gates.collect::<Vec<_>>().join(",")
}

fn pki(name: &str) -> String {
    format!("{PKI}/{name}")
}

/// A component's probes, mounts and resources.
struct Component<'a> {
    name: &'a str,
    image: String,
    arguments: Vec<String>,
    /// Its health endpoints: host, port, path of liveness, path of readiness and scheme.
    health: (&'a str, u16, &'a str, Option<&'a str>, &'a str),
    mounts: Vec<HostPath>,
    /// The user's flags for it, and its node.
    user: (&'a Flags, &'a NodeLayout),
    volumes: &'a [ExtraVolume],
    requests: Value,
}

/// `GOGC` for a smaller heap: after a minute the whole node uses a third less memory, and boots no slower (docs/decisions).
fn garbage_collection(component: &str) -> &'static str {
    // The API server's heap is the largest one by far.
    if component == "kube-apiserver" { "30" } else { "40" }
}

fn pod(component: &Component<'_>) -> Value {
    let (host, port, live, ready, scheme) = component.health;
    let get = |path: &str| json!({"host": host, "path": path, "port": port, "scheme": scheme});
    let (flags, node) = component.user;
    let mut mounts = component.mounts.clone();
    let own: Vec<&ExtraVolume> =
        component.volumes.iter().filter(|volume| volume.component.pod() == component.name).collect();
    // What the user mounts at a path takes the place of what the flags would bring there.
    let taken: Vec<HostPath> = own.iter().map(|volume| HostPath::new("", &volume.mount_path, true, "")).collect();
    let named = host_paths(flags, &node.config.extra_mounts, &[component.mounts.as_slice(), &taken].concat());
    mounts.extend(named);
    let volume = |mount: &HostPath| json!({"name": mount.name, "hostPath": {"path": mount.path, "type": mount.kind}});
    let mount = |mount: &HostPath| json!({"name": mount.name, "mountPath": mount.path, "readOnly": mount.read_only});
    let (mut volumes, mut volume_mounts): (Vec<Value>, Vec<Value>) =
        mounts.iter().map(|path| (volume(path), mount(path))).unzip();
    for (index, extra) in own.iter().enumerate() {
        let name = format!("extra-{}", index + 1);
        volumes.push(json!({"name": name, "hostPath": {"path": extra.host_path, "type": extra.path_type}}));
        volume_mounts.push(json!({"name": name, "mountPath": extra.mount_path, "readOnly": extra.read_only}));
    }
    let mut container = json!({
        "name": component.name,
        "image": component.image,
        "imagePullPolicy": "IfNotPresent",
        "command": component.arguments,
        "env": [{"name": "GOGC", "value": garbage_collection(component.name)}],
        "resources": {"requests": component.requests},
        "volumeMounts": volume_mounts,
        // It is checked every second while it starts. After kubeadm's four minutes a slow machine may still be at it, and
        // would begin again; a component that cannot start ends by itself.
        "startupProbe": {"httpGet": get(live), "periodSeconds": 1, "timeoutSeconds": 15, "failureThreshold": 1800},
        "livenessProbe": {"httpGet": get(live), "initialDelaySeconds": 10, "periodSeconds": 10, "timeoutSeconds": 15, "failureThreshold": 8},
    });
    if let Some(ready) = ready {
        container["readinessProbe"] =
            json!({"httpGet": get(ready), "periodSeconds": 5, "timeoutSeconds": 15, "failureThreshold": 3});
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": component.name,
            "namespace": "kube-system",
            "labels": {"component": component.name, "tier": "control-plane"},
        },
        "spec": {
            "containers": [container],
            "hostNetwork": true,
            "priority": 2_000_001_000,
            "priorityClassName": "system-node-critical",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": volumes,
        },
    })
}

/// Adds the address that the probes ask to those at which the user wants etcd's metrics, unless they include it.
fn with_probed_address(mut arguments: Vec<String>) -> Vec<String> {
    for urls in arguments.iter_mut().filter(|argument| argument.starts_with("--listen-metrics-urls=")) {
        let all = urls.split_once('=').map(|(_, all)| all).unwrap_or_default();
        if !all.split(',').any(is_probed) {
            *urls = format!("{urls},http://127.0.0.1:{PROBED_PORT}");
        }
    }
    arguments
}

fn etcd(layout: &Layout, node: &NodeLayout, image: &NodeImage) -> Value {
    let (client, peer) = (SocketAddr::new(node.address, 2379), peer_url(node.address));
    let data = layout
        .cluster
        .etcd
        .get("data-dir")
        .and_then(|value| value.values().first())
        .map_or("/var/lib/etcd", String::as_str);
    let (members, joins) = layout.first_members(node);
    let initial = members.iter().map(|plane| format!("{}={}", plane.name, peer_url(plane.address)));
    let mut defaults = vec![
        ("name", node.name.clone()),
        ("data-dir", data.to_owned()),
        ("advertise-client-urls", format!("https://{client}")),
        ("listen-client-urls", format!("https://127.0.0.1:2379,https://{client}")),
        ("initial-advertise-peer-urls", peer.clone()),
        ("listen-peer-urls", peer),
        ("listen-metrics-urls", "http://127.0.0.1:2381".to_owned()),
        ("initial-cluster", initial.collect::<Vec<_>>().join(",")),
        ("initial-cluster-state", if joins { "existing" } else { "new" }.to_owned()),
        ("cert-file", pki("etcd/server.crt")),
        ("key-file", pki("etcd/server.key")),
        ("trusted-ca-file", pki("etcd/ca.crt")),
        ("client-cert-auth", "true".to_owned()),
        ("peer-cert-file", pki("etcd/peer.crt")),
        ("peer-key-file", pki("etcd/peer.key")),
        ("peer-trusted-ca-file", pki("etcd/ca.crt")),
        ("peer-client-cert-auth", "true".to_owned()),
        ("snapshot-count", "10000".to_owned()),
        ("watch-progress-notify-interval", "5s".to_owned()),
        ("feature-gates", "InitialCorruptCheck=true".to_owned()),
    ];
    if layout.cluster.durability == Durability::Ephemeral {
        defaults.push(("unsafe-no-fsync", "true".to_owned()));
    }
    if layout.control_planes().count() == 1 {
        if !image.early_election {
            // A single member waits for 1 to 2 election timeouts before it elects itself; one has to be at least 5 heartbeats.
            defaults.push(("heartbeat-interval", "20".to_owned()));
            defaults.push(("election-timeout", "100".to_owned()));
        }
    } else {
        // Half of the defaults: members on one machine hear of each other at once. A write that the lost leader had not
        // answered fails after 5 s and two election timeouts.
        defaults.push(("heartbeat-interval", "50".to_owned()));
        defaults.push(("election-timeout", "500".to_owned()));
    }
    let mut pod = pod(&Component {
        name: "etcd",
        image: format!("registry.k8s.io/etcd:{}", image.images.etcd),
        arguments: with_probed_address(arguments("etcd", image, defaults, &layout.cluster.etcd, String::new())),
        health: ("127.0.0.1", 2381, "/livez", Some("/readyz"), "HTTP"),
        mounts: vec![
            HostPath::new("etcd-data", data, false, "DirectoryOrCreate"),
            HostPath::new("etcd-certs", "/etc/kubernetes/pki/etcd", false, "DirectoryOrCreate"),
        ],
        user: (&layout.cluster.etcd, node),
        volumes: &layout.cluster.extra_volumes,
        requests: json!({"cpu": "100m", "memory": "100Mi"}),
    });
    pod["metadata"]["annotations"] =
        json!({"kubeadm.kubernetes.io/etcd.advertise-client-urls": format!("https://{client}")});
    pod
}

fn api_server(layout: &Layout, node: &NodeLayout, image: &NodeImage) -> Value {
    let address = node.address.to_string();
    let mut defaults = vec![
        ("advertise-address", address.clone()),
        ("allow-privileged", "true".to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("client-ca-file", pki("ca.crt")),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("enable-bootstrap-token-auth", "true".to_owned()),
        ("etcd-cafile", pki("etcd/ca.crt")),
        ("etcd-certfile", pki("apiserver-etcd-client.crt")),
        ("etcd-keyfile", pki("apiserver-etcd-client.key")),
        ("etcd-servers", "https://127.0.0.1:2379".to_owned()),
        ("kubelet-client-certificate", pki("apiserver-kubelet-client.crt")),
        ("kubelet-client-key", pki("apiserver-kubelet-client.key")),
        ("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname".to_owned()),
        // So that the node's kubelet can hold its first calls until this server listens (node-image/kubernetes/hold.go).
        ("permit-port-sharing", "true".to_owned()),
        ("proxy-client-cert-file", pki("front-proxy-client.crt")),
        ("proxy-client-key-file", pki("front-proxy-client.key")),
        ("requestheader-allowed-names", "front-proxy-client".to_owned()),
        ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("secure-port", API_PORT.to_string()),
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
        ("service-account-key-file", pki("sa.pub")),
        ("service-account-signing-key-file", pki("sa.key")),
        ("service-cluster-ip-range", layout.cluster.networking.service_subnet.to_string()),
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
    ];
    if layout.wildcard() != "0.0.0.0" {
        defaults.push(("bind-address", layout.wildcard().to_owned()));
    }
    let arguments = arguments("kube-apiserver", image, defaults, &layout.cluster.api_server, feature_gates(layout));
    let mut pod = pod(&Component {
        name: "kube-apiserver",
        image: format!("registry.k8s.io/kube-apiserver:{}", image.images.kubernetes),
        arguments,
        health: (&address, API_PORT, "/livez", Some("/readyz"), "HTTPS"),
        mounts: vec![
            HostPath::new("ca-certs", "/etc/ssl/certs", true, "DirectoryOrCreate"),
            HostPath::new("k8s-certs", PKI, true, "DirectoryOrCreate"),
        ],
        user: (&layout.cluster.api_server, node),
        volumes: &layout.cluster.extra_volumes,
        requests: json!({"cpu": "250m"}),
    });
    let endpoint = api_endpoint(node.address);
    pod["metadata"]["annotations"] =
        json!({"kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": endpoint});
    pod
}

/// The flags that kube-controller-manager and kube-scheduler share: fast clients, and no election with only one candidate.
fn shared(layout: &Layout, config: &str) -> Vec<(&'static str, String)> {
    let several = layout.control_planes().count() > 1;
    vec![
        ("authentication-kubeconfig", config.to_owned()),
        ("authorization-kubeconfig", config.to_owned()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("kubeconfig", config.to_owned()),
        ("leader-elect", several.to_string()),
        // With the default of 20 per second, the controller manager needs 4.5 s to start its controllers one by one.
        ("kube-api-qps", "1000".to_owned()),
        ("kube-api-burst", "2000".to_owned()),
    ]
}

fn controller_manager(layout: &Layout, node: &NodeLayout, image: &NodeImage) -> Value {
    let config = "/etc/kubernetes/controller-manager.conf";
    let networking = &layout.cluster.networking;
    let mut defaults = shared(layout, config);
    defaults.extend([
        ("allocate-node-cidrs", "true".to_owned()),
        ("client-ca-file", pki("ca.crt")),
        ("cluster-cidr", networking.pod_subnet.to_string()),
        ("cluster-name", layout.cluster.name.to_string()),
        ("cluster-signing-cert-file", pki("ca.crt")),
        ("cluster-signing-key-file", pki("ca.key")),
        ("controllers", "*,bootstrapsigner,tokencleaner".to_owned()),
        ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        ("root-ca-file", pki("ca.crt")),
        ("service-account-private-key-file", pki("sa.key")),
        ("service-cluster-ip-range", networking.service_subnet.to_string()),
        ("use-service-account-credentials", "true".to_owned()),
    ]);
    let flags = &layout.cluster.controller_manager;
    pod(&Component {
        name: "kube-controller-manager",
        image: format!("registry.k8s.io/kube-controller-manager:{}", image.images.kubernetes),
        arguments: arguments("kube-controller-manager", image, defaults, flags, feature_gates(layout)),
        health: ("127.0.0.1", 10257, "/healthz", None, "HTTPS"),
        mounts: vec![
            HostPath::new("ca-certs", "/etc/ssl/certs", true, "DirectoryOrCreate"),
            HostPath::new("k8s-certs", PKI, true, "DirectoryOrCreate"),
            HostPath::new("kubeconfig", config, true, "FileOrCreate"),
        ],
        user: (flags, node),
        volumes: &layout.cluster.extra_volumes,
        requests: json!({"cpu": "200m"}),
    })
}

fn scheduler(layout: &Layout, node: &NodeLayout, image: &NodeImage) -> Value {
    let config = "/etc/kubernetes/scheduler.conf";
    let defaults = shared(layout, config);
    pod(&Component {
        name: "kube-scheduler",
        image: format!("registry.k8s.io/kube-scheduler:{}", image.images.kubernetes),
        arguments: arguments("kube-scheduler", image, defaults, &layout.cluster.scheduler, feature_gates(layout)),
        health: ("127.0.0.1", 10259, "/livez", Some("/readyz"), "HTTPS"),
        mounts: vec![HostPath::new("kubeconfig", config, true, "FileOrCreate")],
        user: (&layout.cluster.scheduler, node),
        volumes: &layout.cluster.extra_volumes,
        requests: json!({"cpu": "100m"}),
    })
}
