//! `coracle image`, `--restart`, and what the kubelet's garbage collection leaves alone.

use serde_json::Value;

use super::hello::IMAGE;
use super::images::archive;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, json};
use crate::harness::run::{contains, docker, ensure, eventually};

/// The images that `image ls` shows, as JSON.
fn listed(cluster: &Cluster, more: &[&str]) -> Result<Vec<Value>, String> {
    let arguments = [&["image", "ls", "--output=json"], more].concat();
    Ok(cluster.coracle_json(&arguments)?.as_array().cloned().unwrap_or_default())
}

fn find<'a>(images: &'a [Value], name: &str) -> Result<&'a Value, String> {
    let has = |image: &&Value| image["names"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    images.iter().find(has).ok_or_else(|| format!("`{name}` is not listed"))
}

/// The last line of events is the result.
fn result(events: &str) -> Result<Value, String> {
    json(events.lines().last().unwrap_or_default())
}

/// Fails unless the command fails with this error and says this.
fn refused(cluster: &Cluster, arguments: &[&str], code: &str, said: &str) -> Result<(), String> {
    let output = cluster.coracle_output(arguments)?;
    ensure(output.code == 3, || output.told())?;
    contains(&output.stderr, &format!("error[{code}]"))?;
    contains(&output.stderr, said)
}

/// Listing, tagging and removing, on a cluster that runs the sample.
pub(super) fn manage(cluster: &Cluster) -> Result<(), String> {
    let hello = format!("docker.io/library/{IMAGE}");
    let images = listed(cluster, &[])?;
    let image = find(&images, &hello)?;
    ensure(image["pods"].as_array().is_some_and(|pods| pods.len() == 2), || format!("the sample's pods: {image}"))?;
    ensure(image["nodes"][0] == cluster.node() && image["pinned"] == true, || format!("the sample: {image}"))?;
    let in_node = json(&cluster.in_node("crictl images --output json")?)?;
    let same = in_node["images"].as_array().into_iter().flatten().any(|one| one["id"] == image["id"]);
    ensure(same, || format!("the node has no image with the ID of {image}"))?;
    // What came with the node image shows only when it is asked for.
    ensure(find(&images, "registry.k8s.io/pause:3.10.2").is_err(), || "pause is listed".to_owned())?;
    let all = listed(cluster, &["--all"])?;
    let systems = all.iter().filter(|image| image["preloaded"] == true).count();
    ensure(systems == 10 && all.len() == images.len() + 10, || format!("{systems} images are of the node image"))?;

    cluster.coracle(&["image", "tag", IMAGE, "t-accept-other:1"])?;
    contains(&cluster.coracle(&["image", "list"])?, &format!("{IMAGE}, t-accept-other:1"))?;
    cluster.coracle(&["image", "rm", "t-accept-other:1"])?;
    refused(cluster, &["image", "rm", "t-accept-other:1"], "image-missing", "no node has the image")?;
    refused(cluster, &["image", "rm", IMAGE], "image-in-use", "pods use it: default/hello-world-")?;
    for command in [
        &["image", "rm", "--force", "registry.k8s.io/etcd:3.6.8-0"][..],
        &["image", "tag", IMAGE, "registry.k8s.io/etcd:3.6.8-0"],
    ] {
        refused(cluster, command, "image-in-use", "it came with the node image")?;
    }
    refused(cluster, &["image", "pull", "127.0.0.1:1/none:1"], "image-missing", "connection refused")?;
    find(&listed(cluster, &[])?, &hello).map(drop)
}

/// Removes what nothing uses, and nothing else; what is free then is what `du` of the node says.
pub(super) fn prune(cluster: &Cluster) -> Result<(), String> {
    let (image, path) = archive(cluster, "prune")?;
    cluster.coracle(&["image", "load", &path])?;
    // Nothing runs it at the moment, but something would.
    let (kept, path) = archive(cluster, "kept")?;
    cluster.coracle(&["image", "load", &path])?;
    cluster.kubectl(&["create", "cronjob", "kept", &format!("--image={kept}"), "--schedule=0 0 1 1 *"])?;
    let full = |name: &str| format!("docker.io/library/{name}");

    let would = result(&cluster.coracle(&["image", "prune", "--dry-run", "--output=json"])?)?;
    find(would["nodes"][0]["images"].as_array().map_or(&[][..], Vec::as_slice), &full(&image))?;
    find(&listed(cluster, &[])?, &full(&image))?;

    let used = "du --summarize --block-size=1 /var/lib/containerd/io.containerd.content.v1.content/blobs \
                /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots | awk '{ sum += $1 } END { print sum }'";
    let bytes = |text: String| text.trim().parse::<i64>().map_err(|error| format!("`{text}`: {error}"));
    let before = bytes(cluster.in_node(used)?)?;
    let done = result(&cluster.coracle(&["image", "prune", "--output=json"])?)?;
    let freed = before - bytes(cluster.in_node(used)?)?;
    let node = &done["nodes"][0];
    ensure(node["images"] == would["nodes"][0]["images"], || format!("dry run: {would}, then: {done}"))?;
    // Pods write meanwhile, a little.
    let said = node["freed"].as_i64().unwrap_or_default();
    ensure(said > 0 && (said - freed).abs() < 256 << 10, || format!("it said {said}, and {freed} bytes are free"))?;

    let left = listed(cluster, &["--all"])?;
    ensure(find(&left, &full(&image)).is_err(), || format!("`{image}` is still there"))?;
    find(&left, &full(&kept))?;
    find(&left, &full(IMAGE))?;
    cluster.kubectl(&["delete", "cronjob/kept"]).map(drop)
}

/// Builds the image of `restart` with this word in it, as the next version of the same name.
fn build(cluster: &Cluster, image: &str, word: &str) -> Result<String, String> {
    let directory = cluster.home.join("rolled");
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    cluster.write("rolled/Dockerfile", &format!("FROM {IMAGE}\nCOPY word /word\n"))?;
    cluster.write("rolled/word", word)?;
    let output = cluster.coracle_output(&["image", "build", "--tag", image, &directory.display().to_string()])?;
    // The next version takes its name away.
    let id = docker(&["image", "inspect", "--format={{.Id}}", image])?;
    cleanup::register_object("image", id.trim());
    let said = output.stderr.clone();
    output.ok().map(|_| said)
}

/// Two workloads: one has the image in its container, the other one in an init container.
fn workloads(image: &str) -> String {
    let sleep = r#"[python3, -c, "import time; time.sleep(9999)"]"#;
    let object = |kind: &str, name: &str, pod: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
             template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 0\n{pod}"
        )
    };
    let container = |name: &str, image: &str, command: &str| {
        format!("      - {{name: {name}, image: {image}, imagePullPolicy: IfNotPresent, command: {command}}}\n")
    };
    let set = format!("      containers:\n{}", container("main", image, sleep));
    let first = container("first", image, "[cat, /word]");
    let deployment = format!("      initContainers:\n{first}      containers:\n{}", container("main", IMAGE, sleep));
    format!("{}---\n{}", object("DaemonSet", "rolled-set", &set), object("Deployment", "rolled-first", &deployment))
}

/// A name that means something else makes new pods of the workloads that use it, and of no others.
pub(super) fn restart(cluster: &Cluster) -> Result<(), String> {
    let image = format!("{}rolled:{}", cleanup::PREFIX, std::process::id());
    build(cluster, &image, "one")?;
    cluster.apply(&workloads(&image))?;
    cluster.rolled_out("rolled-first")?;
    cluster.rolled_out_in("default", "daemonset/rolled-set")?;
    let others = || cluster.kubectl(&["get", "deployment/hello-world", "--output=jsonpath={.metadata.generation}"]);
    let before = others()?;

    contains(&build(cluster, &image, "two")?, "2 pods still run the previous image; add `--restart`")?;
    let word = ["exec", "daemonset/rolled-set", "--", "cat", "/word"];
    ensure(cluster.kubectl(&word)? == "one", || "the pod has another image without a restart".to_owned())?;
    let load = ["load", "docker-image", &image, "--restart", "--output=json"];
    let done = result(&cluster.coracle(&load)?)?;
    let expected = ["DaemonSet `default/rolled-set`", "Deployment `default/rolled-first`"];
    ensure(done["restarted"] == serde_json::json!(expected), || format!("these were restarted: {done}"))?;
    ensure(cluster.kubectl(&word)? == "two", || "the restarted pod runs the old image".to_owned())?;
    // The pod of before may still be listed.
    eventually(EVENTUALLY_TIMEOUT, || {
        let first = cluster.kubectl(&["logs", "deployment/rolled-first", "--container=first"])?;
        ensure(first == "two", || format!("the init container said {first}"))
    })?;

    let done = result(&cluster.coracle(&load)?)?;
    ensure(done["restarted"] == serde_json::json!([]), || format!("restarted without a reason: {done}"))?;
    ensure(others()? == before, || "a workload with another image was restarted".to_owned())?;
    // An image whose name meant another one is there like any other.
    let again = cluster.coracle_output(&["load", "docker-image", &image])?;
    contains(&again.stderr, &format!("{}: had docker.io/library/{image}", cluster.node()))?;
    cluster.coracle(&["image", "tag", &image, "t-accept-rolled:1"])?;
    cluster.coracle(&["image", "rm", "t-accept-rolled:1"])?;
    cluster.kubectl(&["delete", "deployment/rolled-first", "daemonset/rolled-set", "--timeout=60s"]).map(drop)
}

/// The kubelet, told to remove at once what nothing uses, leaves what was loaded and what came with the node image.
pub(super) fn garbage(cluster: &Cluster) -> Result<(), String> {
    let (kept, _) = archive(cluster, "unused")?;
    let (gone, _) = archive(cluster, "garbage")?;
    cluster.coracle(&["load", "docker-image", &kept, &gone])?;
    // As if a pod had pulled it.
    cluster
        .in_node(&format!("ctr --namespace=k8s.io images label docker.io/library/{gone} io.cri-containerd.pinned="))?;
    let names = || -> Result<Vec<String>, String> {
        let images = listed(cluster, &["--all"])?;
        let mut names: Vec<String> = images.iter().map(|image| image["names"].to_string()).collect();
        names.sort();
        Ok(names)
    };
    let is_gone = |name: &String| name.contains(&gone);
    let before = names()?;
    ensure(before.iter().any(is_gone), || format!("{gone} is not there: {before:?}"))?;
    // It looks when it starts, and then every 5 minutes.
    cluster.in_node("systemctl restart kubelet")?;
    let after = eventually(EVENTUALLY_TIMEOUT, || {
        let names = names()?;
        ensure(!names.iter().any(is_gone), || "the kubelet has not removed what nothing uses".to_owned())
            .map(|()| names)
    })?;
    let expected: Vec<String> = before.into_iter().filter(|name| !is_gone(name)).collect();
    ensure(after == expected, || format!("the kubelet left {after:?} of {expected:?}"))?;
    contains(&after.join(" "), &kept)?;
    cluster.ready(EVENTUALLY_TIMEOUT)
}
