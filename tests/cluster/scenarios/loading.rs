//! Loads that are interrupted, and two at once: a node's store is as before, or has all of the image.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{LIMIT, docker, ensure, eventually, start};

/// Size of the layer that makes a load last, bytes.
const SIZE: usize = 150 << 20;
/// All that a load may change in a node: names, blobs, snapshots, leases and what is being unpacked.
pub(crate) const STORE: &str = "for kind in images content; do ctr --namespace k8s.io $kind ls --quiet | sort; done
ctr --namespace k8s.io snapshots ls | awk 'NR > 1 { print $1 }' | sort
ctr --namespace k8s.io leases ls --quiet
find /var/lib/containerd/dev.coracle.staging -mindepth 1 2>/dev/null || true";

/// Makes an image of random bytes, the second layer its name.
fn image(cluster: &Cluster, tag: &str, layer: &[u8]) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let image = format!("{}{tag}:{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("image", &image);
    let directory = cluster.home.join(tag);
    std::fs::create_dir_all(&directory).map_err(text)?;
    std::fs::write(directory.join("layer"), layer).map_err(text)?;
    std::fs::write(directory.join("name"), &image).map_err(text)?;
    let recipe = directory.join("Dockerfile").display().to_string();
    std::fs::write(&recipe, "FROM scratch\nCOPY layer /layer\nCOPY name /name\nCMD [\"/name\"]\n").map_err(text)?;
    docker(&["build", "--quiet", "--tag", &image, &directory.display().to_string()])?;
    std::fs::remove_dir_all(&directory).map_err(text)?;
    Ok(image)
}

pub(super) fn random(size: usize) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut bytes = Vec::with_capacity(size);
    let source = File::open("/dev/urandom").and_then(|file| file.take(size as u64).read_to_end(&mut bytes));
    source.map(|_| bytes).map_err(|error| error.to_string())
}

/// Killed or asked to end after each of these times, by both ways to the layers.
pub(super) fn interrupted(cluster: &Cluster) -> Result<(), String> {
    let image = image(cluster, "interrupted", &random(SIZE)?)?;
    let before = cluster.in_node(STORE)?;
    let mut cut = 0;
    for source in ["store", "save"] {
        for (milliseconds, signal) in
            [(30, "KILL"), (90, "TERM"), (150, "KILL"), (250, "KILL"), (350, "INT"), (500, "KILL"), (700, "KILL")]
        {
            let mut command = cluster.command(&["load", "docker-image", &image]);
            command.env("CORACLE_IMAGE_SOURCE", source);
            let load = start(command, None)?;
            std::thread::sleep(Duration::from_millis(milliseconds));
            load.signal(signal)?;
            if load.finish(LIMIT)?.code == 0 {
                cluster.coracle(&["image", "rm", &image])?;
            } else {
                cut += 1;
            }
            let when = format!("{signal} after {milliseconds} ms of a load by `{source}`");
            eventually(EVENTUALLY_TIMEOUT, || {
                let after = cluster.in_node(STORE)?;
                // The command was cut off after the node had all of the image.
                if after.lines().any(|line| line.ends_with(&format!("/{image}"))) {
                    has(cluster, &image)?;
                    cluster.coracle(&["image", "rm", &image])?;
                    return Err(format!("{when}: the node had the image, and the removal left {after}"));
                }
                let changes = changes(&before, &after);
                ensure(changes.is_empty(), || format!("{when}: {}", changes.join(", ")))?;
                // One that no one could start any more goes with the next load.
                let helpers = helpers(cluster)?;
                ensure(helpers.iter().all(|helper| helper.ends_with(" created")), || format!("{when} left {helpers:?}"))
            })?;
        }
    }
    ensure(cut >= 4, || format!("only {cut} loads were cut off"))?;
    cluster.coracle(&["load", "docker-image", &image])?;
    has(cluster, &image)?;
    eventually(EVENTUALLY_TIMEOUT, || {
        if helpers(cluster)?.is_empty() {
            return Ok(());
        }
        cluster.coracle(&["image", "rm", &image])?;
        cluster.coracle(&["load", "docker-image", &image])?;
        Err(format!("loads left {:?}", helpers(cluster)?))
    })
}

/// What is in a store now and was not before, and the other way round. The container of a pod that ends goes at any moment, with
/// its snapshot and its lease.
pub(crate) fn changes(before: &str, after: &str) -> Vec<String> {
    let is_of_container = |line: &str| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<String>>();
    let (before, after) = (lines(before), lines(after));
    let new = after.difference(&before).map(|line| format!("new: {line}"));
    let gone = before.difference(&after).filter(|line| !is_of_container(line)).map(|line| format!("gone: {line}"));
    new.chain(gone).collect()
}

/// Names and states of the containers that read layers.
fn helpers(cluster: &Cluster) -> Result<Vec<String>, String> {
    let filter = format!("name={}-reader", cluster.node());
    let found = docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}} {{.State}}"])?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// The helper that reads the engine's store is killed when a part of a layer is in the node: the engine saves the image.
pub(super) fn helper_killed(cluster: &Cluster) -> Result<(), String> {
    let image = image(cluster, "helper", &random(SIZE)?)?;
    let helper = format!("name={}-reader", cluster.node());
    let mut told = String::new();
    // It may be through before it is killed, on a machine that is quick in one and slow in the other.
    for _ in 0..4 {
        let load = start(cluster.command(&["load", "docker-image", &image, "--output=json"]), None)?;
        // Bytes of the layer that are there already.
        let watch = "until [[ $(find /var/lib/containerd/dev.coracle.staging -name layer -size +5M 2>/dev/null) ]]; do sleep 0.01; done";
        cluster.in_node(&format!("timeout 30 bash -c '{watch}'"))?;
        let helpers = docker(&["ps", "--quiet", "--no-trunc", "--filter", &helper])?;
        let killed = helpers.lines().next().is_some_and(|id| docker(&["kill", id]).is_ok());
        let output = load.finish(LIMIT)?;
        told = output.told();
        let report = crate::harness::cluster::json(output.ok()?.lines().last().unwrap_or_default())?;
        has(cluster, &image)?;
        if killed && report["source"] == "engine-save" {
            let left = cluster.in_node("ls -A /var/lib/containerd/dev.coracle.staging")?;
            return ensure(left.is_empty(), || format!("left: {left}"));
        }
        cluster.coracle(&["image", "rm", &image])?;
    }
    Err(format!("the helper was never killed in time: {told}"))
}

/// Two images with a layer in common, and one of them twice, all at the same time.
pub(super) fn at_once(cluster: &Cluster) -> Result<(), String> {
    let layer = random(SIZE / 3)?;
    let images = [image(cluster, "once-one", &layer)?, image(cluster, "once-other", &layer)?];
    let mut loads = Vec::new();
    for image in [&images[0], &images[1], &images[0]] {
        loads.push(start(cluster.command(&["load", "docker-image", image]), None)?);
    }
    for load in loads {
        load.finish(LIMIT)?.ok()?;
    }
    images.iter().try_for_each(|image| has(cluster, image))?;
    let ours = "ctr --namespace k8s.io leases ls --quiet | grep coracle || true; ls -A /var/lib/containerd/dev.coracle.staging";
    let leftovers = cluster.in_node(ours)?;
    ensure(leftovers.trim().is_empty(), || format!("left: {leftovers}"))
}

/// The image is in the node, with the file that says its name.
fn has(cluster: &Cluster, image: &str) -> Result<(), String> {
    let name = format!("docker.io/library/{image}");
    let said = cluster.in_node(&format!(
        "set -e; directory=$(mktemp --directory); ctr --namespace k8s.io images mount {name} $directory >/dev/null
        cat $directory/name; stat --format ' %s' $directory/layer
        ctr --namespace k8s.io images unmount --rm $directory >/dev/null; rmdir $directory"
    ))?;
    ensure(said.starts_with(&format!("{image} ")), || format!("{name} in the node has: {said}"))
}
