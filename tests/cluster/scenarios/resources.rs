//! What a node gets by its settings: limits that its kubelet reports, and what its services and pods see.

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, json};
use crate::harness::run::{contains, docker, ensure, eventually};

/// The settings of the only node of the group `settings`; the patch of the cluster's kubelet has `memory.available: 11Mi`.
pub(super) const NODE: &str = "    memory: 3Gi
    cpus: 1.5
    ulimits: {nofile: {soft: 8192, hard: 16384}}
    sysctls: {net.core.somaxconn: 1234, kernel.shm_rmid_forced: 1}
    env: {GODEBUG: netdns=go, CORAL: 'two words'}
    devices: [/dev/loop-control]
    hostAliases: [{ip: 127.0.0.1, hostnames: [registry.corp.example]}]
    kubelet: {registryBurst: 21}
";
const HEADER: &str = "apiVersion: v1\nkind: Pod\nmetadata:";

pub(super) fn all(cluster: &Cluster) -> Result<(), String> {
    capacity(cluster)?;
    services(cluster)?;
    super::hello::deploy(cluster)?;
    pods(cluster)
}

/// The engine limits the container, and the kubelet reports the same.
fn capacity(cluster: &Cluster) -> Result<(), String> {
    let node = cluster.node();
    let format = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}";
    contains(&docker(&["inspect", "--format", format, &node])?, "3221225472 1500000000")?;
    let status = &cluster.kubectl_json(&["get", "node", &node])?["status"];
    for (list, resource, value) in [
        ("capacity", "memory", "3Gi"),
        ("capacity", "cpu", "2"),
        ("allocatable", "memory", "3061Mi"),
        ("allocatable", "cpu", "1500m"),
    ] {
        let found = &status[list][resource];
        ensure(found == value, || format!("{list} of {resource} is {found} and not {value}"))?;
    }
    contains(&cluster.in_node("cat /proc/meminfo")?, "MemTotal:        3145728 kB\n")?;
    let path = format!("/api/v1/nodes/{node}/proxy/configz");
    let config = json(&cluster.kubectl(&["get", "--raw", &path])?)?;
    ensure(config["kubeletconfig"]["registryBurst"] == 21, || format!("the kubelet has {config}"))
}

/// What systemd, containerd, the kubelet and etcd see.
fn services(cluster: &Cluster) -> Result<(), String> {
    contains(&cluster.in_node("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shm_rmid_forced")?, "1234\n1\n")?;
    cluster.in_node("test -c /dev/loop-control")?;
    for unit in ["containerd", "kubelet"] {
        let script = format!("tr '\\0' '\\n' </proc/$(systemctl show --property MainPID --value {unit})/environ");
        let environment = cluster.in_node(&script)?;
        contains(&environment, "GODEBUG=netdns=go\n").map_err(|error| format!("{unit}: {error}"))?;
        contains(&environment, "CORAL=two words\n").map_err(|error| format!("{unit}: {error}"))?;
    }
    // No one listens there; the cause names the address.
    contains(&cluster.in_node("crictl pull registry.corp.example/none:v1 2>&1; true")?, "dial tcp 127.0.0.1:443")?;
    contains(&cluster.in_node("tr '\\0' '\\n' </proc/$(pgrep -x etcd)/cmdline")?, "--unsafe-no-fsync=true\n")
}

/// A pod that asks for more than the limits waits, and says for what; others have the node's limits, one of them in crun.
fn pods(cluster: &Cluster) -> Result<(), String> {
    let image = "image: hello-world:latest, imagePullPolicy: IfNotPresent";
    let pod = |name: &str, more: &str, requests: &str| {
        format!("{HEADER} {{name: {name}}}\nspec:\n{more}  containers: [{{name: main, {image}{requests}}}]\n---\n")
    };
    cluster.apply(
        &[
            pod("too-large", "", ", resources: {requests: {memory: 3062Mi}}"),
            pod("too-busy", "", ", resources: {requests: {cpu: 1501m}}"),
            pod("in-crun", "  runtimeClassName: crun\n", ""),
            // The kernel mounts its `/proc` only if the node has a complete one.
            pod("mapped", "  hostUsers: false\n", ""),
        ]
        .concat(),
    )?;
    for (name, cause) in [("too-large", "Insufficient memory"), ("too-busy", "Insufficient cpu")] {
        eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.kubectl(&["describe", "pod", name])?, cause))?;
        let phase = cluster.kubectl(&["get", "pod", name, "--output=jsonpath={.status.phase}"])?;
        ensure(phase == "Pending", || format!("{name} is {phase}"))?;
    }
    cluster.kubectl(&["wait", "pod/in-crun", "pod/mapped", "--for=condition=Ready", "--timeout=100s"])?;
    let limits = cluster.kubectl(&["exec", "in-crun", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn"])?;
    contains(&limits, "8192\n16384\n")?;
    // The state of a container is its runtime's, and crun reads only its own.
    let state =
        "crun --root /run/containerd/runc/k8s.io state $(crictl ps --quiet --label io.kubernetes.pod.name=in-crun)";
    contains(&cluster.in_node(state)?, "\"status\": \"running\"")?;
    let names = ["too-large", "too-busy", "in-crun", "mapped"].map(|name| format!("pod/{name}"));
    let mut delete = vec!["delete", "--wait=false"];
    delete.extend(names.iter().map(String::as_str));
    cluster.kubectl(&delete).map(drop)
}
