use super::*;
use crate::cluster::health::facts::Killed;

/// The ID of the cause that lines as these show, and what is said.
fn cause(facts: &Facts, lines: &[&str]) -> Option<(&'static str, String)> {
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let found = find(&Evidence { facts, lines: &lines })?;
    Some((found.cause.row().id, found.reason()))
}

/// What programs have written on real nodes, each with its cause. `fail` and `explain` of the cluster tests provoke them.
const WRITTEN: &[(&str, &str)] = &[
    (
        "cgroups",
        r#"E1129 09:16:15.495908     246 run.go:72] "command failed" err="failed to run Kubelet: invalid configuration: cgroup [\"absent\"] has some missing paths: /sys/fs/cgroup/systemd/absent""#,
    ),
    (
        "cgroups",
        r#"E1129 09:16:28.099585      74 run.go:72] "command failed" err="failed to validate kubelet configuration, error: kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported and will be removed in a future release, path: &TypeMeta{Kind:,APIVersion:,}""#,
    ),
    (
        "dns-loop",
        r#"[FATAL] plugin/loop: Loop (10.244.0.1:48446 -> :53) detected for zone ".", see https://coredns.io/plugins/loop#troubleshooting. Query: "HINFO 3131572815071494855.2510149755211209365.""#,
    ),
    (
        "no-route",
        r#"E1129 09:22:06.454850     116 controller.go:201] "Failed to ensure lease exists, will retry" err="Get \"https://172.18.0.3:6443/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a?timeout=10s\": dial tcp 172.18.0.3:6443: connect: no route to host" interval="7s""#,
    ),
    (
        "port-in-node",
        r#"E1129 09:20:50.231200       1 run.go:72] "command failed" err="failed to create listener: failed to listen on 127.0.0.1:10257: listen tcp 127.0.0.1:10257: bind: address already in use""#,
    ),
    (
        "disk-pressure",
        r#"I1129 09:17:59.413924      73 eviction_manager.go:383] "Eviction manager: attempting to reclaim" resourceName="ephemeral-storage""#,
    ),
    (
        "disk-pressure",
        "Pod a: FailedScheduling: 0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure}.",
    ),
    (
        "webhook",
        r#"ReplicaSet gated-6c: FailedCreate: Error creating: Internal error occurred: failed calling webhook "pods.gate.example": failed to call webhook: Post "https://gate.default.svc:443/?timeout=10s": service "gate" not found"#,
    ),
    (
        "cni",
        "a: container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized",
    ),
    ("setting", "Error: unknown flag: --nonsense"),
    ("inotify", r#"E2 "Failed to start cAdvisor" err="inotify_init: too many open files""#),
    ("inotify", r#"E2 err="error initializing watcher: too many open files""#),
    ("inotify", "Failed to create inotify object: Too many open files"),
    (
        "proxy",
        r#"E1129 09:21:01.043129      73 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: Get \"https://172.18.0.4:6443/api/v1/nodes?limit=500\": proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused""#,
    ),
    (
        "packets",
        r#"failed to do request: Head "https://registry-1.docker.io/v2/library/busybox/manifests/latest": net/http: TLS handshake timeout"#,
    ),
    ("other-cluster", "client error (Connect): invalid peer certificate: UnknownIssuer"),
    (
        "clock",
        r#"E1129 09:21:01.0 74 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: Get \"https://172.18.0.3:6443/api/v1/nodes\": tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-11-29T09:21:01Z is before 2026-11-29T12:21:01Z""#,
    ),
    ("clock", "client error (Connect): invalid peer certificate: NotValidYet"),
];

#[test]
fn what_programs_have_written_has_its_cause() {
    for (id, line) in WRITTEN {
        let found = cause(&Facts::default(), &[line]);
        assert_eq!(found.as_ref().map(|(id, _)| *id), Some(*id), "{line}");
    }
}

#[test]
fn what_says_nothing_has_no_cause() {
    for line in ["E2 accept4: too many open files", "connection refused", "I1129 09:16:51 starting"] {
        assert_eq!(cause(&Facts::default(), &[line]), None);
    }
}

#[test]
fn certificates_of_the_future_are_a_matter_of_clocks() {
    let facts = Facts { begins: Some("they begin at noon".to_owned()), ..Facts::default() };
    assert_eq!(cause(&facts, &[]).unwrap().0, "clock");
}

#[test]
fn who_has_a_port_is_named() {
    let facts = Facts { listeners: vec![(10257, "kubelet".to_owned())], ..Facts::default() };
    let (_, line) = WRITTEN.iter().find(|(id, _)| *id == "port-in-node").unwrap();
    let (_, said) = cause(&facts, &[line]).unwrap();
    assert!(said.ends_with("`kubelet` listens at port 10257"), "{said}");
}

#[test]
fn memory_is_short_in_the_node_or_beside_it() {
    let of = |by_limit| {
        let killed = vec![Killed { program: "etcd".to_owned(), by_limit }; 2];
        cause(&Facts { killed, ..Facts::default() }, &[]).unwrap()
    };
    assert!(of(true).1.ends_with("the node has reached its `memory`, and `etcd` was killed"), "{:?}", of(true));
    assert!(of(false).1.contains("the engine's host has no memory left"));
    assert_eq!(of(true).0, "out-of-memory");
}

#[test]
fn a_network_that_cannot_be_loaded_is_told_and_one_that_is_not_there_yet_is_not() {
    let facts = |network: &str| Facts { network: network.to_owned(), ..Facts::default() };
    let broken = r#""lastCNILoadStatus": "cni config load failed: failed to load CNI config list file /etc/cni/net.d/00-broken.conflist: error parsing configuration list: invalid character 'h'""#;
    assert_eq!(cause(&facts(broken), &[]).unwrap().0, "cni");
    let absent = r#""lastCNILoadStatus": "cni config load failed: no network config found in /etc/cni/net.d: cni plugin not initialized: failed to load cni config""#;
    assert_eq!(cause(&facts(absent), &[]), None);
}

#[test]
fn every_cause_has_an_id_of_its_own_and_is_looked_for_somewhere() {
    let mut ids: Vec<&str> = Cause::ALL.iter().map(|cause| cause.row().id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), Cause::ALL.len());
    // These two are found by asking.
    let asked = [Cause::Image, Cause::NotReached];
    let read = [&OF_COMPONENTS[..], &OF_NODES, &OF_WARNINGS, &OF_CONNECTIONS, &asked].concat();
    assert!(Cause::ALL.iter().all(|cause| read.contains(cause)));
}

#[test]
fn an_explained_error_keeps_what_failed_and_says_why() {
    let error = Error::new(Code::ComponentFailed, "etcd keeps failing").because("it exits").hint("check `etcd`");
    let facts = Facts { is_full: true, ..Facts::default() };
    let full = find(&Evidence { facts: &facts, lines: &[] }).unwrap().explain(error.clone());
    assert_eq!((full.code(), full.cause_id()), (Code::DiskFull, Some("disk-full")));
    assert_eq!(full.to_string(), "etcd keeps failing: the engine's disk is full: no space left on device");
    let lines = ["Error: unknown flag: --x".to_owned()];
    let setting = find(&Evidence { facts: &Facts::default(), lines: &lines }).unwrap().explain(error);
    assert_eq!(setting.to_string(), "etcd keeps failing: Error: unknown flag: --x");
    assert_eq!(setting.hints(), ["check `etcd`"]);
}
