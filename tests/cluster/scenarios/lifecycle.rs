//! Restart and delete.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, answers};
use crate::harness::run::{contains, docker, ensure, eventually, run};

/// `docker restart`: the same cluster again, with the same data, at the same addresses.
pub(super) fn restart(cluster: &Cluster) -> Result<(), String> {
    cluster.kubectl(&["create", "configmap", "before-restart", "--from-literal=key=value"])?;
    let (endpoint, address) = (cluster.host_port(6443)?, cluster.address()?);
    let url = cluster.coracle(&["url", "hello-world"]).or_else(|_| {
        super::hello::deploy(cluster)?;
        cluster.coracle(&["url", "hello-world"])
    })?;
    answers(&url, EVENTUALLY_TIMEOUT)?;
    super::workloads::storage(cluster)?;
    let identity = || cluster.kubectl(&["get", "node", "--output=jsonpath={.items[0].metadata.uid}"]);
    let before = identity()?;
    let began = Instant::now();
    let mut command = Command::new("docker");
    command.args(["restart", &cluster.node()]);
    run(command, None, Duration::from_secs(120))?.ok()?;
    let stopped = began.elapsed();
    eventually(EVENTUALLY_TIMEOUT, || cluster.kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"]))?;
    let api = began.elapsed();
    answers(&url, EVENTUALLY_TIMEOUT)?;
    let page = began.elapsed();
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    println!(
        "        restart: container {:.1} s, API {:.1} s, page {:.1} s, all Ready {:.1} s after `docker restart` began",
        stopped.as_secs_f64(),
        api.as_secs_f64(),
        page.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    ensure(identity()? == before, || "the Node object is another one".to_owned())?;
    ensure(cluster.host_port(6443)? == endpoint, || "the API server's port has changed".to_owned())?;
    ensure(cluster.address()? == address, || "the node's address has changed".to_owned())?;
    contains(&cluster.kubectl(&["get", "configmap", "before-restart", "--output=yaml"])?, "key: value")?;
    // Pods that run, not only the state from before: a new one starts and DNS answers.
    let pod = "deployment/hello-world";
    eventually(EVENTUALLY_TIMEOUT, || {
        let script = "import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))";
        contains(&cluster.python(pod, script)?, "10.96.0.1")
    })?;
    // The volume is there again, in the pod that was there before.
    eventually(EVENTUALLY_TIMEOUT, || {
        contains(&cluster.kubectl(&["exec", "keeper", "--", "cat", "/data/file"])?, "kept")
    })?;
    cluster.kubectl(&["rollout", "restart", pod])?;
    cluster.rolled_out("hello-world")?;
    super::basics::running_pods(cluster, 7)
}

/// The first process of the node is killed: the engine brings the cluster back, as it does when the engine restarts.
pub(super) fn crash(cluster: &Cluster) -> Result<(), String> {
    let first = docker(&["inspect", "--format={{.State.Pid}} {{.State.StartedAt}}", &cluster.node()])?;
    let pid = first.split(' ').next().and_then(|pid| Pid::from_raw(pid.parse().ok()?)).ok_or(first.clone())?;
    if kill_process(pid, Signal::KILL).is_err() {
        println!("        skipped: only root may kill it");
        return Ok(());
    }
    eventually(EVENTUALLY_TIMEOUT, || {
        let now = docker(&["inspect", "--format={{.State.Pid}} {{.State.StartedAt}}", &cluster.node()])?;
        ensure(now != first && !now.starts_with("0 "), || "the node does not come back".to_owned())
    })?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    answers(&cluster.coracle(&["url", "hello-world", "--wait=90s"])?, EVENTUALLY_TIMEOUT).map(drop)
}

/// `delete cluster` takes what is the cluster's, and nothing else.
pub(super) fn delete(cluster: &Cluster) -> Result<(), String> {
    let foreign = format!("{}foreign-{}", cleanup::PREFIX, std::process::id());
    let image = docker(&["inspect", "--format={{.Image}}", &cluster.node()])?;
    cleanup::register_object("network", &foreign);
    docker(&["network", "create", &foreign])?;
    cleanup::register_object("volume", &foreign);
    docker(&["volume", "create", &foreign])?;
    cleanup::register_object("container", &foreign);
    let volume = format!("{foreign}:/foreign");
    let options = ["--name", &foreign, "--network", &foreign, "--volume", &volume, "--entrypoint", "sleep"];
    docker(&[&["run", "--detach"], &options[..], &[image.trim(), "1000"]].concat())?;
    docker(&["network", "connect", &format!("coracle-{}", cluster.name), &foreign])?;

    gone(cluster)?;
    let networks = "--format={{.State.Running}}{{range $name, $_ := .NetworkSettings.Networks}} {{$name}}{{end}}";
    let state = docker(&["inspect", networks, &foreign])?;
    ensure(state.trim() == format!("true {foreign}"), || format!("the foreign container is now: {state}"))?;
    for (kind, list) in [
        ("container", &["ps", "--all", "--format={{.Names}}"][..]),
        ("volume", &["volume", "ls", "--format={{.Name}}"]),
        ("network", &["network", "ls", "--format={{.Name}}"]),
    ] {
        ensure(docker(list)?.lines().any(|line| line == foreign), || format!("the foreign {kind} is gone"))?;
    }
    let again = cluster.coracle_output(&["delete", "cluster"])?;
    ensure(again.code == 0, || again.told())?;
    contains(&again.stderr, "There is no cluster")
}

/// Deletes the cluster; nothing of it is left, and someone else's kubeconfig entries are.
pub(super) fn gone(cluster: &Cluster) -> Result<(), String> {
    let began = Instant::now();
    cluster.coracle(&["delete", "cluster"])?;
    println!("        delete: {:.1} s", began.elapsed().as_secs_f64());
    let filter = format!("--filter=label=dev.coracle.cluster={}", cluster.name);
    for list in [&["ps", "--all", "--quiet"][..], &["volume", "ls", "--quiet"], &["network", "ls", "--quiet"]] {
        let left = docker(&[list, &[filter.as_str()]].concat())?;
        ensure(left.trim().is_empty(), || format!("`docker {}` still shows {left}", list.join(" ")))?;
    }
    for list in [&["ps", "--all", "--format={{.Names}}"][..], &["volume", "ls"], &["network", "ls"]] {
        let all = docker(list)?;
        ensure(!all.contains(&cluster.name), || format!("`docker {}` still shows {}", list.join(" "), cluster.name))?;
    }
    let text = std::fs::read_to_string(cluster.kubeconfig()).map_err(|error| error.to_string())?;
    ensure(!text.contains(&cluster.name), || format!("the kubeconfig still has the cluster: {text}"))?;
    contains(&text, "foreign.example")?;
    contains(&text, "# somebody else's")?;
    contains(&cluster.kubectl(&["config", "view", "--raw"])?, "token: abc")
}
