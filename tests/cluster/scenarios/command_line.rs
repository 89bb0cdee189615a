//! `coracle kubectl` as kubectl's users use it, and images that the nodes cannot run or that nothing runs any more.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::hello;
use super::images::archive;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{LIMIT, contains, docker, ensure, eventually, run};
use crate::scenarios::failures::told;

/// The namespace of the user's context counts, `config` changes what lasts, and plugins find the cluster.
pub(super) fn kubectl(cluster: &Cluster) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let own = cluster.in_namespace("t-kubectl")?;
    let namespace = || own.coracle(&["kubectl", "config", "view", "--minify", "--output=jsonpath={..namespace}"]);
    ensure(namespace()? == "t-kubectl", || "the namespace of the context does not count".to_owned())?;
    own.coracle(&["kubectl", "config", "set-context", "--current", "--namespace=kube-system"])?;
    contains(&std::fs::read_to_string(own.kubeconfig()).map_err(text)?, "namespace: kube-system")?;
    contains(&own.coracle(&["kubectl", "get", "pods", "--output=name"])?, "pod/coredns-")?;
    // The current context of kubectl is another matter.
    own.coracle(&["kubectl", "config", "set-context", "t-other", "--cluster=none"])?;
    own.coracle(&["kubectl", "config", "use-context", "t-other"])?;
    contains(&std::fs::read_to_string(own.kubeconfig()).map_err(text)?, "current-context: t-other")?;
    contains(&own.coracle(&["kubectl", "get", "pods", "--output=name"])?, "pod/coredns-")?;

    let directory = own.home.join("plugins");
    std::fs::create_dir_all(&directory).map_err(text)?;
    let plugin = own.write("plugins/kubectl-coredns", "#!/bin/sh\nexec kubectl get pods --output=name \"$@\"\n")?;
    std::fs::set_permissions(plugin, Permissions::from_mode(0o755)).map_err(text)?;
    let mut command = own.command(&["kubectl", "coredns", "--selector=k8s-app=kube-dns"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
    contains(&run(command, None, LIMIT)?.ok()?, "pod/coredns-")?;

    // Without the context in the user's files, a change is kept for this command, and a warning says so.
    let mut command = own.command(&["kubectl", "config", "set-context", "--current", "--namespace=t-kubectl"]);
    command.env("KUBECONFIG", own.home.join("none"));
    let output = run(command, None, LIMIT)?;
    contains(&output.stderr, "coracle export kubeconfig")?;
    output.ok().map(drop)
}

/// A copy of kubectl that is empty or cut off is replaced.
pub(super) fn damaged_kubectl(cluster: &Cluster) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    cluster.coracle(&["kubectl", "version"])?;
    let versions = std::fs::read_dir(cluster.home.join(".cache/coracle/kubectl")).map_err(text)?;
    let copies: Vec<_> = versions.flatten().map(|entry| entry.path().join("kubectl")).collect();
    ensure(copies.len() == 1, || format!("there are {copies:?}"))?;
    let size = std::fs::metadata(&copies[0]).map_err(text)?.len();
    std::fs::OpenOptions::new().write(true).open(&copies[0]).and_then(|file| file.set_len(size / 2)).map_err(text)?;
    contains(&cluster.coracle(&["kubectl", "get", "nodes"])?, &cluster.node())?;
    ensure(std::fs::metadata(&copies[0]).map_err(text)?.len() == size, || "it is still cut off".to_owned())
}

/// An image for another platform is refused, also in the configuration of a cluster.
pub(super) fn other_platform(cluster: &Cluster) -> Result<(), String> {
    let as_text = |error: std::io::Error| error.to_string();
    let (image, path) = archive(cluster, "arm")?;
    let mut bytes = std::fs::read(&path).map_err(as_text)?;
    let (from, to) = (&b"\"architecture\":\"amd64\""[..], &b"\"architecture\":\"arm64\""[..]);
    // An archive of `docker save` says it in the image's configuration and once for each layer, in any order.
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    ensure(!places.is_empty(), || "the image is not for amd64".to_owned())?;
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    std::fs::write(&path, bytes).map_err(as_text)?;
    docker(&["load", "--input", &path])?;
    let said = format!("image `{image}` is for linux/arm64, but the nodes are linux/amd64");
    let output = cluster.coracle_output(&["load", "docker-image", &image])?;
    told(&output, "load-failed", 1, &[&said])?;
    let config = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nimages: ['{image}']\n");
    let path = cluster.write("arm.yaml", &config)?;
    let name = format!("{}arm-{}", cleanup::PREFIX, std::process::id());
    let output = cluster.coracle_output(&["create", "cluster", &name, "--config", &path, "--dry-run"])?;
    ensure(output.code == 1, || output.told())?;
    contains(&output.stderr, &said)
}

/// As soon as its pod is deleted, an image can be removed: what is left of its containers does not count.
pub(super) fn image_of_deleted_pod(cluster: &Cluster) -> Result<(), String> {
    let image = format!("{}gone:{}", cleanup::PREFIX, std::process::id());
    hello::build()?;
    cleanup::register_object("image", &image);
    docker(&["tag", hello::IMAGE, &image])?;
    cluster.coracle(&["load", "docker-image", &image])?;
    let image_option = format!("--image={image}");
    cluster.kubectl(&["run", "t-gone", &image_option, "--restart=Never", "--image-pull-policy=Never"])?;
    eventually(EVENTUALLY_TIMEOUT, || {
        let phase = cluster.kubectl(&["get", "pod", "t-gone", "--output=jsonpath={.status.phase}"])?;
        ensure(phase == "Running", || format!("the pod is {phase}"))
    })?;
    let output = cluster.coracle_output(&["image", "rm", &image])?;
    ensure(output.code == 3, || output.told())?;
    cluster.kubectl(&["delete", "pod", "t-gone", "--grace-period=1"])?;
    cluster.coracle(&["image", "rm", &image]).map(drop)
}
