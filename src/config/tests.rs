use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::error::{Code, Error, Result};

const HEAD: &str = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n";

pub(super) fn file(text: &str) -> Result<ClusterConfig> {
    let base_directory = Some(PathBuf::from("/home/me/project"));
    load(text, "c.yaml", &Overrides { base_directory, ..Overrides::default() })
}

/// Loads `apiVersion` and `kind`, which are lines 1 and 2, and what follows them.
pub(super) fn body(text: &str) -> Result<ClusterConfig> {
    file(&format!("{HEAD}{text}"))
}

/// Problems as `place message`.
fn lines(error: &Error) -> Vec<String> {
    error.problems().iter().map(|problem| format!("{} {}", problem.place, problem.message)).collect()
}

pub(super) fn problems(text: &str) -> Vec<String> {
    lines(&body(text).unwrap_err())
}

#[test]
fn nothing_asked_for_is_one_control_plane_with_defaults() {
    let default = ClusterConfig::new(ClusterName::default());
    assert_eq!(load("", "", &Overrides::default()).unwrap(), default);
    assert_eq!(file(HEAD).unwrap(), default);
    // What editors and scripts add is nothing either.
    for more in ["---\n", "...\n", "---\n---\n# end\n"] {
        assert_eq!(file(&format!("---\n{HEAD}{more}")).unwrap(), default, "{more:?}");
    }
}

#[test]
fn every_problem_is_listed_at_its_place_in_the_order_of_the_text() {
    let text = "\
apiVersion: coracle.dev/v1
kind: cluster
nmae: dev
nodes:
- role: controlplane
  labels: {env: yes, 'bad key': x}
- role: worker
  extraPortMappings:
  - containerPort: 70000
    hostPort: '80'
networking:
  podSubnet: 10.244.0.1/16
  disableDefaultCNI: on
featureGates:
  Foo: 'true'
apiServer:
  --v: 5
  secure-port: 1
";
    let error = file(text).unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
    assert_eq!(error.message(), "the configuration `c.yaml` has 13 problems");
    assert_eq!(
        lines(&error),
        [
            "c.yaml:1:13 this must be `coracle.dev/v1alpha1`, not the string `coracle.dev/v1`",
            "c.yaml:2:7 this must be `Cluster`, not the string `cluster`",
            "c.yaml:3:1 unknown field `nmae`; did you mean `name`?",
            "c.yaml:5:9 `role` must be one of `control-plane`, `worker`, not `controlplane`; did you mean `control-plane`?",
            "c.yaml:6:17 kubectl reads an unquoted `yes` as a boolean; write `\"yes\"`, `true` or `false`",
            "c.yaml:6:22 the key `bad key` contains ` `; only letters, digits, `-`, `_` and `.` are allowed",
            "c.yaml:9:20 `containerPort` must be between 1 and 65535, not `70000`",
            "c.yaml:10:15 `hostPort` must be a port number, not the string `80`",
            "c.yaml:12:14 `10.244.0.1/16` has host bits set; did you mean `10.244.0.0/16`?",
            "c.yaml:13:22 `disableDefaultCNI` must be `true` or `false`, not the string `on`",
            "c.yaml:15:8 `Foo` must be `true` or `false`, not the string `true`",
            "c.yaml:17:3 write `--v` without its dashes: `v`",
            "c.yaml:18:3 `secure-port` is set by coracle; use `networking.apiServerPort`",
        ]
    );
    let snippet = error.problems()[2].snippet.as_ref().unwrap();
    assert_eq!((snippet.line, snippet.column, snippet.text.as_str()), (3, 1, "nmae: dev"));
}

#[test]
fn what_is_missing_is_reported_where_it_belongs() {
    assert_eq!(
        lines(&file("nodes:\n- image: a\n  taints:\n  - key: a\n  extraMounts:\n  - readOnly: true\n").unwrap_err()),
        [
            "c.yaml:1:1 `apiVersion: coracle.dev/v1alpha1` is missing",
            "c.yaml:1:1 `kind: Cluster` is missing",
            "c.yaml:2:3 the node has no `role`; it is `control-plane` or `worker`",
            "c.yaml:4:5 the taint has no `effect`",
            "c.yaml:6:5 the mount has no `hostPath`",
            "c.yaml:6:5 the mount has no `containerPath`",
        ]
    );
}

#[test]
fn repeated_keys_are_problems_anywhere() {
    assert_eq!(
        problems("name: a\nname: b\nkubelet:\n  maxPods: 1\n  logging: {a: 1, a: 2}\n"),
        ["c.yaml:4:1 `name` is already set on line 3", "c.yaml:7:19 `a` is already set on line 7"]
    );
}

#[test]
fn a_file_of_k3d_is_told_from_one_with_mistakes() {
    let error = file("kind: Simple\napiVersion: k3d.io/v1alpha5\nservers: 1\n").unwrap_err();
    assert_eq!(
        lines(&error),
        ["c.yaml:2:13 this is a configuration file of k3d (`k3d.io/v1alpha5`); coracle reads `coracle.dev/v1alpha1`, \
          kind `Cluster`, and files of kind; `coracle config convert` translates it"]
    );
}

#[test]
fn text_that_is_not_yaml_is_a_problem_with_its_place() {
    for text in ["a: [", "a: b: c", "\t- x", "a: *b", "- 1", "text", "a: 1\n---\nb: 2\n", "? [a]\n: 1", "{{}: 1}"] {
        let error = file(text).unwrap_err();
        assert!(error.problems()[0].place.starts_with("c.yaml:"), "{text:?}: {error:?}");
    }
}

#[test]
fn fields_of_other_tools_are_answered_with_ours() {
    assert_eq!(
        problems("runtimeConfig: {}\nnodes:\n- role: control-plane\n  kubeadmConfigPatches: []\n"),
        [
            "c.yaml:3:1 coracle has no field `runtimeConfig`; use `apiServer: {runtime-config: …}`",
            "c.yaml:6:3 coracle has no field `kubeadmConfigPatches`; leave it out",
        ]
    );
}

#[test]
fn nodes_need_a_control_plane() {
    assert_eq!(problems("nodes:\n- role: worker\n"), ["c.yaml:3:1 no node has the role `control-plane`"]);
    assert!(problems("nodes: []\n")[0].starts_with("c.yaml:3:8 a cluster needs at least one node"));
    // A node whose role cannot be read may have been the control plane.
    assert_eq!(problems("nodes:\n- role: worker\n- role: x\n").len(), 1);
    let many = format!("nodes:\n{}", "- role: control-plane\n".repeat(10));
    assert_eq!(problems(&many), ["c.yaml:3:1 10 control planes are too many; the maximum is 9"]);
}

#[test]
fn subnets_must_not_overlap_and_must_be_large_enough() {
    assert_eq!(
        problems("networking:\n  podSubnet: 10.0.0.0/8\n"),
        ["c.yaml:4:14 `serviceSubnet` 10.96.0.0/16 and `podSubnet` 10.0.0.0/8 overlap"]
    );
    let three = "nodes: [{role: control-plane}, {role: worker}, {role: worker}]\n";
    assert_eq!(
        problems(&format!(
            "{three}networking:\n  podSubnet: 10.1.0.0/23\n  serviceSubnet: 10.2.0.0/29\n  nodeSubnet: 10.2.0.0/29\n"
        )),
        [
            "c.yaml:5:14 10.1.0.0/23 has room for 2 nodes with a /24 each, but the cluster has 3",
            "c.yaml:6:18 the mask of 10.2.0.0/29 must be between /12 and /28",
            "c.yaml:7:15 `nodeSubnet` 10.2.0.0/29 and `serviceSubnet` 10.2.0.0/29 overlap",
            "c.yaml:7:15 10.2.0.0/29 is too small for 3 nodes; it must be /26 or larger",
        ]
    );
    for subnet in ["fd00::/64", "127.0.0.0/16", "10.0.0.0", "x", "10.0.0.0/16,10.1.0.0/16", "0.0.0.0/0", "10.0.0.0/33"]
    {
        assert_eq!(problems(&format!("networking:\n  podSubnet: '{subnet}'\n")).len(), 1, "{subnet}");
    }
}

#[test]
fn a_host_port_is_used_once() {
    let ports = "\
networking: {apiServerPort: 6443}
nodes:
- role: control-plane
  extraPortMappings:
  - {containerPort: 30080, hostPort: 6443}
  - {containerPort: 30080, hostPort: 80}
  - {containerPort: 6443}
- role: worker
  extraPortMappings:
  - {containerPort: 30080, hostPort: 80, listenAddress: 0.0.0.0}
  - {containerPort: 30080, hostPort: 80, protocol: UDP}
  - {containerPort: 30081, hostPort: 0}
  - {containerPort: 30082}
  - {containerPort: 6443}
";
    assert_eq!(
        problems(ports),
        [
            "c.yaml:7:38 host port 6443 is already used by the API server",
            "c.yaml:9:21 port 6443 of a control plane belongs to the API server; use `networking.apiServerPort`",
            "c.yaml:12:38 host port 80 is already used by `nodes[0].extraPortMappings[1]`",
        ]
    );
}

#[test]
fn mounts_are_made_absolute_and_hide_nothing() {
    let mount = |host: &str, node: &str| {
        body(&format!(
            "nodes:\n- role: control-plane\n  extraMounts: [{{hostPath: '{host}', containerPath: '{node}'}}]\n"
        ))
        .map(|cluster| cluster.nodes[0].extra_mounts[0].clone())
    };
    assert_eq!(mount("./data/x", "/data/").unwrap().host_path, "/home/me/project/data/x");
    assert_eq!(mount("/srv", "//data/./a/").unwrap().container_path, "/data/a");
    let allowed = "/etc/kubernetes/audit.yaml /var/lib/kubelet/config.json /etc/containerd/certs.d \
                   /var/local /boot /dev /dev/loop7 /etc/kubernetes/pki/oidc.crt /var/lib/kubelet \
                   /sys/fs/bpf /sys/kernel/debug/tracing";
    for allowed in allowed.split(' ') {
        assert!(mount("a", allowed).is_ok(), "{allowed}");
    }
    let refused = "data / /var /etc/kubernetes /etc/kubernetes/pki /etc/kubernetes/pki/ca.crt \
                   /etc/kubernetes/pki/etcd/ca.crt /var/lib/kubelet/config.yaml /var/lib/kubelet/pki \
                   /var/lib/etcd/x /a/../etc /var/lib/coracle /sys/kernel /sys/fs/cgroup";
    for refused in [""].into_iter().chain(refused.split(' ')) {
        assert!(mount("a", refused).is_err(), "{refused}");
    }
    for refused in ["", "~/x", "~"] {
        assert!(mount(refused, "/data").is_err(), "{refused}");
    }
    let error = load(
        &format!("{HEAD}nodes: [{{role: control-plane, extraMounts: [{{hostPath: a, containerPath: /a}}]}}]\n"),
        "-",
        &Overrides::default(),
    );
    assert_eq!(lines(&error.unwrap_err()), ["-:3:56 `a` is not an absolute path"]);
    assert_eq!(
        problems(
            "nodes:\n- role: control-plane\n  extraMounts:\n  - {hostPath: a, containerPath: /a}\n  - {hostPath: b, containerPath: /a/}\n"
        ),
        ["c.yaml:7:34 another mount is already at `/a`"]
    );
}

#[test]
fn labels_and_taints_follow_the_rules_of_kubernetes() {
    let node = |text: &str| body(&format!("nodes:\n- role: control-plane\n  {text}\n"));
    let good = node("labels: {example.com/zone: a.b_c-1, empty: ''}").unwrap();
    assert_eq!(good.nodes[0].labels["example.com/zone"], "a.b_c-1");
    assert_eq!(node("taints: []").unwrap().nodes[0].taints, Some(vec![]));
    assert_eq!(node("taints:").unwrap().nodes[0].taints, None);
    let long = "a".repeat(64);
    for refused in [
        "labels: {a: 1}",
        "labels: {a: '-b'}",
        "labels: {Example.com/a: b}",
        "labels: {/a: b}",
        "labels: {kubernetes.io/hostname: b}",
        &format!("labels: {{a: {long}}}"),
        "taints: [{key: a, effect: noschedule}]",
        "taints: [{key: a, effect: NoExecute}, {key: a, value: b, effect: NoExecute}]",
        "taints: [a=b:NoExecute]",
    ] {
        assert_eq!(lines(&node(refused).unwrap_err()).len(), 1, "{refused}");
    }
}

#[test]
fn flags_are_text_or_lists_of_text() {
    let cluster =
        body("apiServer: {v: 5, profiling: false, enable-admission-plugins: [A, B], x: 1.10, y: '0x10'}\n").unwrap();
    let flags: Vec<_> =
        cluster.api_server.iter().map(|(name, value)| format!("{name}={}", value.values().join(" "))).collect();
    assert_eq!(flags, ["enable-admission-plugins=A B", "profiling=false", "v=5", "x=1.10", "y=0x10"]);
    assert_eq!(
        problems("etcd: {cert-file: x, v: {a: 1}}\nscheduler: [v]\ncontrollerManager: {cluster-cidr: 10.0.0.0/16}\n"),
        [
            "c.yaml:3:8 `cert-file` is set by coracle and cannot be changed",
            "c.yaml:3:25 `v` must be a string, a number, a boolean or a list of these, not a mapping",
            "c.yaml:4:12 `scheduler` must be a mapping, not a list",
            "c.yaml:5:21 `cluster-cidr` is set by coracle; use `networking.podSubnet`",
        ]
    );
}

#[test]
fn patches_are_mappings_of_the_right_kind() {
    let text = "kubelet:\n  apiVersion: kubelet.config.k8s.io/v1beta1\n  kind: KubeletConfiguration\n  maxPods: 50\n  \
                evictionHard: null\n  allowedUnsafeSysctls: ['net.*', 1.5, true]\n";
    let cluster = body(text).unwrap();
    assert_eq!(
        cluster.kubelet,
        json!({"maxPods": 50, "evictionHard": null, "allowedUnsafeSysctls": ["net.*", 1.5, true]})
    );
    assert_eq!(
        problems("kubelet: []\nkubeProxy:\n  kind: KubeletConfiguration\n  mode: ipvs\n  x: [.inf, off]\n"),
        [
            "c.yaml:3:10 `kubelet` must be a mapping, not a list",
            "c.yaml:5:9 this must be `KubeProxyConfiguration`, not the string `KubeletConfiguration`",
            "c.yaml:6:3 `mode` is set by coracle; use `networking.kubeProxyMode`",
            "c.yaml:7:7 `.inf` is not a number in JSON; put it in quotes",
            "c.yaml:7:13 kubectl reads an unquoted `off` as a boolean; write `\"off\"`, `true` or `false`",
        ]
    );
}

#[test]
fn flags_of_the_command_line_win_over_the_file() {
    let text = format!(
        "{HEAD}name: file\nimage: a\nnodes:\n- {{role: worker, labels: {{n: a}}}}\n- {{role: control-plane, image: b}}\n\
         - {{role: worker, labels: {{n: b}}}}\n"
    );
    let overrides = Overrides {
        name: Some("flag".to_owned()),
        image: Some("c:1".to_owned()),
        workers: Some(1),
        control_planes: Some(3),
        ..Overrides::default()
    };
    let cluster = load(&text, "c.yaml", &overrides).unwrap();
    assert_eq!(cluster.name.as_str(), "flag");
    assert_eq!(cluster.image.as_deref(), Some("c:1"));
    let roles: Vec<_> = cluster.nodes.iter().map(|node| node.role.as_str()).collect();
    assert_eq!(roles, ["worker", "control-plane", "control-plane", "control-plane"]);
    assert_eq!(cluster.nodes[0].labels["n"], "a");
    assert!(cluster.nodes.iter().all(|node| node.image.is_none()));
    let plain = load("", "", &Overrides { workers: Some(2), ..Overrides::default() }).unwrap();
    assert_eq!((plain.nodes.len(), plain.control_planes()), (3, 1));
}

#[test]
fn wrong_flags_are_in_the_same_list() {
    let overrides = Overrides {
        name: Some("No".to_owned()),
        image: Some(" ".to_owned()),
        workers: Some(100),
        control_planes: Some(0),
        ..Overrides::default()
    };
    let places = |error: &Error| error.problems().iter().map(|problem| problem.place.clone()).collect::<Vec<_>>();
    let error = load("nmae: 1", "c.yaml", &overrides).unwrap_err();
    assert_eq!(
        places(&error),
        ["--name", "--image", "--control-planes", "--workers", "c.yaml:1:1", "c.yaml:1:1", "c.yaml:1:1"]
    );
    let error = load("", "", &overrides).unwrap_err();
    assert_eq!(error.message(), "the command line has 4 problems");
}

#[test]
fn a_check_names_the_place_in_the_file_also_when_flags_drop_nodes() {
    let text =
        format!("{HEAD}nodes:\n- role: worker\n- role: control-plane\n  extraPortMappings:\n  - containerPort: 6443\n");
    let error = load(&text, "c.yaml", &Overrides { workers: Some(0), ..Overrides::default() }).unwrap_err();
    assert_eq!(error.problems()[0].place, "c.yaml:7:20");
}

#[test]
fn warnings_name_what_is_allowed_but_odd() {
    assert!(warnings(&ClusterConfig::new(ClusterName::default())).is_empty());
    let text = "networking: {apiServerAddress: 0.0.0.0}\nnodes: [{role: control-plane}, {role: control-plane}]\n";
    let warnings = warnings(&body(text).unwrap());
    assert!(warnings[0].contains("2 control planes survive the loss of 0"), "{warnings:?}");
    assert!(warnings[1].contains("0.0.0.0"), "{warnings:?}");
}

#[test]
fn a_cluster_written_out_is_read_back_the_same() {
    let text = "\
name: full
image: a/b:v1
nodes:
- role: control-plane
  image: c
  labels: {a: 'yes', b: '1_000', c: ''}
  taints: []
  extraMounts: [{hostPath: x, containerPath: /x, readOnly: true, propagation: Bidirectional}]
  extraPortMappings: [{containerPort: 1, hostPort: 2, listenAddress: '::1', protocol: SCTP}]
- role: worker
  taints: [{key: a, value: 'on', effect: NoExecute}]
networking: {nodeSubnet: 172.30.0.0/24, kubeProxyMode: none, disableDefaultCNI: true, apiServerPort: 7}
featureGates: {A: true}
kubelet: {maxPods: 5, deep: {list: [1, a, null, 1.5, 'true']}}
kubeProxy: {metricsBindAddress: 0.0.0.0:1}
apiServer: {v: 5, list: [a, b], t: 'true'}
";
    let cluster = body(text).unwrap();
    assert_eq!(load(&cluster.to_text().unwrap(), "x", &Overrides::default()).unwrap(), cluster);
    let plain = ClusterConfig::new(ClusterName::default());
    assert_eq!(load(&plain.to_text().unwrap(), "x", &Overrides::default()).unwrap(), plain);
}

#[test]
fn capitals_are_for_the_host_of_an_image_and_its_tag() {
    for good in ["Reg.Example/a/b:V1", "localhost/a:X", "a/b@sha256:0123", "host:5000/a"] {
        assert_eq!(syntax::image(good).as_deref(), Ok(good));
    }
    for bad in ["UPPER:x", "a/B:1", "reg.example/A"] {
        assert!(syntax::image(bad).unwrap_err().contains("capitals"), "{bad}");
    }
}
