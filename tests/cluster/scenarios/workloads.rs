//! What a tutorial does with plain kubectl, with the image of the sample.

use super::hello::IMAGE;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, answers};
use crate::harness::run::{contains, ensure, eventually};

/// `create deployment`, `scale`, `expose`.
pub(super) fn deployment(cluster: &Cluster) -> Result<(), String> {
    super::hello::build()?;
    cluster.coracle(&["load", "docker-image", IMAGE])?;
    // As a tutorial says it, but for the pull policy: `latest` would ask a registry.
    let image = format!("--image={IMAGE}");
    let manifest = cluster
        .kubectl(&["create", "deployment", "web", &image, "--port=8080", "--dry-run=client", "--output=yaml"])?
        .replace("resources: {}", "imagePullPolicy: IfNotPresent");
    cluster.apply(&manifest)?;
    cluster.rolled_out("web")?;
    cluster.kubectl(&["scale", "deployment/web", "--replicas=3"])?;
    cluster.rolled_out("web")?;
    let ready = cluster.kubectl(&["get", "deployment/web", "--output=jsonpath={.status.readyReplicas}"])?;
    ensure(ready == "3", || format!("{ready} of 3 replicas are ready"))?;
    cluster.kubectl(&["expose", "deployment/web", "--type=NodePort", "--port=80", "--target-port=8080"])?;
    let url = cluster.coracle(&["url", "web"])?;
    answers(&url, EVENTUALLY_TIMEOUT).map(drop)
}

/// A new revision arrives, a broken one does not, and `undo` brings the old one back.
pub(super) fn rollout(cluster: &Cluster) -> Result<(), String> {
    cluster.kubectl(&["set", "env", "deployment/web", "POD_NAME=second"])?;
    cluster.rolled_out("web")?;
    let url = cluster.coracle(&["url", "web"])?;
    eventually(EVENTUALLY_TIMEOUT, || contains(&answers(&url, EVENTUALLY_TIMEOUT)?, "second"))?;
    contains(&cluster.kubectl(&["rollout", "history", "deployment/web"])?, "2")?;
    let container =
        cluster.kubectl(&["get", "deployment/web", "--output=jsonpath={.spec.template.spec.containers[0].name}"])?;
    cluster.kubectl(&["set", "image", "deployment/web", &format!("{container}=t-accept-no-such-image:v1")])?;
    let stuck = cluster.kubectl_output(&["rollout", "status", "deployment/web", "--timeout=3s"])?;
    ensure(stuck.code != 0, || "a rollout without an image succeeded".to_owned())?;
    contains(&answers(&url, EVENTUALLY_TIMEOUT)?, "second")?;
    cluster.kubectl(&["rollout", "undo", "deployment/web"])?;
    cluster.rolled_out("web")?;
    cluster.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=1"])?;
    cluster.rolled_out("web")?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let page = answers(&url, EVENTUALLY_TIMEOUT)?;
        ensure(!page.contains("second"), || format!("the old page is not back: {page}"))
    })
}

/// `logs`, `exec` and `port-forward`.
pub(super) fn logs_exec_forward(cluster: &Cluster) -> Result<(), String> {
    contains(&cluster.kubectl(&["logs", "deployment/web"])?, "Running on")?;
    contains(&cluster.kubectl(&["exec", "deployment/web", "--", "cat", "/app/app.py"])?, "Hello, world!")?;
    let code = cluster.kubectl_output(&["exec", "deployment/web", "--", "sh", "-c", "exit 7"])?.code;
    ensure(code == 7, || format!("`kubectl exec` ended with {code} instead of 7"))?;
    contains(&cluster.port_forward("service/web", 80, "/")?, "Hello, world!")?;
    contains(&cluster.port_forward("deployment/web", 8080, "/healthz")?, "ok")
}

/// A pod that is deleted is replaced by another one.
pub(super) fn pod_comes_back(cluster: &Cluster) -> Result<(), String> {
    let names = || -> Result<Vec<String>, String> {
        let names = cluster.kubectl(&[
            "get",
            "pods",
            "--selector=app=web",
            "--field-selector=status.phase=Running",
            "--output=name",
        ])?;
        Ok(names.lines().map(str::to_owned).collect())
    };
    let before = eventually(EVENTUALLY_TIMEOUT, || names().and_then(|all| three(&all)))?;
    cluster.kubectl(&["delete", &before[0], "--timeout=60s"])?;
    cluster.rolled_out("web")?;
    let after = eventually(EVENTUALLY_TIMEOUT, || names().and_then(|all| three(&all)))?;
    ensure(!after.contains(&before[0]), || format!("{} is still there", before[0]))
}

fn three(pods: &[String]) -> Result<Vec<String>, String> {
    ensure(pods.len() == 3, || format!("these pods run: {}", pods.join(", ")))?;
    Ok(pods.to_vec())
}

/// A claim of the default StorageClass, and a pod that uses it.
const STORAGE: &str = "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 8Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: keeper
      image: hello-world:latest
      imagePullPolicy: IfNotPresent
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";

/// A claim is bound without naming a class, and its data survives the pod.
pub(super) fn storage(cluster: &Cluster) -> Result<(), String> {
    cluster.apply(STORAGE)?;
    cluster.kubectl(&["wait", "pod/keeper", "--for=condition=Ready", "--timeout=100s"])?;
    cluster.kubectl(&["wait", "pvc/data", "--for=jsonpath={.status.phase}=Bound", "--timeout=60s"])?;
    cluster.kubectl(&["exec", "keeper", "--", "sh", "-c", "echo kept >/data/file"])?;
    cluster.kubectl(&["delete", "pod/keeper", "--timeout=60s"])?;
    cluster.apply(STORAGE)?;
    cluster.kubectl(&["wait", "pod/keeper", "--for=condition=Ready", "--timeout=100s"])?;
    contains(&cluster.kubectl(&["exec", "keeper", "--", "cat", "/data/file"])?, "kept")
}
