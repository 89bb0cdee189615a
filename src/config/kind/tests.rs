use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::config::{ClusterConfig, Component, KubeProxyMode, Overrides, load};

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../../tests/kind-files/", $name, ".yaml"))
    };
}

fn read(text: &str) -> ClusterConfig {
    let base_directory = Some(PathBuf::from("/home/me/project"));
    load(text, "k.yaml", &Overrides { base_directory, ..Overrides::default() }).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let error = load(text, "k.yaml", &Overrides::default()).unwrap_err();
    error.problems().iter().map(|problem| format!("{} {}", problem.place, problem.message)).collect()
}

/// A file with these fields.
fn of(fields: &str) -> String {
    format!("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n{fields}")
}

fn flags(cluster: &ClusterConfig) -> String {
    let all = [&cluster.api_server, &cluster.controller_manager, &cluster.scheduler, &cluster.etcd];
    let lines =
        all.iter().flat_map(|flags| flags.iter()).map(|(name, value)| format!("{name}={}", value.values().join("|")));
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_read_of_a_file_reads_back_as_one_of_ours() {
    for text in [
        file!("audit-policy"),
        file!("etcd-in-memory"),
        file!("extra-args-list"),
        file!("ha-dual").replace("HOSTDIR", "/tmp").as_str(),
        file!("ingress-ready"),
        file!("json6902-node"),
        file!("kubelet-patch"),
        file!("local-registry-new"),
        file!("local-registry-old"),
        file!("no-cni-no-proxy"),
        file!("v1alpha3"),
        file!("zones"),
    ] {
        let cluster = read(text);
        let again = load(&cluster.to_text().unwrap(), "c.yaml", &Overrides::default()).unwrap();
        assert_eq!(again, ClusterConfig { notes: Vec::new(), ..cluster }, "{text}");
    }
}

#[test]
fn patches_of_the_control_plane_become_its_flags_and_volumes() {
    let cluster = read(file!("audit-policy"));
    assert_eq!(
        flags(&cluster),
        "audit-log-path=/var/log/kubernetes/kube-apiserver-audit.log audit-policy-file=/etc/kubernetes/policies/audit-policy.yaml"
    );
    let volume = &cluster.extra_volumes[1];
    assert_eq!((volume.component, volume.host_path.as_str()), (Component::ApiServer, "/var/log/kubernetes"));
    assert!(cluster.extra_volumes[0].read_only && !volume.read_only);
    assert_eq!(cluster.nodes[0].extra_mounts[0].host_path, "/home/me/project/audit-policy.file.yaml");

    let cluster = read(file!("extra-args-list"));
    assert_eq!(
        flags(&cluster),
        "enable-admission-plugins=NodeRestriction,ValidatingAdmissionWebhook,AlwaysPullImages \
         service-account-issuer=https://issuer.example.com|https://kubernetes.default.svc.cluster.local \
         bind-address=0.0.0.0 bind-address=0.0.0.0 listen-metrics-urls=http://0.0.0.0:2381"
    );
    assert_eq!(cluster.kube_proxy, json!({"metricsBindAddress": "0.0.0.0:10249"}));

    let cluster = read(file!("etcd-in-memory"));
    assert_eq!(flags(&cluster), "data-dir=/tmp/etcd");
    let wanted = BTreeMap::from([("max-pods", "42"), ("system-reserved", "memory=2Gi")]);
    let found = &cluster.nodes[1].kubelet_flags;
    assert!(found.iter().all(|(name, value)| wanted[name.as_str()] == value.values()[0]) && found.len() == 2);
    assert!(cluster.nodes[0].kubelet_flags.is_empty());
}

#[test]
fn patches_of_nodes_become_labels_taints_and_flags() {
    let cluster = read(file!("ingress-ready"));
    assert_eq!(cluster.nodes[0].labels, BTreeMap::from([("ingress-ready".to_owned(), "true".to_owned())]));
    assert!(cluster.nodes[1].labels.is_empty() && cluster.nodes[0].extra_port_mappings.len() == 2);

    let cluster = read(file!("kubelet-patch"));
    // What the file repeats of kind's own settings is no change.
    assert_eq!(cluster.kubelet, json!({"maxPods": 500, "serializeImagePulls": false}));
    assert!(cluster.nodes.iter().all(|node| node.kubelet_flags["v"].values() == ["4"]));

    let text = of(
        "nodes:\n- role: control-plane\n  labels: {a: b}\n  kubeadmConfigPatches:\n  - |\n    kind: InitConfiguration\n    \
                   nodeRegistration:\n      taints: []\n      kubeletExtraArgs: {node-labels: 'c=d,a=e'}\n- role: worker\n  \
                   kubeadmConfigPatches:\n  - |\n    kind: JoinConfiguration\n    nodeRegistration:\n      kubeletExtraArgs:\n      \
                   - {name: register-with-taints, value: 'x=y:NoExecute'}\n",
    );
    let cluster = read(&text);
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(cluster.nodes[0].labels, BTreeMap::from([label("a", "e"), label("c", "d")]));
    assert_eq!(cluster.nodes[0].taints.as_deref(), Some([].as_slice()));
    assert_eq!(cluster.nodes[1].taints.as_ref().unwrap()[0].value, "y");
}

#[test]
fn operations_and_older_versions_are_read() {
    let cluster = read(file!("json6902-node"));
    assert_eq!(cluster.networking.api_server_cert_sans, ["ci.example.com", "192.0.2.10"]);
    let cluster = read(file!("v1alpha3"));
    assert_eq!(flags(&cluster), "profiling=false");
    assert!(cluster.notes[0].contains("v1alpha3"), "{:?}", cluster.notes);
    let list = of(
        "kubeadmConfigPatchesJSON6902:\n- group: kubeadm.k8s.io\n  version: v1beta4\n  kind: ClusterConfiguration\n  \
                   patch: |\n    - {op: add, path: /apiServer/extraArgs/-, value: {name: v, value: '5'}}\n",
    );
    assert_eq!(flags(&read(&list)), "v=5");
}

#[test]
fn networking_gates_and_runtime_configuration_are_read() {
    let cluster = read(&file!("ha-dual").replace("HOSTDIR", "/tmp"));
    assert_eq!(cluster.control_planes(), 3);
    assert_eq!(flags(&cluster), "runtime-config=api/alpha=false,resource.k8s.io/v1=true");
    assert_eq!(cluster.feature_gates, BTreeMap::from([("ImageVolume".to_owned(), true)]));
    assert_eq!(cluster.networking.kube_proxy_mode, KubeProxyMode::Nftables);
    let cluster =
        read(&of("networking: {apiServerPort: -1, kubeProxyMode: nftables}\nnodes:\n- role: control-plane\n  \
                            extraPortMappings: [{containerPort: 80, hostPort: -1}]\n"));
    assert_eq!((cluster.networking.api_server_port, cluster.nodes[0].extra_port_mappings[0].host_port), (0, 0));
    assert_eq!(cluster.networking.kube_proxy_mode, KubeProxyMode::Nftables);
    let cluster = read(&of("networking: {kubeProxyMode: ipvs}"));
    assert_eq!(cluster.networking.kube_proxy_mode, KubeProxyMode::Ipvs);
    let zones = read(file!("zones"));
    assert_eq!(zones.nodes[4].labels["topology.kubernetes.io/region"], "metro-1");
    assert_eq!(zones.nodes[4].labels["topology.kubernetes.io/zone"], "site-b");
}

#[test]
fn patches_of_containerd_become_registries_and_a_patch() {
    let cluster = read(file!("local-registry-new"));
    assert_eq!((cluster.registries.len(), &cluster.containerd), (0, &json!({})));
    let cluster = read(file!("local-registry-old"));
    assert_eq!(cluster.registries[0].host, "localhost:5001");
    assert_eq!(cluster.registries[0].mirrors, ["http://kind-registry:5000"]);
    let cluster = read(&file!("private-registry").replace("HOSTDIR", "/tmp"));
    let registry = &cluster.registries[0];
    assert!(registry.insecure && registry.login);
    assert_eq!(registry.account.as_ref().unwrap().reveal(), "secret");
    assert!(!format!("{cluster:?}{}", cluster.to_text().unwrap()).contains("secret"), "the password is shown");
    let text = of(
        "containerdConfigPatches:\n- |-\n  version = 2\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n  max_concurrent_downloads = 7\n  \
                   stream_server_port = \"0\"\n  [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  snapshotter = \"native\"\n  \
                   [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun]\n  runtime_type = \"io.containerd.runc.v2\"\n",
    );
    assert_eq!(
        read(&text).containerd["plugins"],
        json!({
            "io.containerd.cri.v1.images": {"max_concurrent_downloads": 7, "snapshotter": "native"},
            "io.containerd.cri.v1.runtime": {"containerd": {"runtimes": {"crun": {"runtime_type": "io.containerd.runc.v2"}}}},
            "io.containerd.grpc.v1.cri": {"stream_server_port": "0"},
        })
    );
}

#[test]
fn operations_on_containerds_configuration_are_patches_like_others() {
    let text = |operations: &str| {
        of(&format!(
            "containerdConfigPatches: ['plugins.\"io.containerd.grpc.v1.cri\".max_concurrent_downloads = 7']\n\
             containerdConfigPatchesJSON6902:\n- |-\n  {operations}\n"
        ))
    };
    let cluster = read(&text(
        "[{\"op\": \"replace\", \"path\": \"/plugins/io.containerd.grpc.v1.cri/max_concurrent_downloads\", \"value\": 9},\
         {\"op\": \"add\", \"path\": \"/plugins/io.containerd.grpc.v1.cri/registry/mirrors\", \"value\": \
         {\"localhost:5001\": {\"endpoint\": [\"http://kind-registry:5000\"]}}}]",
    ));
    assert_eq!(cluster.containerd["plugins"], json!({"io.containerd.cri.v1.images": {"max_concurrent_downloads": 9}}));
    assert_eq!(cluster.registries[0].mirrors, ["http://kind-registry:5000"]);
    for (operations, part) in [
        ("{}", "must be a list"),
        ("[{op: remove, path: /version}]", "cannot `remove`"),
        ("[{op: add, path: /imports/-, value: x}]", "`/imports/-` is in a list"),
        ("[{op: add, path: /x}]", "no `value`"),
        ("[{op: add, path: /x, value: null}]", "not one of TOML"),
        ("[{op: add, path: x, value: 1}]", "must begin with `/`"),
    ] {
        let found = problems(&text(operations));
        assert!(found.len() == 1 && found[0].contains(part), "{operations}: {found:?}");
    }
}

#[test]
fn every_mistake_is_reported_at_its_place() {
    let found = problems(file!("mistakes"));
    let wanted = [
        ("5:9 ", "did you mean `worker`"),
        ("8:15 ", "`hostPort` must be a port number"),
        ("9:3 ", "did you mean `extraMounts`"),
        ("13:5 ", "has no `hostPath`"),
        ("17:1 ", "not YAML"),
        ("17:11 ", "did you mean `ClusterConfiguration`"),
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (problem, (place, part)) in found.iter().zip(wanted) {
        assert!(problem.contains(part), "{problem} {place}");
    }
}

#[test]
fn what_cannot_be_honoured_is_named_and_never_passed_over() {
    let text = of(
        "kubeadmConfigPatches:\n- |\n  kind: ClusterConfiguration\n  dns: {imageTag: v1}\n  apiServer: {profiling-x: 'a', extraArg: {}}\n  \
                   etcd: {external: {}}\n  networking: {dnsDomain: other.local}\n- |\n  kind: InitConfiguration\n  \
                   nodeRegistration: {name: mine}\n  skipPhases: [addon/coredns]\n  patches: {directory: /x}\n- {kind: InitConfiguration}\n\
                   containerdConfigPatches: ['[plugins.']\n",
    );
    let found = problems(&text).join("\n");
    for part in [
        "6:3 coracle cannot honour `dns`",
        "`profiling-x` of ClusterConfiguration.apiServer; a flag belongs below `extraArgs`",
        "`extraArg` of",
        "`external` of",
        "`dnsDomain` of",
        "`name` of InitConfiguration.nodeRegistration",
        "phase `addon/coredns`",
        "no mount of this node leads to the directory of patches `/x`",
        "must be a string",
        "not TOML",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
}

#[test]
fn the_version_of_a_patch_is_that_of_the_node_image() {
    let text = |nodes: &str| {
        of(&format!("{nodes}kubeadmConfigPatches:\n- |\n  kind: ClusterConfiguration\n  kubernetesVersion: v1.35.4\n"))
    };
    assert_eq!(read(&text("")).image.as_deref(), Some("coracle/node:v1.35.4"));
    let with = |image: &str| text(&format!("nodes:\n- {{role: control-plane, image: '{image}'}}\n"));
    assert_eq!(read(&with("kindest/node:v1.35.4@sha256:abc")).image, None);
    let found = problems(&with("kindest/node:v1.36.3"));
    assert!(found.len() == 1 && found[0].contains("which is `kindest/node:v1.36.3` here"), "{found:?}");
}

#[test]
fn flags_with_the_values_that_kubeadm_gives_are_taken() {
    let text = |value: &str| {
        of(&format!(
            "kubeadmConfigPatches:\n- |\n  kind: ClusterConfiguration\n  apiServer:\n    extraArgs:\n      \
             service-account-signing-key-file: {value}\n      service-account-issuer: kubernetes.default.svc\n"
        ))
    };
    let cluster = read(&text("/etc/kubernetes/pki/sa.key"));
    assert_eq!(cluster.api_server.keys().collect::<Vec<_>>(), ["service-account-issuer"]);
    assert!(problems(&text("/etc/kubernetes/other.key"))[0].contains("set by coracle"));
}

#[test]
fn a_patch_where_kubeadm_does_not_read_it_is_noted() {
    let text = of(
        "nodes:\n- role: control-plane\n- role: worker\n  kubeadmConfigPatches:\n  - |\n    kind: InitConfiguration\n    \
                   nodeRegistration: {kubeletExtraArgs: {v: '9'}}\n  - |\n    kind: KubeletConfiguration\n    maxPods: 3\n",
    );
    let cluster = read(&text);
    assert!(cluster.nodes[1].kubelet_flags.is_empty() && cluster.kubelet == json!({}));
    assert!(
        cluster.notes[0].contains("JoinConfiguration") && cluster.notes[1].contains("first control plane"),
        "{:?}",
        cluster.notes
    );
}

#[test]
fn the_directory_of_patches_is_that_of_the_closest_mount() {
    let text = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nkubeadmConfigPatches:\n- |\n  kind: InitConfiguration\n  \
        patches: {directory: /a/b/c}\n- |\n  kind: JoinConfiguration\n  patches: {directory: /none}\n\
        nodes:\n- role: control-plane\n  extraMounts:\n  - {hostPath: /one, containerPath: /a}\n  \
        - {hostPath: ./two, containerPath: /a/b}\n";
    assert_eq!(read(text).nodes[0].patches.as_deref(), Some("/home/me/project/two/c"));
    let said = problems(&format!("{text}- role: worker\n").replace("./two", "/two"));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("`/none`") && said[0].contains("extraMounts"), "{said:?}");
}
