//! Volumes, and what a configuration puts into a cluster.

use std::time::Duration;

use super::hello;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, fetch};
use crate::harness::guide::follow;
use crate::harness::run::{contains, docker, ensure, eventually};

const THREE: &str = "apiVersion: coracle.dev/v1alpha1
kind: Cluster
nodes: [{role: control-plane}, {role: worker}, {role: worker}]
images: [hello-world:latest]
";

pub(super) fn create(cluster: &Cluster) -> Result<(), String> {
    hello::build()?;
    cluster.create(THREE, &[])
}

/// `docs/reference/storage.md`.
pub(super) fn page(cluster: &Cluster) -> Result<(), String> {
    follow(cluster, "../reference/storage.md")
}

/// A claim of a class, and a pod on a node that uses it.
fn claim(name: &str, class: &str, node: &str) -> String {
    let class = if class.is_empty() { String::new() } else { format!("  storageClassName: {class}\n") };
    format!(
        "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec:
{class}  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 8Mi}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  terminationGracePeriodSeconds: 0
  containers:
    - name: app
      image: hello-world:latest
      imagePullPolicy: IfNotPresent
      command: [sleep, 1d]
      volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: {name}}}}}]
"
    )
}

fn keep(cluster: &Cluster, name: &str, class: &str, node: &str) -> Result<(), String> {
    cluster.apply(&claim(name, class, node))?;
    cluster.kubectl(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=100s"]).map(drop)
}

fn write(cluster: &Cluster, name: &str) -> Result<(), String> {
    cluster.kubectl(&["exec", name, "--", "sh", "-c", "echo kept >/data/file"]).map(drop)
}

fn reads(cluster: &Cluster, name: &str) -> Result<(), String> {
    contains(&cluster.kubectl(&["exec", name, "--", "cat", "/data/file"])?, "kept")
}

fn worker(cluster: &Cluster, number: &str) -> String {
    format!("{}-worker{number}", cluster.name)
}

/// With `Delete` the data goes with the claim, with `Retain` it stays.
pub(super) fn reclaim(cluster: &Cluster) -> Result<(), String> {
    cluster.kubectl(&["apply", "--filename", &cluster.home.join("guide/retained.yaml").display().to_string()])?;
    let volumes = || docker(&["exec", &worker(cluster, ""), "ls", "/var/local-path-provisioner"]);
    for (name, class) in [("going", ""), ("staying", "retained")] {
        keep(cluster, name, class, &worker(cluster, ""))?;
        write(cluster, name)?;
        contains(&volumes()?, &format!("default_{name}"))?;
        cluster.kubectl(&["delete", "pod", name, "--timeout=60s"])?;
        cluster.kubectl(&["delete", "pvc", name, "--timeout=60s"])?;
    }
    let phase = "--output=jsonpath={.items[*].status.phase}";
    eventually(EVENTUALLY_TIMEOUT, || {
        let phases = cluster.kubectl(&["get", "pv", phase])?;
        ensure(phases == "Released", || format!("the volumes are: {phases}"))
    })?;
    let left = volumes()?;
    contains(&left, "default_staying")?;
    ensure(!left.contains("default_going"), || format!("the data stayed: {left}"))
}

/// The pod moves to another node and finds its volume there.
pub(super) fn other_node(cluster: &Cluster) -> Result<(), String> {
    keep(cluster, "moving", "", &worker(cluster, ""))?;
    write(cluster, "moving")?;
    cluster.kubectl(&["delete", "pod", "moving", "--timeout=60s"])?;
    keep(cluster, "moving", "", &worker(cluster, "2"))?;
    reads(cluster, "moving")
}

/// The node's container restarts, the pod runs again, and the data is there.
pub(super) fn node_restart(cluster: &Cluster) -> Result<(), String> {
    docker(&["restart", &worker(cluster, "2")])?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    eventually(EVENTUALLY_TIMEOUT, || reads(cluster, "moving"))
}

const SITE: &str = "apiVersion: v1
kind: Namespace
metadata: {name: site}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: pages.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Page, plural: pages, singular: page}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: example.org/v1
kind: Page
metadata: {name: first, namespace: site}
spec: {title: hello}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: site, namespace: site}
spec:
  selector: {matchLabels: {app: site}}
  template:
    metadata: {labels: {app: site}}
    spec:
      containers:
        - name: app
          image: hello-world:latest
          imagePullPolicy: Never
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
";

const JOB: &str = "apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: app, image: hello-world:latest, imagePullPolicy: Never, command: [sleep, '2']}]
";

const CONTENTS: &str = "apiVersion: coracle.dev/v1alpha1
kind: Cluster
networking: {loadBalancer: false}
persist: ./volumes
images: [hello-world:latest]
addons: [metrics-server]
manifests: [site, once.yaml]
";

pub(super) fn create_with_contents(cluster: &Cluster) -> Result<(), String> {
    super::addons::build()?;
    hello::build()?;
    std::fs::create_dir_all(cluster.home.join("site")).map_err(|error| error.to_string())?;
    cluster.write("site/site.yaml", SITE)?;
    cluster.write("once.yaml", JOB)?;
    cluster.create(CONTENTS, &["--timings"])?;
    for line in cluster.said.borrow().lines().filter(|line| line.contains("add-on") || line.contains("anifests")) {
        println!("        {}", line.trim());
    }
    Ok(())
}

/// When `create` returns, everything that was asked for works.
pub(super) fn there_at_once(cluster: &Cluster) -> Result<(), String> {
    let available = "--output=jsonpath={.status.availableReplicas}";
    let site = cluster.kubectl(&["get", "deployment/site", "--namespace=site", available])?;
    ensure(site == "1", || format!("{site} replicas of the Deployment are available"))?;
    let job = cluster.kubectl(&["get", "job/once", "--output=jsonpath={.status.succeeded}"])?;
    ensure(job == "1", || format!("{job} pods of the Job succeeded"))?;
    cluster.kubectl(&["get", "page/first", "--namespace=site"])?;
    contains(&cluster.kubectl(&["top", "nodes"])?, &cluster.node())
}

/// Addresses of services are left to someone else where coracle's are switched off.
pub(super) fn no_balancer(cluster: &Cluster) -> Result<(), String> {
    let service = ["create", "service", "loadbalancer", "site", "--tcp=80:8080", "--namespace=site"];
    cluster.kubectl(&service)?;
    // Its NodePort answers at once: everything that watches Services has seen it.
    let url = cluster.coracle(&["url", "site", "--namespace=site", "--wait=60s"])?;
    fetch(url.trim())?;
    let ingress = "--output=jsonpath={.status.loadBalancer.ingress[*].ip}";
    let get = ["get", "service/site", "--namespace=site", ingress];
    ensure(cluster.kubectl(&get)?.is_empty(), || "it has an address".to_owned())?;
    let status = r#"{"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}"#;
    cluster.kubectl(&["patch", "service/site", "--namespace=site", "--subresource=status", "--patch", status])?;
    // coracle's agent would take this address away within a moment: it is not one of the cluster's.
    std::thread::sleep(Duration::from_secs(2));
    ensure(cluster.kubectl(&get)? == "192.0.2.7", || "somebody else's address did not stay".to_owned())?;
    let events = ["get", "events", "--namespace=site", "--field-selector=involvedObject.kind=Service", "--output=name"];
    let events = cluster.kubectl(&events)?;
    ensure(events.is_empty(), || format!("there are {events}"))?;
    cluster.kubectl(&["delete", "service/site", "--namespace=site"]).map(drop)
}

/// Everything that is wrong with manifests and images is told before anything is made.
pub(super) fn problems(cluster: &Cluster) -> Result<(), String> {
    cluster.write("broken.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nkind: [\n")?;
    let config = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nname: t-accept-wrong\n\
        images: [t-accept-no-such-image:v1]\nmanifests: [broken.yaml, missing.yaml]\n";
    let path = cluster.write("wrong.yaml", config)?;
    let output = cluster.coracle_output(&["create", "cluster", "--config", &path, "--name=t-accept-wrong"])?;
    ensure(output.code == 2, || output.told())?;
    for part in ["broken.yaml:", "missing.yaml: No such file", "t-accept-no-such-image:v1"] {
        contains(&output.stderr, part)?;
    }
    let nodes = docker(&["ps", "--all", "--quiet", "--filter=label=dev.coracle.cluster=t-accept-wrong"])?;
    ensure(nodes.is_empty(), || "nodes of a wrong configuration are there".to_owned())
}

/// The claim of the same name in the next cluster has the data of the last one.
pub(super) fn persist(cluster: &Cluster) -> Result<(), String> {
    keep(cluster, "notes", "", &cluster.node())?;
    write(cluster, "notes")?;
    let file = cluster.home.join("volumes/default/notes/file");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    contains(&text, "kept")?;
    let second = format!("{}-second", cluster.name);
    cleanup::register(&second, &cluster.home.join("second"));
    let path = cluster.write("second.yaml", "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\npersist: ./volumes\n")?;
    let other = cluster.coracle_output(&["create", "cluster", "--config", &path, "--name", &second])?;
    ensure(other.code == 3, || other.told())?;
    contains(&other.stderr, "volumes")?;

    cluster.coracle(&["delete", "cluster"])?;
    ensure(file.is_file(), || "the data went with the cluster".to_owned())?;
    let config = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\npersist: ./volumes\nimages: [hello-world:latest]\n";
    cluster.create(config, &[])?;
    keep(cluster, "notes", "", &cluster.node())?;
    reads(cluster, "notes")?;
    cluster.kubectl(&["delete", "pod/notes", "pvc/notes", "--timeout=60s"])?;
    eventually(Duration::from_secs(60), || ensure(!file.exists(), || "the data outlives its claim".to_owned()))
}
