//! `create` that is interrupted, killed, or done twice at once: nothing half-made stays in the way.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::failures::nothing_of;
use crate::cluster::{Cluster, FOREIGN};
use crate::run::{LIMIT, Running, contains, docker, ensure, eventually, start};

/// The steps of `create`, as it prints their beginning.
const STEPS: [&str; 5] = [
    "Preparing the node image",
    "Creating 1 node",
    "Starting the control plane",
    "Installing network, DNS and storage",
    "Waiting until the cluster is usable",
];

/// Nothing is created here: each scenario starts its own `create`.
pub(super) fn prepare(cluster: &Cluster) -> Result<(), String> {
    nothing_of(&cluster.name)
}

fn signal(running: &Running, signal: Signal) -> Result<(), String> {
    let pid = i32::try_from(running.id()).ok().and_then(Pid::from_raw).ok_or("no process ID")?;
    kill_process(pid, signal).map_err(|error| error.to_string())
}

/// Starts `create`, and returns when it has said that a step begins.
fn create_until(cluster: &Cluster, step: &str) -> Result<Running, String> {
    let running = start(cluster.command(&["create", "cluster"]), None)?;
    let began = Instant::now();
    while !running.told().contains(step) {
        ensure(began.elapsed() < LIMIT, || format!("it never began: {}", running.told()))?;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(running)
}

fn kubeconfig_untouched(cluster: &Cluster) -> Result<(), String> {
    let text = std::fs::read_to_string(cluster.kubeconfig()).map_err(|error| error.to_string())?;
    ensure(text == FOREIGN, || format!("the kubeconfig has changed: {text}"))
}

/// Ctrl-C in every step: it ends soon, with the exit code of an interruption, and nothing is left.
pub(super) fn every_step(cluster: &Cluster) -> Result<(), String> {
    for step in STEPS {
        let told = |error: String| format!("interrupted in `{step}`: {error}");
        let running = create_until(cluster, step).map_err(told)?;
        signal(&running, Signal::INT)?;
        let began = Instant::now();
        let output = running.finish(LIMIT).map_err(told)?;
        println!("        `{step}` interrupted: clean after {:.1} s", began.elapsed().as_secs_f64());
        ensure(output.code == 130, || told(output.told()))?;
        contains(&output.stderr, "error[interrupted]").map_err(told)?;
        nothing_of(&cluster.name).map_err(told)?;
        kubeconfig_untouched(cluster).map_err(told)?;
    }
    Ok(())
}

/// kill -9 in the middle: the name is taken, `delete` removes what is there, and the name is free again.
pub(super) fn killed(cluster: &Cluster) -> Result<(), String> {
    let running = create_until(cluster, STEPS[2])?;
    signal(&running, Signal::KILL)?;
    running.finish(LIMIT)?;
    contains(&cluster.coracle(&["get", "clusters", "-o", "name"])?, &cluster.name)?;
    let status = cluster.coracle_output(&["status"])?;
    ensure(status.code == 0 || status.code == 1, || status.told())?;
    cluster.coracle(&["delete", "cluster"])?;
    nothing_of(&cluster.name)?;
    kubeconfig_untouched(cluster)
}

/// Two creates of one name at once: one wins and is whole, the other one is told so.
pub(super) fn twice(cluster: &Cluster) -> Result<(), String> {
    let creates = [(), ()].map(|()| start(cluster.command(&["create", "cluster"]), None));
    let mut codes = Vec::new();
    for running in creates {
        let output = running?.finish(Duration::from_secs(300))?;
        if output.code != 0 {
            contains(&output.stderr, "error[cluster-exists]")?;
        }
        codes.push(output.code);
    }
    codes.sort_unstable();
    ensure(codes == [0, 3], || format!("they ended with {codes:?}"))?;
    cluster.coracle(&["status"])?;
    let filter = format!("--filter=label=dev.coracle.cluster={}", cluster.name);
    for list in ["container", "volume", "network"] {
        let all: &[&str] = if list == "container" { &["--all"] } else { &[] };
        let found = docker(&[&[list, "ls", "--quiet", filter.as_str()][..], all].concat())?;
        ensure(found.lines().count() == 1, || format!("`docker {list} ls` shows {found}"))?;
    }
    eventually(LIMIT, || cluster.kubectl(&["get", "nodes"]))?;
    super::lifecycle::gone(cluster)
}
