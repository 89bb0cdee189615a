//! What `create` would make, as recorded: every container, and every file of every node.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coracle::config::{ClusterConfig, IpFamily, Node, Overrides, Role, load};
use coracle::engine::spec::{CgroupVersion, EngineInfo, Privilege};
use coracle::plan::diff::Changes;
use coracle::plan::layout::Existing;
use coracle::plan::pki::Pki;
use coracle::plan::subnet::NodeSubnets;
use coracle::plan::{self, Facts, Images, Layout, NodeImage, Plan, ProxySettings};

fn image() -> NodeImage {
    let version = "v1.36.3";
    NodeImage {
        id: "sha256:0000000000000000000000000000000000000000000000000000000000000001".to_owned(),
        reference: format!("coracle/node:{version}"),
        images: Images { kubernetes: version.to_owned(), etcd: "3.6.8-0".to_owned(), coredns: "v1.14.2".to_owned() },
        pause: "registry.k8s.io/pause:3.10.2".to_owned(),
        shared_store: true,
        policy_plugin: true,
        ipv6_plugin: true,
        early_election: true,
        crun: true,
        known: None,
    }
}

pub(crate) fn facts(cgroup: CgroupVersion, privilege: Privilege, nodes: usize) -> Facts {
    Facts {
        mtu: None,
        balancer: None,
        engine: EngineInfo {
            version: "28.0.0".to_owned(),
            os_type: coracle::engine::spec::OsType::Linux,
            architecture: "x86_64".to_owned(),
            storage_driver: "overlay2".to_owned(),
            cgroup,
            rootless: false,
            userns_remap: false,
            operating_system: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            data_root: "/var/lib/docker".to_owned(),
            proxy: (String::new(), String::new(), String::new()),
            cpus: 2,
            memory: 8 << 30,
            ahead: None,
            grants: coracle::engine::spec::Grants::default(),
        },
        images: vec![image(); nodes],
        proxy: ProxySettings::default(),
        registry: None,
        authorities: BTreeMap::new(),
        login_hosts: BTreeMap::new(),
        patches: BTreeMap::new(),
        run: "run".to_owned(),
        expires: None,
        privilege,
        limits: BTreeMap::new(),
        devices: Vec::new(),
        modules: true,
    }
}

fn make(control_planes: usize, workers: usize, cgroup: CgroupVersion, privilege: Privilege, config: &str) -> Plan {
    let facts = facts(cgroup, privilege, control_planes + workers);
    planned(control_planes, workers, config, &facts)
}

fn planned(control_planes: usize, workers: usize, config: &str, facts: &Facts) -> Plan {
    let overrides = Overrides {
        name: Some("dev".to_owned()),
        control_planes: Some(control_planes),
        workers: Some(workers),
        base_directory: Some(PathBuf::from("/home/user")),
        ..Overrides::default()
    };
    // Without a file, the default cluster is meant.
    let file = if config.is_empty() { "" } else { "cluster.yaml" };
    let cluster = load(config, file, &overrides).unwrap();
    of_cluster(cluster, facts, &Pki::generate(time::OffsetDateTime::UNIX_EPOCH).unwrap())
}

/// The plan of a configuration.
pub(crate) fn of_cluster(cluster: ClusterConfig, facts: &Facts, pki: &Pki) -> Plan {
    let subnets = NodeSubnets {
        v4: "172.18.0.0/22".parse().unwrap(),
        v6: (cluster.networking.ip_family != IpFamily::Ipv4).then(|| "fdc0:ac1e::/64".parse().unwrap()),
    };
    let layout = Layout::new(cluster, subnets, 40000, "v1.36.3").unwrap();
    plan::plan(layout, facts, pki).unwrap()
}

/// As `--dry-run` prints it, with keys that differ each time.
pub(crate) fn text(plan: &Plan) -> String {
    coracle::yaml::to_string(&plan.describe()).unwrap()
}

fn record(name: &str, plan: &Plan) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"(?s)-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", "[public key]");
    settings.bind(|| insta::assert_snapshot!(name, text(plan)));
}

#[test]
fn one_node() {
    record("one_node", &make(1, 0, CgroupVersion::V2, Privilege::Privileged, ""));
}

#[test]
fn one_node_on_cgroup_v1_without_every_capability() {
    record("one_node_cgroup_v1", &make(1, 0, CgroupVersion::V1, Privilege::AllButSysResource, ""));
}

#[test]
fn one_control_plane_and_two_workers() {
    record("three_nodes", &make(1, 2, CgroupVersion::V2, Privilege::Privileged, ""));
}

#[test]
fn three_control_planes_behind_a_load_balancer() {
    record("three_control_planes", &make(3, 0, CgroupVersion::V2, Privilege::Privileged, ""));
}

#[test]
fn the_engines_settings_reach_the_network_and_the_pods_or_are_replaced() {
    let mut facts = facts(CgroupVersion::V2, Privilege::Privileged, 2);
    assert!(!text(&planned(1, 1, "", &facts)).contains("15-users.conf"));
    facts.mtu = Some(1400);
    facts.limits.insert("nofile".to_owned(), 1_048_576);
    facts.engine.userns_remap = true;
    let plan = planned(1, 1, "", &facts);
    assert_eq!(plan.network.mtu, Some(1400));
    for node in &plan.nodes {
        assert_eq!(node.spec.limits.get("nofile"), Some(&1_048_576.into()));
        assert!(node.spec.host_user_namespace);
    }
    let text = text(&plan);
    assert_eq!(text.matches("\"mtu\": 1400").count(), 2, "the CNI configuration of each node has it");
    assert_eq!(text.matches("15-users.conf").count(), 2);
}

#[test]
fn what_a_configuration_can_say() {
    let config = "\
apiVersion: coracle.dev/v1alpha1
kind: Cluster
nodes:
  - role: control-plane
    labels: {tier: one}
    extraMounts: [{hostPath: ./site, containerPath: /site, readOnly: true}]
    extraPortMappings: [{containerPort: 30080, hostPort: 8080}]
  - role: worker
    memory: 1Gi
    cpus: 1.5
    ulimits: {nofile: 65536, memlock: unlimited}
    sysctls: {net.core.somaxconn: 4096}
    env: {GODEBUG: netdns=go}
    devices: [/dev/fuse, example.com/device=one]
    hostAliases: [{ip: 10.0.0.9, hostnames: [git.corp.example]}]
    kubelet: {maxPods: 20, registryBurst: 20}
    taints: [{key: example.com/dedicated, value: database, effect: NoSchedule}]
networking:
  apiServerPort: 6443
  podSubnet: 10.10.0.0/16
  serviceSubnet: 10.11.0.0/20
  kubeProxyMode: none
  disableDefaultCNI: true
featureGates: {ImageVolume: true}
kubelet: {maxPods: 50}
apiServer: {v: 2}
durability: ephemeral
registries:
  - host: docker.io
    mirrors: [https://mirror.example.com, http://10.0.0.5:5000]
    login: true
  - {host: 'old.example.com:5000', insecure: true, login: true}
";
    record("configured", &make(1, 1, CgroupVersion::V2, Privilege::Privileged, config));
}

#[test]
fn a_dual_stack_cluster() {
    let config = "\
apiVersion: coracle.dev/v1alpha1
kind: Cluster
networking:
  ipFamily: dual
";
    record("dual_stack", &make(1, 1, CgroupVersion::V2, Privilege::Privileged, config));
}

#[test]
fn an_ipv6_cluster_behind_a_load_balancer() {
    let config = "\
apiVersion: coracle.dev/v1alpha1
kind: Cluster
networking:
  ipFamily: ipv6
";
    record("ipv6_three_control_planes", &make(3, 0, CgroupVersion::V2, Privilege::Privileged, config));
}

#[test]
fn the_same_input_gives_the_same_description() {
    let make = || text(&make(3, 2, CgroupVersion::V2, Privilege::Privileged, ""));
    let strip = |text: String| text.lines().filter(|line| !line.contains("PUBLIC KEY")).count();
    assert_eq!(strip(make()), strip(make()));
}

#[test]
fn a_description_has_no_secret() {
    let plan = make(3, 2, CgroupVersion::V2, Privilege::Privileged, "");
    let text = text(&plan);
    assert!(!text.contains("PRIVATE KEY") && !text.contains("client-key-data"));
    for pair in [&plan.access.admin, &plan.access.super_admin] {
        let line = pair.key.lines().nth(1).unwrap();
        assert!(!text.contains(line));
    }
}

/// The changes to the files of existing nodes when a node is added.
fn changes(control_planes: usize, workers: usize, role: Role) -> String {
    let before = make(control_planes, workers, CgroupVersion::V2, Privilege::Privileged, "");
    let pki = Pki::generate(time::OffsetDateTime::UNIX_EPOCH).unwrap();
    let facts = facts(CgroupVersion::V2, Privilege::Privileged, control_planes + workers + 1);
    let old = before.layout;
    let (cluster, existing) = (old.cluster.clone(), Existing::from(&old));
    let subnets = NodeSubnets { v4: "172.18.0.0/22".parse().unwrap(), v6: None };
    let layout = Layout::with_existing(cluster, existing, vec![Node::new(role)], subnets, 40000, "v1.36.3").unwrap();
    let names: Vec<String> = old.nodes.iter().map(|node| node.name.clone()).collect();
    let (before, after) = (plan::plan(old, &facts, &pki).unwrap(), plan::plan(layout, &facts, &pki).unwrap());
    let exists = |plan: Plan| plan.nodes.into_iter().filter(|node| names.contains(&node.spec.name)).collect::<Vec<_>>();
    Changes::of_plans(&exists(before), &exists(after)).to_string()
}

#[test]
fn a_new_worker_changes_only_the_recorded_configuration() {
    assert_eq!(changes(1, 1, Role::Worker), "dev-control-plane:\n  ~ /etc/coracle/cluster.yaml\n");
}

#[test]
fn a_second_control_plane_changes_what_names_the_balancer_and_the_members_of_etcd() {
    let expected = "\
dev-control-plane:
  ~ /etc/coracle/api-service.nft
  ~ /etc/coracle/cluster.yaml
  ~ /etc/kubernetes/admin.conf (secret: kubeconfig of kubernetes-admin)
  ~ /etc/kubernetes/manifests/etcd.yaml
  ~ /etc/kubernetes/manifests/kube-controller-manager.yaml
  ~ /etc/kubernetes/manifests/kube-scheduler.yaml
  ~ /etc/kubernetes/pki/apiserver.crt (certificate CN=kube-apiserver)
  ~ /etc/kubernetes/pki/apiserver.key (secret: key of CN=kube-apiserver)
  ~ /etc/kubernetes/super-admin.conf (secret: kubeconfig of kubernetes-super-admin)
dev-worker:
  ~ /etc/coracle/api-service.nft
  ~ /etc/kubernetes/kubelet.conf (secret: kubeconfig of system:node:dev-worker)
  ~ /etc/systemd/system/kubelet.service.d/20-wait-for-api.conf
";
    assert_eq!(changes(1, 1, Role::ControlPlane), expected);
}

#[test]
fn a_control_planes_files_are_enough_to_issue_for_the_same_cluster() {
    let plan = make(1, 0, CgroupVersion::V2, Privilege::Privileged, "");
    let read = |path: &str| plan.nodes[0].files.get(path)?.content().map(str::to_owned);
    let pki = Pki::from_files(&read, time::OffsetDateTime::UNIX_EPOCH).unwrap();
    let again = plan::plan(plan.layout.clone(), &facts(CgroupVersion::V2, Privilege::Privileged, 1), &pki).unwrap();
    assert_eq!(again.access.authority, plan.access.authority);
    assert_eq!(Changes::of_plans(&plan.nodes, &again.nodes).to_string(), "");
}

#[test]
fn everything_of_a_cluster_with_a_limit_tells_its_end() {
    let facts = facts(CgroupVersion::V2, Privilege::Privileged, 4);
    let config = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nidleStop: 30m\n";
    let endless = text(&planned(3, 1, "", &facts));
    let facts = Facts { expires: Some("2026-11-28T23:00:00Z".parse().unwrap()), ..facts };
    let limited = text(&planned(3, 1, config, &facts));
    let count = |part: &str| (endless.matches(part).count(), limited.matches(part).count());
    // Four nodes and the load balancer, the volumes of each node, and the network.
    assert_eq!(count("dev.coracle.expires"), (0, 5 + 8 + 1));
    assert_eq!(count("ends: true"), (0, 5));
    assert_eq!(count("path: /etc/coracle/expires"), (0, 5));
    assert_eq!(count("IDLE_STOP=1800"), (0, 4));
    assert_eq!(count("CONTROL_PLANE=yes"), (0, 3));
}
