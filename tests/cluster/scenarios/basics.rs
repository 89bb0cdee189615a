//! A cluster of one node, as it is right after `create`.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE};
use crate::run::{contains, ensure, eventually};

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

/// The new context is the current one, and somebody else's entry is still there.
pub(super) fn context(cluster: &Cluster) -> Result<(), String> {
    let current = cluster.kubectl(&["config", "current-context"])?;
    ensure(current.trim() == format!("coracle-{}", cluster.name), || format!("the current context is {current}"))?;
    let text = std::fs::read_to_string(cluster.kubeconfig()).map_err(|error| error.to_string())?;
    contains(&text, "# somebody else's")?;
    contains(&cluster.kubectl(&["config", "get-contexts", "--output=name"])?, "foreign")?;
    let mode = std::fs::metadata(cluster.kubeconfig()).map_err(|error| error.to_string())?.permissions().mode() & 0o777;
    ensure(mode == 0o600, || format!("the kubeconfig has mode {mode:o}"))
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
    eventually(PATIENCE, || {
        let pods = cluster.kubectl_json(&["get", "pods", "--all-namespaces"])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let waiting: Vec<_> = pods.iter().filter(|pod| !is_true(pod, "Ready")).map(name).collect();
        ensure(waiting.is_empty(), || format!("not ready: {}", waiting.join(", ")))?;
        ensure(pods.len() >= least, || {
            format!("only these pods are there: {}", pods.iter().map(name).collect::<Vec<_>>().join(", "))
        })
    })
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
