//! Add-ons as users have them: the pages about them, and that nothing stays when they go.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use super::hello;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, json};
use crate::harness::guide::follow;
use crate::harness::run::{contains, docker, ensure, eventually, run};

/// The configuration of `docs/reference/ingress-and-gateway.md` without its add-ons, which are enabled later.
const CONFIG: &str = "apiVersion: coracle.dev/v1alpha1
kind: Cluster
nodes:
  - role: control-plane
    extraPortMappings:
      - {containerPort: 80, hostPort: 8080}
      - {containerPort: 443, hostPort: 8443}
";

/// Builds the add-ons' images, with the caches of the user who runs the test.
pub(super) fn build() -> Result<(), String> {
    let mut command = Command::new(crate::harness::coracle());
    command.args(["build", "addons"]);
    run(command, None, Duration::from_secs(1200))?.ok().map(drop)
}

pub(super) fn create(cluster: &Cluster) -> Result<(), String> {
    build()?;
    hello::build()?;
    cluster.create(CONFIG, &[])?;
    let said = cluster.said.borrow().clone();
    ensure(!said.contains("add-on"), || format!("a cluster without add-ons has some: {said}"))?;
    cluster.write("before", &objects(cluster)?.into_iter().collect::<Vec<_>>().join("\n"))?;
    cluster.coracle(&["load", "docker-image", hello::IMAGE]).map(drop)
}

/// Every object of the cluster by its name, but for those that come and go by themselves.
fn objects(cluster: &Cluster) -> Result<BTreeSet<String>, String> {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "--output=name"])?;
    let passing = ["events", "leases", "metrics", "componentstatuses", "pods", "replicasets", "controllerrevisions"];
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !passing.iter().any(|other| kind.contains(other))).collect();
    let template = "--template={{range .items}}{{.kind}} {{with .metadata.namespace}}{{.}}/{{end}}{{.metadata.name}}{{\"\\n\"}}{{end}}";
    let output = "--output=go-template";
    let listed = cluster.kubectl(&["get", &kinds.join(","), "--all-namespaces", output, template])?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// `docs/reference/add-ons.md`: `kubectl top` shows figures, and the HorizontalPodAutoscaler follows the load both ways.
pub(super) fn page(cluster: &Cluster) -> Result<(), String> {
    follow(cluster, "../reference/add-ons.md")?;
    let gone = cluster.kubectl_output(&["top", "nodes"])?;
    ensure(gone.code != 0, || format!("figures without metrics-server: {}", gone.told()))
}

/// `status` names the add-ons, and which of them does not work.
pub(super) fn status(cluster: &Cluster) -> Result<(), String> {
    contains(&eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"]))?, "\nAdd-on ingress ")?;
    let known = cluster.coracle_json(&["status", "--output=json"])?["addons"].clone();
    let is_there = |name: &str| known.as_array().into_iter().flatten().any(|addon| addon["name"] == name);
    ensure(is_there("ingress") && !is_there("metrics-server"), || format!("the add-ons are {known}"))?;
    let found = cluster.kubectl(&[
        "get",
        "deployments,daemonsets",
        "--all-namespaces",
        "--selector=dev.coracle.addon=ingress",
        "--output=jsonpath={.items[0].metadata.namespace} {.items[0].kind}/{.items[0].metadata.name}",
    ])?;
    let (namespace, workload) = found.trim().split_once(' ').ok_or(format!("no workload of the add-on: {found}"))?;
    let namespace = format!("--namespace={namespace}");
    cluster.kubectl(&["set", "image", workload, &namespace, "*=t-no-such-image:1"])?;
    // Before its controller has seen the change there is nothing to undo.
    let images = "--output=jsonpath={.items[*].spec.containers[*].image}";
    let changed = eventually(EVENTUALLY_TIMEOUT, || {
        contains(&cluster.kubectl(&["get", "pods", &namespace, images])?, "t-no-such")
    });
    let broken = eventually(EVENTUALLY_TIMEOUT, || {
        let said = cluster.coracle_output(&["status"])?;
        ensure(said.code == 1, || said.told())?;
        Ok(said)
    });
    cluster.kubectl(&["rollout", "undo", workload, &namespace])?;
    cluster.kubectl(&["rollout", "status", workload, &namespace, "--timeout=120s"])?;
    changed?;
    let broken = broken?;
    ensure(broken.stdout.lines().any(|line| line.starts_with("Add-on ingress ") && !line.ends_with("works")), || {
        broken.told()
    })?;
    contains(&broken.stderr, "`coracle events`")
}

/// What `addon list` and the labels say, and that enabling twice changes nothing.
pub(super) fn enable_ingress(cluster: &Cluster) -> Result<(), String> {
    cluster.coracle(&["addon", "enable", "ingress"])?;
    let pods = "--selector=app.kubernetes.io/name=traefik";
    let uid =
        || cluster.kubectl(&["get", "pods", "--namespace=ingress", pods, "--output=jsonpath={.items[*].metadata.uid}"]);
    let before = uid()?;
    cluster.coracle(&["addon", "enable", "ingress"])?;
    ensure(uid()? == before, || "enabling again made another pod".to_owned())?;
    let list = cluster.coracle_json(&["addon", "list", "--output=json"])?;
    for addon in list.as_array().into_iter().flatten() {
        let expected = if addon["name"] == "metrics-server" { &serde_json::Value::Null } else { &addon["version"] };
        ensure(addon["enabled"] == *expected, || format!("`addon list` said {addon}"))?;
    }
    // No one could pull it again.
    let images = cluster.coracle_json(&["image", "ls", "--output=json"])?;
    let of_ingress = |image: &&serde_json::Value| image["names"].to_string().contains("coracle/addon-ingress:");
    let image = images.as_array().into_iter().flatten().find(of_ingress);
    ensure(image.is_some_and(|image| image["pinned"] == true), || format!("the add-on's image is not kept: {images}"))?;
    let class = cluster.kubectl_json(&["get", "ingressclass/traefik"])?;
    ensure(class["metadata"]["labels"]["dev.coracle.addon"] == "ingress", || format!("no label: {class}"))?;
    let accepted = "--for=condition=Accepted";
    cluster.kubectl(&["wait", "gatewayclass/traefik", accepted, "--timeout=60s"]).map(drop)?;
    // What the class says that it serves is there.
    let class = cluster.kubectl_json(&["get", "gatewayclass/traefik"])?;
    let features = class["status"]["supportedFeatures"].as_array().into_iter().flatten();
    let kinds: Vec<&str> =
        features.filter_map(|one| one["name"].as_str()).filter(|name| name.ends_with("Route")).collect();
    ensure(kinds.contains(&"TLSRoute"), || format!("kinds of routes: {kinds:?}"))?;
    cluster.kubectl(&["get", &kinds.join(",")])?;
    let unknown = cluster.coracle_output(&["addon", "enable", "dashboard"])?;
    ensure(unknown.code == 3, || unknown.told())?;
    contains(&unknown.stderr, "metrics-server")
}

/// `docs/reference/ingress-and-gateway.md`: hosts, paths, TLS and weights, from this machine.
pub(super) fn ingress_page(cluster: &Cluster) -> Result<(), String> {
    // The share of each backend is exact, whichever pod the first request meets.
    follow(cluster, "../reference/ingress-and-gateway.md")
}

/// Kinds with objects of users are not taken away.
pub(super) fn in_use(cluster: &Cluster) -> Result<(), String> {
    let gateway = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: mine}
spec:
  gatewayClassName: traefik
  listeners: [{name: http, protocol: HTTP, port: 80}]
";
    cluster.apply(gateway)?;
    let needed = cluster.coracle_output(&["addon", "disable", "gateway-api"])?;
    ensure(needed.code == 3, || needed.told())?;
    contains(&needed.stderr, "error[addon-in-use]")?;
    let refused = cluster.coracle_output(&["addon", "disable", "gateway-api", "ingress"])?;
    ensure(refused.code == 3, || refused.told())?;
    contains(&refused.stderr, "Gateway `default/mine`")?;
    // Nothing was removed: the class still is accepted, and Traefik answers.
    cluster.kubectl(&["get", "gatewayclass/traefik"])?;
    let kept = cluster.coracle_output(&["addon", "disable", "ingress"])?;
    ensure(kept.code == 0, || kept.told())?;
    contains(&kept.stderr, "gateway-api stays")?;
    cluster.kubectl(&["get", "gateway/mine"])?;
    cluster.coracle(&["addon", "disable", "gateway-api", "--force"]).map(drop)
}

/// The cluster is as it was before any add-on, and so is the engine.
pub(super) fn nothing_left(cluster: &Cluster) -> Result<(), String> {
    cluster.coracle(&["addon", "disable", "metrics-server", "ingress", "gateway-api", "--force"])?;
    let before = std::fs::read_to_string(cluster.home.join("before")).map_err(|error| error.to_string())?;
    let before: BTreeSet<String> = before.lines().map(str::to_owned).collect();
    eventually(EVENTUALLY_TIMEOUT, || {
        let after = objects(cluster)?;
        let new: Vec<_> = after.difference(&before).collect();
        let gone: Vec<_> = before.difference(&after).collect();
        ensure(new.is_empty() && gone.is_empty(), || format!("new: {new:?}; gone: {gone:?}"))
    })?;
    let labelled = cluster.kubectl(&["get", "all,crd", "--all-namespaces", "--selector=dev.coracle.addon"])?;
    ensure(labelled.is_empty(), || format!("these are left: {labelled}"))?;
    let list = json(&cluster.coracle(&["addon", "list", "--output=json"])?)?;
    let enabled = list.as_array().into_iter().flatten().filter(|addon| !addon["enabled"].is_null()).count();
    ensure(enabled == 0, || format!("`addon list` said {list}"))?;
    let looking = docker(&["ps", "--all", "--quiet", "--filter=name=^coracle-look-"])?;
    ensure(looking.is_empty(), || "a container that was looked into is left".to_owned())
}
