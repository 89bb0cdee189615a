//! An image that is loaded into several nodes: its layers are on the disk once, and each node's are its own nevertheless.

use std::collections::BTreeSet;
use std::process::Command;

use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, json};
use crate::harness::run::{LIMIT, docker, ensure, eventually, run};
use crate::scenarios::hello;

/// More than what is sent sooner than it is linked, bytes.
const SIZE: usize = 30 << 20;
/// A layer that hides a file and a directory of the one below, with a capability and a mode that only attributes have.
const RECIPE: &str = "USER 0:0
COPY layer /layer
RUN mkdir -p /shared/replaced /shared/kept && touch /shared/gone /shared/replaced/old
RUN rm -r /shared/gone /shared/replaced && mkdir -m 2750 /shared/replaced && touch /shared/replaced/new && \
 python3 -c \"import os; os.setxattr('/shared/replaced/new', 'security.capability', \
bytes.fromhex('01000002000400' + '00' * 13))\"
";
/// What a container sees of it.
const LOOK: &str = "import hashlib, os
print(hashlib.sha256(open('/layer', 'rb').read()).hexdigest(), sorted(os.listdir('/shared')), os.listdir('/shared/replaced'),
  oct(os.stat('/shared/replaced').st_mode), os.getxattr('/shared/replaced/new', 'security.capability').hex())";
const PODS: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: linked}
spec:
  selector: {matchLabels: {app: linked}}
  template:
    metadata: {labels: {app: linked}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations: [{operator: Exists}]
      containers:
        - {name: look, image: IMAGE, imagePullPolicy: Never, command: [sleep, infinity]}
";

/// Two nodes get links to the third one's files; all see the image as the engine does; what one changes is its own.
pub(super) fn linked(cluster: &Cluster) -> Result<(), String> {
    let image = image(cluster)?;
    let report = cluster.coracle(&["load", "docker-image", &image, "--output=json"])?;
    let report = json(report.lines().last().unwrap_or_default())?;
    let nodes = report["nodes"].as_array().ok_or("the report has no nodes")?;
    let linked = nodes.iter().filter(|node| node["linked_from"].is_string() && node["bytes"] == 0).count();
    ensure((linked, nodes.len()) == (2, 3), || format!("not two of three nodes have links: {report}"))?;
    let names: Vec<&str> = nodes.iter().filter_map(|node| node["node"].as_str()).collect();
    is_one_file(&names, 3)?;

    let seen = docker(&["run", "--rm", &image, "python3", "-c", LOOK])?;
    cluster.apply(&PODS.replace("IMAGE", &image))?;
    cluster.rolled_out_in("default", "daemonset/linked")?;
    let pods = cluster.kubectl(&["get", "pods", "--selector=app=linked", "--output=name"])?;
    let pods: Vec<&str> = pods.lines().collect();
    let look = || pods.iter().map(|pod| cluster.python(pod, LOOK)).collect::<Result<Vec<String>, String>>();
    let found = look()?;
    ensure(found.len() == 3 && found.iter().all(|found| *found == seen), || format!("not {seen}: {found:?}"))?;
    cluster.kubectl(&["exec", pods[0], "--", "sh", "-c", "echo changed >>/layer && chmod 700 /shared/replaced"])?;
    let changed = look()?;
    ensure(changed[0] != seen && changed[1..] == found[1..], || format!("a change reached others: {changed:?}"))?;
    cluster.kubectl(&["delete", "daemonset", "linked", "--wait"])?;

    nothing_stays(cluster, &names)?;
    // The others have theirs when one node's image is gone.
    docker(&["exec", names[2], "crictl", "rmi", &image])?;
    eventually(EVENTUALLY_TIMEOUT, || is_one_file(&names[..2], 2))?;
    // What was removed is linked again.
    let report = cluster.coracle(&["load", "docker-image", &image])?;
    eventually(EVENTUALLY_TIMEOUT, || layer_in(names[2]).map(drop))
        .map_err(|error| format!("{error} after {report}"))?;
    cluster.coracle(&["image", "rm", &image]).map(drop)
}

fn image(cluster: &Cluster) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let image = format!("{}linked:{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("image", &image);
    let directory = cluster.home.join("linked");
    std::fs::create_dir_all(&directory).map_err(text)?;
    std::fs::write(directory.join("layer"), super::loading::random(SIZE)?).map_err(text)?;
    std::fs::write(directory.join("Dockerfile"), format!("FROM {}\n{RECIPE}", hello::IMAGE)).map_err(text)?;
    let mut build = Command::new("docker");
    build.args(["build", "--quiet", "--tag", &image]).arg(&directory);
    run(build, None, LIMIT)?.ok()?;
    std::fs::remove_dir_all(&directory).map_err(text)?;
    Ok(image)
}

/// Device, inode and number of links of the layer's file in a node.
fn layer_in(node: &str) -> Result<String, String> {
    let find = "find /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs -path '*/fs/layer' -size +29M -exec stat -c '%d:%i %h' {} +";
    let found = docker(&["exec", node, "bash", "-c", find])?;
    ensure(found.lines().count() == 1, || format!("{node} has not one layer: {found}"))?;
    Ok(found.trim().to_owned())
}

fn is_one_file(nodes: &[&str], links: usize) -> Result<(), String> {
    let found = nodes.iter().map(|node| layer_in(node)).collect::<Result<BTreeSet<String>, String>>()?;
    let is_one = found.len() == 1 && found.iter().all(|file| file.ends_with(&format!(" {links}")));
    ensure(is_one, || format!("not one file with {links} links: {found:?}"))
}

/// Neither a helper, nor a directory from which layers were taken.
fn nothing_stays(cluster: &Cluster, nodes: &[&str]) -> Result<(), String> {
    eventually(EVENTUALLY_TIMEOUT, || {
        let filter = format!("name={}-", cluster.name);
        let containers = docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"])?;
        ensure(!containers.contains("-linker") && !containers.contains("-reader"), || format!("left: {containers}"))?;
        nodes.iter().try_for_each(|node| {
            let staged = docker(&["exec", node, "ls", "-A", "/var/lib/containerd/dev.coracle.staging"])?;
            ensure(staged.trim().is_empty(), || format!("{node} has {staged}"))
        })
    })
}
