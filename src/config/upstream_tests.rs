use super::*;
use crate::config::known::tests::known;

const HEAD: &str = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n";

/// Problems of what follows the first two lines, as `place message`, with these images of nodes and control planes.
fn with(nodes: &[Known], control_planes: &[Known], text: &str) -> Vec<String> {
    let written = Written { file: "c.yaml".to_owned(), text: format!("{HEAD}{text}") };
    let images = Images { nodes: nodes.iter().collect(), control_planes: control_planes.iter().collect() };
    written.problems(&images).iter().map(|problem| format!("{} {}", problem.place, problem.message)).collect()
}

fn problems(text: &str) -> Vec<String> {
    let known = [known("v1.36.3")];
    with(&known, &known, text)
}

#[test]
fn every_unknown_name_is_told_at_its_place_with_what_was_meant() {
    let text = "\
featureGates: {NodeSwop: true, ContextualLogging: false}
kubelet:
  maxPodz: 50
  authentication: {x509: {clientCaFile: /x}}
  node-labels: a=b
  clientCAFile: /x
  reservedMemory: [{numaNode: 0, limit: {memory: 1Gi}}]
  apiVersion: kubelet.config.k8s.io/v1beta1
kubeProxy:
  conntrack: {minimum: 1}
apiServer:
  profilin: false
  help: true
controllerManager: {nonsense: 1}
etcd: {snapshot-cont: 5}
";
    assert_eq!(
        problems(text),
        [
            "c.yaml:3:16 Kubernetes v1.36.3 has no feature gate `NodeSwop`; did you mean `NodeSwap`?",
            "c.yaml:5:3 KubeletConfiguration of Kubernetes v1.36.3 has no field `maxPodz`; did you mean `maxPods`?",
            "c.yaml:6:27 KubeletX509Authentication of Kubernetes v1.36.3 has no field `clientCaFile`; did you mean `clientCAFile`?",
            "c.yaml:7:3 KubeletConfiguration of Kubernetes v1.36.3 has no field `node-labels`; write `labels` of the node",
            "c.yaml:8:3 KubeletConfiguration of Kubernetes v1.36.3 has no field `clientCAFile`; did you mean `authentication.x509.clientCAFile`?",
            "c.yaml:9:34 MemoryReservation of Kubernetes v1.36.3 has no field `limit`; did you mean `limits`?",
            "c.yaml:12:15 Conntrack of Kubernetes v1.36.3 has no field `minimum`",
            "c.yaml:14:3 kube-apiserver v1.36.3 has no flag `profilin`; did you mean `profiling`?",
            "c.yaml:15:3 with `help`, `kube-apiserver` would print something and exit",
            "c.yaml:16:21 kube-controller-manager v1.36.3 has no flag `nonsense`",
            "c.yaml:17:8 etcd of Kubernetes v1.36.3 has no flag `snapshot-cont`; did you mean `snapshot-count`?",
        ]
    );
}

#[test]
fn the_kubelet_of_one_node_is_checked_like_those_of_all() {
    let text = "nodes:\n- role: control-plane\n  kubelet: {maxPodz: 5, podPidsLimit: x}\n- role: worker\n  kubelet: {maxPods: 5}\n";
    assert_eq!(
        problems(text),
        [
            "c.yaml:5:13 KubeletConfiguration of Kubernetes v1.36.3 has no field `maxPodz`; did you mean `maxPods`?",
            "c.yaml:5:39 `podPidsLimit` must be a whole number, not the string `x`",
        ]
    );
}

#[test]
fn every_value_of_a_wrong_type_is_told() {
    let text = "\
kubelet:
  maxPods: '50'
  podPidsLimit: 1.5
  failSwapOn: 'no'
  clusterDomain: 5
  clusterDNS: 10.0.0.1
  evictionHard: {memory.available: 5}
  syncFrequency: 10
  memoryThrottlingFactor: high
  authentication: []
  reservedMemory: [{numaNode: 4294967296, limits: {memory: 1GB}}]
apiServer:
  profiling: 'yes'
  max-requests-inflight: lots
  event-ttl: 1d
  v: [1, 2]
controllerManager: {concurrent-gc-syncs: 4294967296}
scheduler: {kube-api-qps: fast}
etcd: {snapshot-count: -1}
";
    assert_eq!(
        problems(text),
        [
            "c.yaml:4:12 `maxPods` must be a whole number of 32 bits, not the string `50`",
            "c.yaml:5:17 `podPidsLimit` must be a whole number, not the number `1.5`",
            "c.yaml:6:15 `failSwapOn` must be `true` or `false`, not the string `no`",
            "c.yaml:7:18 `clusterDomain` must be a string (write `\"5\"`), not the number `5`",
            "c.yaml:8:15 `clusterDNS` must be a list, not the string `10.0.0.1`",
            "c.yaml:9:36 `memory.available` must be a string (write `\"5\"`), not the number `5`",
            "c.yaml:10:18 `syncFrequency` must be a duration such as `10s` or `1h30m`, not the number `10`",
            "c.yaml:11:27 `memoryThrottlingFactor` must be a number, not the string `high`",
            "c.yaml:12:19 `authentication` must be a mapping, not a list",
            "c.yaml:13:31 `numaNode` must be a whole number of 32 bits, not the number `4294967296`",
            "c.yaml:13:60 `memory` must be a quantity such as `500Mi` or `2`, not the string `1GB`",
            "c.yaml:15:14 `profiling` must be `true` or `false`, not the string `yes`",
            "c.yaml:16:26 `max-requests-inflight` must be a whole number, not the string `lots`",
            "c.yaml:17:14 `event-ttl` must be a duration such as `10s` or `1h30m`, not the string `1d`",
            "c.yaml:18:6 `v` must be a whole number of 32 bits, not a list",
            "c.yaml:19:42 `concurrent-gc-syncs` must be a whole number of 32 bits, not the number `4294967296`",
            "c.yaml:20:27 `kube-api-qps` must be a number, not the string `fast`",
            "c.yaml:21:24 `snapshot-count` must be a whole number from 0 on, not the number `-1`",
        ]
    );
}

#[test]
fn what_kubernetes_accepts_is_accepted() {
    let text = "\
name: dev
kubelet:
  maxPods: 50
  podPidsLimit: -1
  failSwapOn: null
  clusterDNS: [10.0.0.1]
  evictionHard: {memory.available: 5%}
  syncFrequency: 1m30s
  memoryThrottlingFactor: 1
  authentication: {x509: {clientCAFile: ''}}
  reservedMemory: [{numaNode: 0, limits: {memory: 1Gi, hugepages-1Gi: 2}}]
  logging: {anything: [1]}
kubeProxy:
apiServer:
  profiling: 'false'
  max-requests-inflight: '0x10'
  event-ttl: 1h0m0s
  v: 3
  apiserver-count: anything
  service-account-issuer: [a, b]
  enable-admission-plugins: [A, B]
scheduler: {kube-api-qps: '1e3'}
";
    assert_eq!(problems(text), [""; 0]);
    assert_eq!(problems(""), [""; 0]);
}

#[test]
fn the_list_of_each_nodes_image_counts() {
    let (new, mut old) = (known("v1.36.3"), known("v1.35.4"));
    old.types.get_mut("KubeletConfiguration").unwrap().remove("podPidsLimit");
    old.flags.get_mut("kube-apiserver").unwrap().remove("profiling");
    old.types.get_mut("KubeProxyConfiguration").unwrap().remove("oomScoreAdj");
    let text = "kubelet: {podPidsLimit: 5, maxPods: x}\napiServer: {profiling: false}\nkubeProxy: {oomScoreAdj: 1}\n";
    let both = [new.clone(), old.clone()];
    let kubelet = "c.yaml:3:11 KubeletConfiguration of Kubernetes v1.35.4 has no field `podPidsLimit`";
    let of_all = "c.yaml:3:37 `maxPods` must be a whole number of 32 bits, not the string `x`";
    assert_eq!(
        with(&both, &both[..1], text),
        [kubelet, of_all],
        "a worker has neither flags nor a say in kube-proxy's"
    );
    let flag = "c.yaml:4:13 kube-apiserver v1.35.4 has no flag `profiling`";
    assert_eq!(with(&both, &both, text), [kubelet, of_all, flag]);
    assert_eq!(with(&both[..1], &both[..1], text), [of_all]);
    let proxy = "c.yaml:5:13 KubeProxyConfiguration of Kubernetes v1.35.4 has no field `oomScoreAdj`";
    assert_eq!(with(&both[1..], &both[1..], text), [kubelet, of_all, flag, proxy]);
}
