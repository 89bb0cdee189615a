//! What a node keeps to itself, and what it gets back: heartbeats, its Node object, a control plane that starts slowly.

use std::time::{Duration, Instant};

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, address_of};
use crate::harness::run::{docker, ensure, eventually};

/// Sends forged heartbeats for two seconds: from the node `FROM` to the node `TO`, which says that `NAME` only starts.
const FORGE: &str = r#"use Socket;
my ($from, $to, $name) = @ARGV;
socket(my $raw, PF_INET, SOCK_RAW, 255) or die "no raw socket: $!";
for (1 .. 20) {
    for my $text ("coracle-agent 1 -$name", "coracle-agent 2 -$name" . ("x" x 32)) {
        my $udp = pack("n4", 10290, 10290, 8 + length $text, 0) . $text;
        my $ip = pack("CCnnnCCn", 0x45, 0, 20 + length $udp, 1, 0, 64, 17, 0) . inet_aton($from) . inet_aton($to);
        send($raw, $ip . $udp, 0, pack_sockaddr_in(0, inet_aton($to))) or die "not sent: $!";
    }
    select(undef, undef, undef, 0.1);
}"#;

/// A pod cannot speak for a node: what it sends to the agents' port with a node's address is dropped at its own node.
pub(super) fn forged_heartbeats(cluster: &Cluster) -> Result<(), String> {
    let (worker, other) = (format!("{}-worker", cluster.name), format!("{}-worker2", cluster.name));
    let owned = |node: &str| docker(&["exec", node, "ip", "-brief", "-4", "address", "show", "eth0"]);
    let before = [owned(&worker)?, owned(&other)?];
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: forger}}\nspec:\n  nodeName: {worker}\n  terminationGracePeriodSeconds: 0\n  \
         containers: [{{name: forger, image: 'hello-world:latest', imagePullPolicy: IfNotPresent, command: [sleep, infinity]}}]\n"
    ))?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/forger", "--timeout=60s"])?;
    let program = format!(
        "pod=$(crictl pods --name forger -q) && pid=$(crictl inspectp $pod | jq .info.pid) && nsenter -t $pid -n perl -e '{}' {} {} {other}",
        FORGE.replace('\'', "'\\''"),
        address_of(&other)?.trim(),
        address_of(&worker)?.trim(),
    );
    docker(&["exec", &worker, "bash", "-c", &program])?;
    let rules = docker(&["exec", &worker, "nft", "list", "table", "inet", "coracle-heartbeats"])?;
    cluster.kubectl(&["delete", "pod/forger"])?;
    ensure(rules.contains("counter packets 40 "), || format!("the packets were not dropped: {rules}"))?;
    let after = [owned(&worker)?, owned(&other)?];
    ensure(before == after, || format!("addresses moved: {before:?}, then {after:?}"))
}

/// A Node object that was deleted comes back with its labels of every kind, its taints and its pod subnets, so that the pods
/// that still run are reached.
pub(super) fn deleted_nodes(cluster: &Cluster) -> Result<(), String> {
    for node in [cluster.node(), format!("{}-worker", cluster.name)] {
        let look = || {
            let object = cluster.kubectl_json(&["get", "node", &node])?;
            let taints = object["spec"]["taints"].as_array().cloned().unwrap_or_default();
            let own = taints
                .iter()
                .filter(|taint| !taint["key"].as_str().unwrap_or_default().starts_with("node.kubernetes.io/"));
            let own: Vec<String> = own.map(ToString::to_string).collect();
            Ok::<_, String>((object["metadata"]["labels"].to_string(), own, object["spec"]["podCIDRs"].to_string()))
        };
        let before = look()?;
        cluster.kubectl(&["delete", "node", &node])?;
        docker(&["exec", &node, "systemctl", "restart", "kubelet"])?;
        eventually(EVENTUALLY_TIMEOUT, || {
            let after = look()?;
            ensure(after == before, || format!("{node} was {before:?} and is {after:?}"))
        })?;
    }
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    for node in [cluster.node(), format!("{}-worker", cluster.name)] {
        eventually(EVENTUALLY_TIMEOUT, || {
            let pods =
                cluster.kubectl_json(&["get", "pods", "--namespace=kube-system", "--selector=k8s-app=kube-dns"])?;
            let pods = pods["items"].as_array().cloned().unwrap_or_default();
            ensure(!pods.is_empty(), || "there is no CoreDNS".to_owned())?;
            for pod in pods {
                let url = format!("http://{}:8181/ready", pod["status"]["podIP"].as_str().unwrap_or_default());
                docker(&["exec", &node, "curl", "--silent", "--fail", "--max-time", "3", &url])?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The controller manager waits for an API server that is down for longer than upstream's ten seconds, and is not restarted.
pub(super) fn patient_controllers(cluster: &Cluster) -> Result<(), String> {
    let restarts = || {
        cluster.in_node("crictl ps --name kube-controller-manager -o json | jq -r '.containers[0].metadata.attempt'")
    };
    let killed = restarts()?;
    cluster.in_node("mv /etc/kubernetes/manifests/kube-apiserver.yaml /root/")?;
    let without = eventually(EVENTUALLY_TIMEOUT, || {
        let left = cluster.in_node("crictl ps -q --name kube-apiserver")?;
        ensure(left.trim().is_empty(), || "the API server still runs".to_owned())
    });
    let waited = without.and_then(|()| cluster.in_node("pkill -KILL -x kube-controller || true")).and_then(|_| {
        // Its successor runs for longer than it would wait by itself.
        eventually(EVENTUALLY_TIMEOUT, || {
            ensure(restarts()? != killed, || "it was not killed".to_owned())?;
            let age = cluster.in_node(
                "id=$(crictl ps -q --state Running --name kube-controller-manager) && \
                 echo $(( $(date +%s) - $(date +%s -d $(crictl inspect $id | jq -r .status.startedAt)) ))",
            )?;
            let age: u64 = age.trim().parse().map_err(|error| format!("{age}: {error}"))?;
            ensure(age >= 13, || format!("it has run for {age} s"))
        })
    });
    let before = restarts();
    cluster.in_node("mv /root/kube-apiserver.yaml /etc/kubernetes/manifests/")?;
    waited?;
    let began = Instant::now();
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    eventually(EVENTUALLY_TIMEOUT, || {
        cluster.in_node("curl --silent --fail --insecure https://127.0.0.1:10257/healthz").map(drop)
    })?;
    let after = restarts()?;
    println!("        controllers are back {:.1} s after the API server's manifest", began.elapsed().as_secs_f64());
    ensure(before? == after, || "it was restarted".to_owned())?;
    ensure(began.elapsed() < Duration::from_secs(80), || "it took too long".to_owned())
}
