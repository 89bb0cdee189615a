//! A slow node, and an API server whose answers are late, cut off or lost: as far as `--wait` allows, everything ends as it
//! should.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::Group;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{docker, ensure, eventually, free_port, run, start};
use crate::harness::unreliable::Detour;

/// One control plane with a third of a core, that is reached through a proxy which delays, cuts and loses.
pub const UNRELIABLE: Group = Group {
    name: "unreliable",
    environment: &[],
    create,
    together: &[],
    scenarios: &[("complete", complete), ("add-on", add_on)],
};

const LIMIT: Duration = Duration::from_secs(660);

/// Every kind of object that the API server fills in or refuses a second time: addresses, ports, names.
const MANIFEST: &str = "apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: pages.shop.example}
spec:
  group: shop.example
  names: {kind: Page, plural: pages}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: shop.example/v1
kind: Page
metadata: {name: first, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: fixed, namespace: shop}
spec: {clusterIP: 10.96.77.77, type: NodePort, ports: [{port: 80, nodePort: 30777}], selector: {app: shop}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {colour: green}
";

fn create(cluster: &Cluster) -> Result<(), String> {
    let port = free_port()?;
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs());
    println!("        the seed of the proxy: {seed}");
    let detour = Detour::to(port, seed)?;
    cluster.write("shop.yaml", MANIFEST)?;
    let config = format!(
        "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnetworking: {{apiServerPort: {port}}}\nmanifests: [shop.yaml]\n"
    );
    let config = cluster.write("cluster.yaml", &config)?;
    let mut command = cluster.command(&["create", "cluster", "--config", &config, "--timings", "--wait=10m"]);
    if let Ok(image) = std::env::var("CORACLE_TEST_IMAGE") {
        command.args(["--image", &image]);
    }
    let running = start(Detour::through(command), None)?;
    eventually(EVENTUALLY_TIMEOUT, || {
        docker(&["update", "--cpu-period=100000", "--cpu-quota=30000", &cluster.node()])
    })?;
    let output = running.finish(LIMIT)?;
    docker(&["update", "--cpu-quota=-1", &cluster.node()])?;
    let tally = &detour.tally;
    let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Relaxed);
    let (cut, lost, delayed) = (count(&tally.cut), count(&tally.lost), count(&tally.delayed));
    println!("        {cut} connections cut, {lost} answers lost, {delayed} delayed");
    cluster.said.replace(format!("{}{}", output.stdout, output.stderr));
    output.ok()?;
    // A create that does not use this way has not been tested.
    ensure(cut + lost >= 5, || format!("the proxy did too little: {cut} cut, {lost} lost"))
}

/// Nothing is missing and nothing is there twice.
fn complete(cluster: &Cluster) -> Result<(), String> {
    cluster.coracle(&["status"])?;
    for object in ["configmap/settings", "page/first", "service/fixed"] {
        cluster.kubectl(&["get", object, "--namespace=shop"])?;
    }
    let dns = cluster.kubectl(&["get", "service/kube-dns", "--namespace=kube-system", "--output=json"])?;
    let dns: Value = serde_json::from_str(&dns).map_err(|error| error.to_string())?;
    ensure(dns["spec"]["clusterIP"] == "10.96.0.10", || format!("the Service of DNS is {dns}"))?;
    let pods = cluster.kubectl(&["get", "pods", "--namespace=kube-system", "--output=name"])?;
    let once = |name: &str| pods.lines().filter(|pod| pod.contains(name)).count() == 1;
    ensure(["coredns", "kube-proxy"].iter().all(|name| once(name)), || format!("these pods are there: {pods}"))
}

/// What is applied later comes through as well.
fn add_on(cluster: &Cluster) -> Result<(), String> {
    super::addons::build()?;
    let server = cluster.kubectl(&["config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"])?;
    let port = server.rsplit(':').next().and_then(|port| port.parse().ok());
    let detour = Detour::to(port.ok_or_else(|| format!("there is no port in {server}"))?, 7)?;
    let command = Detour::through(cluster.command(&["addon", "enable", "metrics-server"]));
    run(command, None, LIMIT)?.ok()?;
    let interfered = detour.tally.cut.load(Ordering::Relaxed) + detour.tally.lost.load(Ordering::Relaxed);
    ensure(interfered > 0, || "the proxy did nothing".to_owned())?;
    cluster.kubectl(&["get", "apiservice/v1beta1.metrics.k8s.io"]).map(drop)
}
