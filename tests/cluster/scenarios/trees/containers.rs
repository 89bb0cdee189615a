//! What containers of some images show: the engine's own, and the kubelet's.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use super::{Image, LIMIT, listing, listing::Listing};
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{docker, ensure, eventually, run};

/// What the containers run, in the container and in the node: the images have no program of their own.
const PROGRAM: &str = "/coracle-pause";
const IN_NODE: &str = "/run/coracle-pause";
/// Where the node has the file systems of its containers.
const ROOTS: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
const POD: &str = "trees";
/// What engine and kubelet put into every container themselves.
const NOT_OF_THE_IMAGE: &[&str] = &["dev", "proc", "sys", "etc", ".dockerenv", "coracle-pause"];

/// An image, and what the engine calls it.
pub(super) type Named<'a> = (&'a str, &'a Image);

/// Lists what the engine's containers of these images show, then the kubelet's.
pub(super) fn both(cluster: &Cluster, images: &[Named<'_>]) -> Result<[Vec<Listing>; 2], String> {
    let process = docker(&["inspect", "--format", "{{.State.Pid}}", &cluster.node()])?;
    let node = PathBuf::from(format!("/proc/{}/root", process.trim()));
    // A sandbox's program does nothing, which is all that is wanted.
    cluster.in_node(&format!("cp $(ls -d /{ROOTS}/*/rootfs/pause | head -n 1) {IN_NODE}"))?;
    let engine = of_engine(cluster, &node, images)?;
    let kubelet = of_kubelet(cluster, &node, images)?;
    cluster.in_node(&format!("rm {IN_NODE}"))?;
    Ok([engine, kubelet])
}

fn of_engine(cluster: &Cluster, node: &std::path::Path, images: &[Named<'_>]) -> Result<Vec<Listing>, String> {
    let program = cluster.home.join("pause");
    std::fs::copy(node.join(IN_NODE.trim_start_matches('/')), &program).map_err(|error| error.to_string())?;
    let volume = format!("{}:{PROGRAM}:ro", program.display());
    let names: Vec<String> =
        (0..images.len()).map(|number| format!("{}trees-{}-{number}", cleanup::PREFIX, std::process::id())).collect();
    for (name, (image, _)) in names.iter().zip(images) {
        cleanup::register_object("container", name);
        docker(&["create", "--name", name, "--network=none", "--volume", &volume, "--entrypoint", PROGRAM, image])?;
    }
    let all = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.args(arguments).args(&names);
        run(command, None, LIMIT)?.ok()
    };
    all(&["start"])?;
    let roots = all(&["inspect", "--format", "{{.GraphDriver.Data.MergedDir}}"])?;
    let roots: Vec<PathBuf> = roots.lines().map(PathBuf::from).collect();
    let listings = list(&roots, images);
    all(&["rm", "--force"])?;
    listings
}

fn of_kubelet(cluster: &Cluster, node: &std::path::Path, images: &[Named<'_>]) -> Result<Vec<Listing>, String> {
    let mut manifest = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {POD}}}
spec:
  automountServiceAccountToken: false
  volumes: [{{name: program, hostPath: {{path: {IN_NODE}, type: File}}}}]
  containers:
"
    );
    for (number, (image, _)) in images.iter().enumerate() {
        let _ = writeln!(
            manifest,
            "  - {{name: c{number}, image: {image}, imagePullPolicy: Never, command: [{PROGRAM}],
     volumeMounts: [{{name: program, mountPath: {PROGRAM}, readOnly: true}}]}}"
        );
    }
    cluster.apply(&manifest)?;
    cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{POD}"), "--timeout=90s"])?;
    let pod = cluster.kubectl_json(&["get", "pod", POD])?;
    let root = |number: usize| {
        let mut states = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        let state = states.find(|state| state["name"] == format!("c{number}").as_str());
        let id = state.and_then(|state| state["containerID"].as_str()?.strip_prefix("containerd://"));
        id.map(|id| node.join(ROOTS).join(id).join("rootfs")).ok_or_else(|| format!("{POD} has no container {number}"))
    };
    let roots: Vec<PathBuf> = (0..images.len()).map(root).collect::<Result<_, _>>()?;
    let listings = list(&roots, images);
    cluster.kubectl(&["delete", "pod", POD, "--now"])?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let left = cluster.in_node(&format!("ls -d /{ROOTS}/*/rootfs{PROGRAM} 2>/dev/null || true"))?;
        ensure(left.is_empty(), || format!("containers are left: {left}"))
    })?;
    listings
}

fn list(roots: &[PathBuf], images: &[Named<'_>]) -> Result<Vec<Listing>, String> {
    ensure(roots.len() == images.len(), || format!("{} containers of {} images", roots.len(), images.len()))?;
    let tree_of = |(root, (_, image)): (&PathBuf, &Named<'_>)| {
        let mut listing = listing::list(root, |path| image.tree.is_timeless(path))?;
        listing.retain(|path, _| !NOT_OF_THE_IMAGE.contains(&path.split('/').next().unwrap_or_default()));
        Ok(listing)
    };
    roots.iter().zip(images).map(tree_of).collect()
}
