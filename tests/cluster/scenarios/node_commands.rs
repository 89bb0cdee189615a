//! Nodes that come and go while the cluster runs.

use std::time::Instant;

use serde_json::Value;

use super::{by_hand, guarded, links, nodes, power};
use crate::Group;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, json};
use crate::harness::guide::follow_page;
use crate::harness::run::{contains, docker, docker_output, ensure, eventually};
use crate::scenarios::failures::told;

/// One control plane and two workers.
pub(super) const THREE: Group = Group {
    name: "three",
    environment: &[],
    create: nodes::create_three,
    together: &[],
    scenarios: &[
        ("ready", nodes::three_ready),
        ("hello", nodes::spread_hello),
        ("pod-address", nodes::pod_address),
        ("service-address", nodes::service_address),
        ("dns-name", nodes::dns_name),
        ("outside-name", nodes::outside_name),
        ("node-ports", nodes::node_ports),
        ("masquerading", nodes::masquerading),
        ("linked-layers", links::linked),
        ("restart-worker", nodes::restart_worker),
        ("stop-node", power::node),
        ("changed-container", by_hand::changed_container),
        ("deleted-nodes", guarded::deleted_nodes),
        ("node-add", add),
        ("node-remove", remove),
        ("node-page", page),
        ("delete", nodes::delete),
    ],
};

/// A pod of the sample on the new node, and what may not be disturbed by it.
const PINNED: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: batch}
spec:
  replicas: 1
  selector: {matchLabels: {app: batch}}
  template:
    metadata: {labels: {app: batch}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - {weight: 100, preference: {matchExpressions: [{key: tier, operator: In, values: [batch]}]}}
      tolerations: [{key: batch, operator: Exists}]
      containers:
        - {name: batch, image: 'hello-world:latest', imagePullPolicy: Never, readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: batch}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: batch}}
";

fn added(cluster: &Cluster) -> String {
    format!("{}-worker3", cluster.name)
}

fn configuration(cluster: &Cluster) -> Result<String, String> {
    cluster.coracle(&["get", "config"])
}

/// When the containers of the nodes were started, and how often their pods were.
fn undisturbed(cluster: &Cluster) -> Result<String, String> {
    let names = ["control-plane", "worker", "worker2"].map(|node| format!("{}-{node}", cluster.name));
    let mut words = vec!["inspect", "--format", "{{.State.StartedAt}}"];
    words.extend(names.iter().map(String::as_str));
    let format =
        "--output=jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let pods = cluster.kubectl(&["get", "pods", "--selector=app=hello", format])?;
    Ok(docker(&words)? + &pods)
}

/// A worker is added: it is usable when the command ends, and has its label, its taint and the loaded image; no one else
/// notices; the cluster's configuration has it.
fn add(cluster: &Cluster) -> Result<(), String> {
    let before = undisturbed(cluster)?;
    let node = added(cluster);
    let began = Instant::now();
    let said = cluster.coracle(&["node", "add", "--label=tier=batch", "--taint=batch=yes:NoSchedule", "-o", "json"])?;
    println!("        node add: {:.1} s", began.elapsed().as_secs_f64());
    let result = json(said.lines().last().unwrap_or_default())?;
    ensure(result["nodes"][0]["name"] == *node, || format!("added {result}"))?;
    contains(&result["images"]["loaded"].to_string(), "hello-world")?;
    let object = cluster.kubectl_json(&["get", "node", &node])?;
    let ready = object["status"]["conditions"].as_array().into_iter().flatten();
    let is_ready = ready.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
    ensure(is_ready && object["metadata"]["labels"]["tier"] == "batch", || format!("{node} is {object}"))?;
    ensure(object["spec"]["taints"][0]["key"] == "batch", || format!("taints: {}", object["spec"]["taints"]))?;
    ensure(undisturbed(cluster)? == before, || "other nodes or pods were restarted".to_owned())?;
    let config = configuration(cluster)?;
    contains(&config, "tier: batch")?;
    cluster.coracle(&["config", "validate", &cluster.write("now.yaml", &config)?])?;
    cluster.apply(PINNED)?;
    cluster.rolled_out("batch")?;
    let pods = cluster.kubectl_json(&["get", "pods", "--selector=app=batch"])?;
    ensure(pods["items"][0]["spec"]["nodeName"] == *node, || "its pod is on another node".to_owned())?;
    let listed = cluster.coracle_json(&["node", "list", "-o", "json"])?;
    let listed = listed.as_array().and_then(|nodes| nodes.iter().find(|one| one["name"] == *node)).cloned();
    ensure(listed.as_ref().is_some_and(|one| one["ready"] == true), || format!("node list: {listed:?}"))?;
    nodes::pod_address(cluster)?;
    deleted(cluster)
}

/// `docs/reference/nodes.md`.
fn page(cluster: &Cluster) -> Result<(), String> {
    follow_page(cluster, "docs/reference/nodes.md", &[("course", &cluster.name)])
}

/// The Node object of an added node comes back as it was, too.
fn deleted(cluster: &Cluster) -> Result<(), String> {
    let node = added(cluster);
    let look = || {
        let object = cluster.kubectl_json(&["get", "node", &node])?;
        Ok::<_, String>((object["metadata"]["labels"]["tier"].clone(), object["spec"]["podCIDRs"].clone()))
    };
    let before = look()?;
    cluster.kubectl(&["delete", "node", &node])?;
    docker(&["exec", &node, "systemctl", "restart", "kubelet"])?;
    eventually(EVENTUALLY_TIMEOUT, || ensure(look()? == before, || format!("{node} was {before:?}")))?;
    cluster.ready(EVENTUALLY_TIMEOUT)
}

/// A budget keeps the node, and is named; without it the node's pods go elsewhere, and nothing of the node is left.
fn remove(cluster: &Cluster) -> Result<(), String> {
    let node = added(cluster);
    cluster.rolled_out("batch")?;
    let refused = cluster.coracle_output(&["node", "remove", &node, "--timeout", "3s"])?;
    ensure(refused.code == 3, || format!("code {}: {}", refused.code, refused.stderr))?;
    contains(&refused.stderr, "the PodDisruptionBudget `batch` forbids it (healthy pods: 1, needed: 1)")?;
    let object = cluster.kubectl_json(&["get", "node", &node])?;
    ensure(object["spec"]["unschedulable"] == Value::Null, || "it takes no pods any more".to_owned())?;
    cluster.kubectl(&["delete", "pdb", "batch"])?;
    let began = Instant::now();
    let said = cluster.coracle(&["node", "remove", &node, "-o", "json"])?;
    println!("        node remove: {:.1} s", began.elapsed().as_secs_f64());
    let result = json(said.lines().last().unwrap_or_default())?;
    ensure(result["evictedPods"] == 1, || format!("{result}"))?;
    let gone = cluster.kubectl_output(&["get", "node", &node])?;
    contains(&gone.stderr, "not found")?;
    for kind in ["container", "volume"] {
        let name = if kind == "volume" { format!("{node}-var") } else { node.clone() };
        ensure(docker_output(&[kind, "inspect", &name])?.code != 0, || format!("the {kind} {name} is left"))?;
    }
    ensure(!configuration(cluster)?.contains("tier: batch"), || "the configuration still has it".to_owned())?;
    cluster.rolled_out("batch")?;
    cluster.kubectl(&["delete", "deployment", "batch"])?;
    let again = cluster.coracle_output(&["node", "remove", &node])?;
    ensure(again.code == 3, || format!("removed twice: {}", again.code))?;
    let plane = cluster.coracle_output(&["node", "remove", &cluster.node(), "--force"])?;
    told(&plane, "node-in-use", 3, &[])?;
    cluster.ready(EVENTUALLY_TIMEOUT)
}
