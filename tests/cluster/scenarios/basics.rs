//! A cluster of one node, as it is right after `create`.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, KUBECONFIG_MODE};
use crate::harness::run::{contains, ensure, eventually};

/// NodePort 30080 leads to a host port that coracle chooses.
const CONFIG: &str = "apiVersion: coracle.dev/v1alpha1
kind: Cluster
nodes:
  - role: control-plane
    extraPortMappings:
      - containerPort: 30080
        hostPort: 0
";

pub(super) fn create(cluster: &Cluster) -> Result<(), String> {
    cluster.create(CONFIG, &["--timings"])?;
    let said = cluster.said.borrow();
    for line in said.lines().filter(|line| line.contains("s  ") && !line.starts_with(['•', '✓'])) {
        println!("        {line}");
    }
    contains(&said, &format!("coracle-{}", cluster.name))
}

/// The new context is the current one, and someone else's entry is still there.
pub(super) fn context(cluster: &Cluster) -> Result<(), String> {
    let current = cluster.kubectl(&["config", "current-context"])?;
    ensure(current.trim() == format!("coracle-{}", cluster.name), || format!("the current context is {current}"))?;
    let text = std::fs::read_to_string(cluster.kubeconfig()).map_err(|error| error.to_string())?;
    contains(&text, "# somebody else's")?;
    contains(&cluster.kubectl(&["config", "get-contexts", "--output=name"])?, "foreign")?;
    let mode = std::fs::metadata(cluster.kubeconfig()).map_err(|error| error.to_string())?.permissions().mode() & 0o777;
    ensure(mode == KUBECONFIG_MODE, || format!("the kubeconfig has mode {mode:o}"))
}

/// What `create` waited for holds at once; the mirror pods of the components follow.
pub(super) fn pods_and_node(cluster: &Cluster) -> Result<(), String> {
    let nodes = cluster.kubectl_json(&["get", "nodes"])?;
    ensure(nodes["items"].as_array().is_some_and(|items| items.len() == 1 && is_true(&items[0], "Ready")), || {
        format!("the node is not Ready: {}", nodes["items"][0]["status"]["conditions"])
    })?;
    let dns = cluster.kubectl_json(&["get", "deployment", "coredns", "--namespace=kube-system"])?;
    ensure(is_true(&dns, "Available"), || format!("CoreDNS is not available: {}", dns["status"]))?;
    cluster.kubectl(&["get", "serviceaccount", "default"])?;
    running_pods(cluster, 7)
}

/// Waits until there are at least this many pods, all of them running and ready.
pub(super) fn running_pods(cluster: &Cluster, least: usize) -> Result<(), String> {
    eventually(EVENTUALLY_TIMEOUT, || {
        let pods = cluster.kubectl_json(&["get", "pods", "--all-namespaces"])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let waiting: Vec<_> = pods.iter().filter(|pod| !is_true(pod, "Ready")).map(name).collect();
        ensure(waiting.is_empty(), || format!("not ready: {}", waiting.join(", ")))?;
        ensure(pods.len() >= least, || {
            format!("only these pods are there: {}", pods.iter().map(name).collect::<Vec<_>>().join(", "))
        })
    })
}

/// The controllers took over the pods that `create` started for CoreDNS: one `ReplicaSet`, no restart, and a roll-out works.
pub(super) fn head_start(cluster: &Cluster) -> Result<(), String> {
    let list = |kind| cluster.kubectl_json(&["get", kind, "--namespace=kube-system", "--selector=k8s-app=kube-dns"]);
    let (sets, pods) = (list("replicasets")?, list("pods")?);
    let set = &sets["items"][0];
    ensure(sets["items"].as_array().is_some_and(|sets| sets.len() == 1), || format!("ReplicaSets: {sets}"))?;
    ensure(set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1", || format!("{set}"))?;
    for pod in pods["items"].as_array().into_iter().flatten() {
        let status = &pod["status"]["containerStatuses"][0];
        ensure(status["restartCount"] == 0, || format!("{} restarted: {status}", name(pod)))?;
        ensure(pod["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"], || {
            format!("{} is alone", name(pod))
        })?;
        was_early(cluster, pod)?;
    }
    cluster.kubectl(&["rollout", "restart", "--namespace=kube-system", "deployment/coredns"])?;
    cluster.kubectl(&["rollout", "status", "--namespace=kube-system", "deployment/coredns", "--timeout=60s"])?;
    let history = cluster.kubectl(&["rollout", "history", "--namespace=kube-system", "deployment/coredns"])?;
    ensure(history.lines().filter(|line| line.starts_with(['1', '2'])).count() == 2, || history.clone())
}

/// A pod of `kube-system` had its node before the scheduler, which leaves an event for each pod that it places.
pub(super) fn was_early(cluster: &Cluster, pod: &Value) -> Result<(), String> {
    let field = format!("involvedObject.name={},reason=Scheduled", name(pod));
    let events = cluster.kubectl_json(&["get", "events", "--namespace=kube-system", "--field-selector", &field])?;
    ensure(events["items"].as_array().is_some_and(Vec::is_empty), || format!("{} was late", name(pod)))
}

/// The name of an object.
pub(super) fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Whether a condition of an object is true.
pub(super) fn is_true(object: &Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|one| one["type"] == condition && one["status"] == "True")
}

/// kubeadm in the node takes it for its own cluster.
pub(super) fn kubeadm(cluster: &Cluster) -> Result<(), String> {
    let join = cluster.in_node("kubeadm token create --print-join-command")?;
    let endpoint = format!("kubeadm join {}:6443 --token ", cluster.address()?);
    contains(&join, &endpoint)?;
    contains(&join, "--discovery-token-ca-cert-hash sha256:")?;
    let certificates = cluster.in_node("kubeadm certs check-expiration")?;
    contains(&certificates, "apiserver-kubelet-client")?;
    ensure(!certificates.contains("MISSING"), || certificates.clone())
}
