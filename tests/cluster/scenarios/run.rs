//! `coracle run`: a cluster for one command.

use std::time::Duration;

use crate::Group;
use crate::harness::cluster::Cluster;
use crate::harness::run::{contains, docker, ensure, eventually, start};

/// Each scenario makes clusters of its own.
pub(crate) const RUN: Group = Group {
    name: "run",
    environment: &[],
    create: mistakes,
    together: &[],
    scenarios: &[("command", command), ("terminated", terminated)],
};

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(180);

fn mistakes(cluster: &Cluster) -> Result<(), String> {
    let output = cluster.coracle_output(&["run", "--name", &cluster.name, "--", "there-is-no-such-program"])?;
    ensure(output.code == 2, || output.told())?;
    contains(&output.stderr, "there is no program `there-is-no-such-program`")?;
    let output = cluster.coracle_output(&["run", "--name", &cluster.name, "--apply", "nowhere.yaml", "--", "true"])?;
    ensure(output.code == 2, || output.told())?;
    contains(&output.stderr, "nowhere.yaml")?;
    gone(cluster)
}

/// Nothing of the cluster is left.
fn gone(cluster: &Cluster) -> Result<(), String> {
    let filter = format!("name={}", cluster.name);
    for list in [
        &["ps", "--all", "--quiet", "--filter", &filter][..],
        &["volume", "ls", "--quiet", "--filter", &filter],
        &["network", "ls", "--quiet", "--filter", &filter],
    ] {
        let left = docker(list)?;
        ensure(left.trim().is_empty(), || format!("{list:?}: {left}"))?;
    }
    Ok(())
}

/// What a command gets: a cluster with images and objects, its own kubeconfig and kubectl. What it gives: output, exit code
/// and logs.
fn command(cluster: &Cluster) -> Result<(), String> {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 2\n  \
                      selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    \
                      spec: {containers: [{name: web, image: 'hello-world:latest', imagePullPolicy: Never}]}\n";
    let manifest = cluster.write("web.yaml", deployment)?;
    let logs = cluster.home.join("run-logs");
    let read = || std::fs::read_to_string(cluster.kubeconfig()).map_err(|error| error.to_string());
    let before = read()?;
    let script = "kubectl get deployment web --output=jsonpath='{.status.readyReplicas} {.metadata.name}'; \
                  echo \" of $CORACLE_CLUSTER_NAME in $KUBECONFIG\"; exit 7";
    let output = cluster.coracle_output(&[
        "run",
        "--name",
        &cluster.name,
        "--load=hello-world:latest",
        "--apply",
        &manifest,
        "--logs",
        &logs.display().to_string(),
        "--",
        "sh",
        "-c",
        script,
    ])?;
    ensure(output.code == 7, || output.told())?;
    // Nothing but the command's own output is there.
    ensure(output.stdout.starts_with(&format!("2 web of {} in /", cluster.name)), || output.told())?;
    ensure(output.stdout.lines().count() == 1, || output.told())?;
    let kubeconfig = output.stdout.trim().rsplit(' ').next().unwrap_or_default();
    ensure(!std::path::Path::new(kubeconfig).exists(), || format!("{kubeconfig} is left"))?;
    ensure(read()? == before, || "the user's kubeconfig was written".to_owned())?;
    ensure(logs.join("coracle-version.txt").exists(), || "there are no logs".to_owned())?;
    gone(cluster)
}

/// A runner that gives up on its job: the command ends, and the cluster with it.
fn terminated(cluster: &Cluster) -> Result<(), String> {
    let waits = "trap 'echo ended; exit 0' TERM; echo waiting; while :; do sleep 0.1; done";
    let running = start(cluster.command(&["run", "--name", &cluster.name, "--", "sh", "-c", waits]), None)?;
    eventually(LIMIT, || contains(&running.said(), "waiting"))?;
    running.signal("TERM")?;
    let output = running.finish(LIMIT)?;
    ensure(output.code == 143, || output.told())?;
    contains(&output.stdout, "ended")?;
    gone(cluster)
}
