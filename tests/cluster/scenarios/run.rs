//! `coracle run`: a cluster for one command.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::hello;
use crate::Group;
use crate::harness::cluster::Cluster;
use crate::harness::engine::in_path;
use crate::harness::run::{contains, docker, ensure, eventually, run, start};
use crate::harness::{chance, cleanup, coracle};

/// Each scenario makes clusters of its own.
pub(crate) const RUN: Group = Group {
    name: "run",
    environment: &[],
    create: mistakes,
    together: &[],
    scenarios: &[
        ("command", command),
        ("ci", ci),
        ("at-once", at_once),
        ("action", action),
        ("terminated", terminated),
    ],
};

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(180);

fn mistakes(cluster: &Cluster) -> Result<(), String> {
    hello::build()?;
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

/// What CI systems show of a run that fails.
fn ci(cluster: &Cluster) -> Result<(), String> {
    let [junit, summary] = ["junit.xml", "summary.md"].map(|name| cluster.home.join(name));
    let path = junit.display().to_string();
    let mut command =
        cluster.command(&["run", "--name", &cluster.name, "--junit", &path, "--", "sh", "-c", "echo tested; exit 3"]);
    command.env("CI", "true").env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    let output = run(command, None, LIMIT)?;
    ensure(output.code == 3 && output.stdout == "tested\n", || output.told())?;
    let name = &cluster.name;
    let marks = output.stderr.lines().filter(|line| line.starts_with("::")).collect::<Vec<_>>();
    let failure = "the command ended with exit code 3";
    let title = "Run `sh -c echo tested; exit 3`";
    let wanted = [
        format!("::group::Create cluster `{name}`"),
        "::endgroup::".to_owned(),
        format!("::error title=coracle: {title}::{failure}"),
        format!("::group::Delete cluster `{name}`"),
        "::endgroup::".to_owned(),
    ];
    ensure(marks == wanted, || format!("{marks:?}"))?;
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    let results = read(&junit)?;
    contains(&results, "tests=\"3\" failures=\"1\"")?;
    contains(&results, &format!("<failure message=\"{failure}\">"))?;
    contains(&read(&summary)?, &format!("| {title} | **failed**: {failure} |"))?;
    gone(cluster)
}

/// Several at once, each with a name, ports, subnets and a kubeconfig of its own; many in a long run.
fn at_once(cluster: &Cluster) -> Result<(), String> {
    let prefix = format!("{}at-once-{}", cleanup::PREFIX, std::process::id());
    let script = "kubectl get node --output=jsonpath='{.items[*].metadata.name}'; sleep 3";
    let arguments = ["run", "--generate-name", &prefix, "--", "sh", "-c", script];
    let runs = (0..chance::rounds(3, 8)).map(|_| start(cluster.command(&arguments), None));
    let mut names = Vec::new();
    for running in runs.collect::<Result<Vec<_>, String>>()? {
        names.push(running.finish(2 * LIMIT)?.ok()?);
    }
    let is_own = |name: &&String| name.starts_with(&format!("{prefix}-")) && name.ends_with("-control-plane");
    ensure(names.iter().filter(is_own).count() == names.len(), || format!("{names:?}"))?;
    names.sort_unstable();
    names.dedup();
    ensure(names.len() == chance::rounds(3, 8), || format!("{names:?}"))?;
    let left = docker(&["ps", "--all", "--quiet", "--filter", &format!("name={prefix}")])?;
    ensure(left.trim().is_empty(), || format!("left: {left}"))
}

/// The GitHub action, run as a runner runs it: by Node, with inputs, outputs and state in variables and files.
fn action(cluster: &Cluster) -> Result<(), String> {
    if in_path("node").is_none() {
        println!("        not tried: there is no `node` to run the action");
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let [output, state] = ["output", "state"].map(|name| cluster.home.join(name));
    let call = |script: &str| {
        let directory = Path::new(coracle()).parent().unwrap_or(root);
        let mut command = Command::new("node");
        command
            .arg(root.join("action").join(script))
            .env("HOME", &cluster.home)
            .env("KUBECONFIG", cluster.kubeconfig());
        command.env("PATH", format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default()));
        command.env("GITHUB_OUTPUT", &output).env("GITHUB_STATE", &state);
        command
    };
    let mut main = call("main.js");
    main.env("INPUT_NAME", &cluster.name).env("INPUT_TTL", "1h").env("INPUT_LOAD", "hello-world:latest\n");
    run(main, None, LIMIT)?.ok()?;
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    ensure(read(&output)? == format!("name={0}\ncontext=coracle-{0}\n", cluster.name), || "outputs".to_owned())?;
    cluster.kubectl(&["get", "nodes"])?;
    contains(&cluster.in_node("crictl images")?, "library/hello-world")?;
    let mut post = call("post.js");
    let logs = cluster.home.join("action-logs");
    ensure(read(&state)? == format!("name={}\nlogs=\n", cluster.name), || "state".to_owned())?;
    post.env("STATE_name", &cluster.name).env("STATE_logs", &logs);
    run(post, None, LIMIT)?.ok()?;
    ensure(logs.join("coracle-version.txt").exists(), || "there are no logs".to_owned())?;
    gone(cluster)
}
