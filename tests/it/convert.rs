//! Files of kind in our own format: the plan is the same.

use coracle::config::{ClusterConfig, Converted, Overrides, convert, load};
use coracle::engine::spec::{CgroupVersion, Privilege};
use coracle::plan::pki::Pki;

use crate::plans::{facts, of_cluster, text};
use crate::schema::by_schema;
use crate::sources::{files, read};

/// What the files of users do not have, all in one.
const ODD: &str = r#"# A file with something of everything.
# yaml-language-server: $schema=https://example.com/kind.json
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: odd
networking: {apiServerPort: -1, kubeProxyMode: iptables}
runtimeConfig: {api/all: "true"}
kubeadmConfigPatches:
- |
  kind: ClusterConfiguration
  apiServer:
    extraArgs: {v: 0x4, profiling: false, event-ttl: 1h, max-requests-inflight: "1_000", goaway-chance: 0.010}
    certSANs: [ci.example.com]
  networking: {podSubnet: 10.50.0.0/16}
- |
  kind: KubeletConfiguration
  maxPods: 0x10
  memoryThrottlingFactor: 0.50
  featureGates: {NodeSwap: true}
  allowedUnsafeSysctls: ["net.*", 'kernel.msg*', "yes", "012", "~"]
- '{kind: KubeProxyConfiguration, conntrack: {min: null}, metricsBindAddress: "0.0.0.0:10249"}'
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri"]
    max_concurrent_downloads = 7
    enable_unprivileged_ports = true
nodes:
- role: control-plane
  labels: {tier: "1"}
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration:
      taints: [{key: a/b, value: "on", effect: NoExecute}]
      kubeletExtraArgs: {node-labels: "x=1,y=no", v: 5, max-pods: "32"}
  extraMounts: [{hostPath: ./some dir, containerPath: /x, selinuxRelabel: true}]
  extraPortMappings: [{containerPort: 80, hostPort: -1, protocol: tcp}, {containerPort: 53, protocol: UDP}]
- &worker
  role: worker
  kubeadmConfigPatches: ["{kind: JoinConfiguration, nodeRegistration: {taints: []}}"]
- *worker
"#;

fn overrides() -> Overrides {
    Overrides { base_directory: Some("/home/user".into()), ..Overrides::default() }
}

fn loaded(text: &str, name: &str) -> ClusterConfig {
    load(text, name, &overrides()).unwrap_or_else(|error| panic!("{name}: {:#?}\n{text}", error.problems()))
}

/// The plan of a configuration; keys are new in each.
fn plan(cluster: ClusterConfig, pki: &Pki) -> String {
    let facts = facts(CgroupVersion::V2, Privilege::Privileged, cluster.nodes.len());
    let plan = text(&of_cluster(cluster, &facts, pki));
    let mut inside = false;
    let lines = plan.lines().filter(|line| {
        inside |= line.contains("-----BEGIN PUBLIC KEY-----");
        let is_key = inside;
        inside &= !line.contains("-----END PUBLIC KEY-----");
        !is_key
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Converts a file of kind, and compares the plans.
fn same_plan(kind: &str, name: &str) -> Converted {
    let pki = Pki::generate(time::OffsetDateTime::UNIX_EPOCH).unwrap();
    let converted = convert(kind, name, &overrides()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (of_kind, ours) = (plan(loaded(kind, name), &pki), plan(loaded(&converted.text, name), &pki));
    assert!(of_kind == ours, "{name}: the plans differ\n{}\n{}", converted.text, difference(&of_kind, &ours));
    assert_eq!(by_schema(&converted.text), Vec::<String>::new(), "{name}: {}", converted.text);
    converted
}

fn difference(one: &str, other: &str) -> String {
    let lines = one.lines().zip(other.lines()).filter(|(one, other)| one != other).take(20);
    lines.map(|(one, other)| format!("- {one}\n+ {other}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_file_of_kind_gives_the_same_plan_when_it_is_converted() {
    let mut seen = 0;
    for path in files("tests/kind-files", ".yaml") {
        let text = read(&path);
        if !text.contains("apiVersion: kind.") || path.ends_with("/mistakes.yaml") {
            continue;
        }
        same_plan(&text, &path);
        seen += 1;
    }
    assert!(seen >= 13, "{seen}");
}

#[test]
fn a_file_with_something_of_everything_gives_the_same_plan_too() {
    let converted = same_plan(ODD, "odd.yaml");
    let text = &converted.text;
    assert!(text.contains("\nfeatureGates:") && !text.contains("kubeadmConfigPatches:"), "{text}");
    assert!(text.starts_with("# A file with something of everything.\n# Converted by"), "{text}");
    for comment in [
        "# Flags of kube-apiserver. kind: `apiServer.extraArgs` in a patch of ClusterConfiguration",
        "# Relative to the directory of this file.",
        "# coracle chooses a free port, and keeps it. kind: -1.",
        "# kind: some of them are `node-labels`",
        "# Note: `selinuxRelabel` is not needed",
        "# Without `listenAddress`",
    ] {
        assert!(text.contains(comment), "`{comment}` is missing\n{text}");
    }
    assert!(converted.has_relative_paths && converted.logins.is_empty());
}

#[test]
fn a_password_is_not_written_and_its_registry_is_named() {
    let converted = same_plan(&read("tests/kind-files/private-registry.yaml"), "private-registry.yaml");
    assert_eq!(converted.logins, ["registry.test:5443"]);
    assert!(!converted.text.contains("secret") && converted.text.contains("`docker login registry.test:5443`"));
}

#[test]
fn only_files_of_kind_without_mistakes_are_converted() {
    let refused = |text: &str| convert(text, "c.yaml", &overrides()).unwrap_err();
    assert_eq!(refused(&read("tests/kind-files/mistakes.yaml")).problems().len(), 6);
    assert!(refused(&read("configs/one-node.yaml")).message().contains("not a configuration file of kind or k3d"));
    assert!(refused("").problems()[0].message.contains("nothing in this file"));
}

/// A configuration of k3d with something of everything.
const K3D: &str = r#"apiVersion: k3d.io/v1alpha5
kind: Simple
metadata: {name: lab}
servers: 1
agents: 2
kubeAPI: {host: lab.example.com, hostIP: "127.0.0.1", hostPort: "6445"}
image: rancher/k3s:v1.35.1-k3s1
network: custom
subnet: 172.28.0.0/16
volumes:
- {volume: "./site:/site:ro", nodeFilters: ["agent:*"]}
- volume: ./app.yaml:/var/lib/rancher/k3s/server/manifests/app.yaml
  nodeFilters: ["server:0"]
ports:
- {port: "8080:80", nodeFilters: [loadbalancer]}
- {port: "0.0.0.0:30053:30053/udp", nodeFilters: ["agent:1"]}
env: [{envVar: "GODEBUG=netdns=go", nodeFilters: ["server:*"]}, {envVar: HTTP_PROXY=http://proxy}]
registries:
  create: {name: registry.localhost, hostPort: "5000"}
  config: |
    mirrors: {"docker.io": {endpoint: ["https://mirror.example.com"]}}
    configs: {"old.example.com": {tls: {insecure_skip_verify: true}}}
hostAliases: [{ip: 10.0.0.9, hostnames: [git.example]}]
options:
  k3d: {wait: true}
  k3s:
    extraArgs:
    - {arg: --disable=traefik, nodeFilters: ["server:*"]}
    - {arg: "--tls-san=ci.example.com", nodeFilters: ["server:*"]}
    - {arg: "--kube-apiserver-arg=event-ttl=2h", nodeFilters: ["server:*"]}
    - {arg: "--kubelet-arg=max-pods=50", nodeFilters: ["agent:0"]}
    - {arg: --snapshotter=native, nodeFilters: ["server:*"]}
    nodeLabels: [{label: tier=web, nodeFilters: ["agent:1"]}]
  kubeconfig: {updateDefaultKubeconfig: true}
  runtime: {agentsMemory: 2g, ulimits: [{name: nofile, soft: 26677, hard: 26677}]}
"#;

#[test]
fn a_file_of_k3d_becomes_one_that_loads_and_tells_what_is_left_out() {
    let converted = convert(K3D, "k3d.yaml", &overrides()).unwrap_or_else(|error| panic!("{:#?}", error.problems()));
    let cluster = loaded(&converted.text, "converted.yaml");
    assert_eq!(by_schema(&converted.text), Vec::<String>::new(), "{}", converted.text);
    assert_eq!((cluster.name.as_str(), cluster.control_planes(), cluster.nodes.len()), ("lab", 1, 3));
    let [server, first, second] = cluster.nodes.as_slice() else { panic!() };
    assert_eq!(server.extra_port_mappings[0].host_port, 8080);
    assert_eq!(second.extra_port_mappings[0].protocol, coracle::config::Protocol::Udp);
    assert_eq!(second.labels.get("tier").map(String::as_str), Some("web"));
    assert!(first.kubelet_flags.contains_key("max-pods") && !second.kubelet_flags.contains_key("max-pods"));
    assert_eq!(first.settings.memory.unwrap().to_string(), "2Gi");
    assert!(server.settings.env.contains_key("GODEBUG") && first.settings.env.is_empty());
    assert!(first.extra_mounts[0].read_only && server.extra_mounts.is_empty());
    assert_eq!(cluster.networking.api_server_port, 6445);
    assert_eq!(cluster.networking.api_server_cert_sans, ["lab.example.com", "ci.example.com"]);
    assert_eq!(cluster.networking.node_subnet.to_string(), "172.28.0.0/16");
    assert_eq!((cluster.addons, cluster.manifests.len()), (vec!["metrics-server".to_owned()], 1));
    assert!(cluster.api_server.contains_key("event-ttl") && cluster.registry.is_some());
    assert!(cluster.registries[0].mirrors.len() == 1 && cluster.registries[1].insecure);
    let notes = converted.notes.join("\n");
    for left_out in ["`image` on line 7", "`network` on line 8", "`env` on line 17", "`--snapshotter=native`"] {
        assert!(notes.contains(left_out) && converted.text.contains(left_out), "`{left_out}`: {notes}");
    }
    assert_eq!(converted.notes.len(), 4, "{notes}");
}
