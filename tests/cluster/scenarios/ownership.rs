//! What others have in the engine under a name of coracle's stays theirs.

use std::time::Duration;

use crate::harness::cleanup;
use crate::harness::cluster::Cluster;
use crate::harness::run::{docker, ensure, run};

use super::failures::told;

/// A container, a volume and a network that have names of the cluster: refused together, and untouched by all that follows.
pub(super) fn taken_names(cluster: &Cluster) -> Result<(), String> {
    let [container, volume, network] =
        [format!("{}-worker", cluster.name), format!("{}-volumes", cluster.name), format!("coracle-{}", cluster.name)];
    for (kind, name) in [("network", &network), ("volume", &volume), ("container", &container)] {
        cleanup::register_object(kind, name);
    }
    docker(&["network", "create", &network])?;
    docker(&["volume", "create", &volume])?;
    let image = docker(&["images", "--quiet", "coracle/node"])?;
    let image = image.lines().next().ok_or("there is no node image")?;
    let mount = format!("{volume}:/data");
    let options = ["--name", &container, "--network", &network, "--volume", &mount, "--entrypoint", "sh"];
    docker(&[&["run", "--detach"], &options[..], &[image, "-c", "echo mine > /data/mine; exec sleep 1000"]].concat())?;
    let state = || {
        let format = "{{.Id}} {{.State.StartedAt}} {{.State.Running}} {{len .NetworkSettings.Networks}}";
        let network = docker(&["network", "inspect", "--format={{.Id}} {{len .Containers}}", &network])?;
        let files = docker(&["exec", &container, "sh", "-c", "ls -a /data; cat /data/mine"])?;
        Ok::<_, String>(format!("{}{network}{files}", docker(&["inspect", "--format", format, &container])?))
    };
    let before = state()?;
    let output = run(cluster.command(&["create", "cluster", "--workers", "1"]), None, Duration::from_secs(120))?;
    let told_of = |kind: &str, name: &str| format!("{kind} `{name}` exists and does not belong to coracle");
    let parts = [told_of("container", &container), told_of("volume", &volume), told_of("network", &network)];
    told(&output, "cluster-exists", 3, &parts.each_ref().map(String::as_str))?;
    cluster.coracle(&["delete", "cluster"])?;
    let label = format!("label=dev.coracle.cluster={}", cluster.name);
    for list in [&["ps", "--all", "--quiet"][..], &["volume", "ls", "--quiet"], &["network", "ls", "--quiet"]] {
        let made = docker(&[list, &["--filter", &label]].concat())?;
        ensure(made.is_empty(), || format!("`docker {}` shows {made}", list.join(" ")))?;
    }
    ensure(state()? == before, || format!("it was\n{before}and is now\n{}", state().unwrap_or_default()))?;
    docker(&["rm", "--force", &container])?;
    docker(&["volume", "rm", &volume])?;
    docker(&["network", "rm", &network]).map(drop)
}
