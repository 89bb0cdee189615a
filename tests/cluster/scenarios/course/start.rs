//! How long a pod takes to run when its image is there.

use std::time::{Duration, Instant};

use crate::harness::cluster::Cluster;
use crate::harness::run::{ensure, eventually, start};

/// Ten pods one after the other, from `kubectl run` to `Running` in a watch.
///
/// The figure is told, not tested: it is one of the machine, and of what else runs on it. The aim is 1.5 s on an idle one.
pub(super) fn time(cluster: &Cluster) -> Result<(), String> {
    let cluster = cluster.in_namespace("start")?;
    let columns = "--output=custom-columns=NAME:.metadata.name,PHASE:.status.phase";
    let watch = start(cluster.kubectl_command(&["get", "pods", "--watch", "--no-headers", columns]), None)?;
    let mut times = Vec::new();
    for index in 0..10 {
        let name = format!("pod-{index}");
        let began = Instant::now();
        cluster.kubectl(&["run", &name, "--image=tools:v1"])?;
        eventually(Duration::from_secs(60), || {
            let runs = |line: &str| line.starts_with(&name) && line.ends_with("Running");
            ensure(watch.said().lines().any(runs), || format!("{name} does not run: {}", watch.said()))
        })?;
        times.push(began.elapsed());
        cluster.kubectl(&["delete", "pod", &name, "--wait=false"])?;
    }
    times.sort();
    let median = (times[4] + times[5]) / 2;
    println!("        pod start: median {median:.2?}, {:.2?} to {:.2?}", times[0], times[9]);
    Ok(())
}
