//! Images of kind's layout, from a registry and by digest, as kind publishes them; and images in which something is missing.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::Group;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::engine::{in_path, newest_image};
use crate::harness::run::{
    Output, Running, contains, docker, docker_output, ensure, eventually, free_port, run, start,
};
use crate::scenarios::failures::{nothing_left, refused, told};
use crate::scenarios::hello;

/// A node image that is pulled, and images that cannot be.
pub const PUBLISHED: Group = Group {
    name: "published",
    environment: &[],
    create: from_registry,
    together: &[],
    scenarios: &[("image-without-components", without_components), ("image-with-broken-dns", with_broken_dns)],
};

/// How long making, pushing or pulling a node image may take on a busy machine.
const TRANSFER: Duration = Duration::from_secs(400);

/// A registry on this host, which ends when it is dropped.
struct Registry {
    _process: Running,
    address: String,
}

impl Registry {
    /// Debian's; its package is unpacked for the test where it is not installed.
    fn start(cluster: &Cluster) -> Result<Option<Self>, String> {
        let Some(program) = in_path("docker-registry").or_else(|| unpacked(&cluster.home)) else { return Ok(None) };
        let address = format!("127.0.0.1:{}", free_port()?);
        let config = cluster.write(
            "registry.yaml",
            &format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
                cluster.home.join("registry").display()
            ),
        )?;
        let mut command = Command::new(program);
        command.args(["serve", &config]);
        let process = start(command, None)?;
        eventually(EVENTUALLY_TIMEOUT, || TcpStream::connect(&address).map_err(|error| error.to_string()))?;
        Ok(Some(Self { _process: process, address }))
    }
}

fn unpacked(home: &Path) -> Option<PathBuf> {
    let directory = home.join("registry-package");
    std::fs::create_dir_all(&directory).ok()?;
    let mut command = Command::new("sh");
    command.args(["-c", "apt-get download docker-registry && dpkg --extract docker-registry_*.deb ."]);
    command.current_dir(&directory);
    run(command, None, TRANSFER).ok()?.ok().ok()?;
    let program = directory.join("usr/bin/docker-registry");
    program.is_file().then_some(program)
}

fn slowly(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments);
    run(command, None, TRANSFER)?.ok()
}

/// An image of kind's layout is pulled by its digest, boots, and becomes a cluster; without a registry it says what to do.
fn from_registry(cluster: &Cluster) -> Result<(), String> {
    let Some(registry) = Registry::start(cluster)? else {
        println!("        skipped: the Debian package docker-registry can neither be found nor downloaded");
        return Ok(());
    };
    let name = format!("{}/{}node-{}", registry.address, cleanup::PREFIX, std::process::id());
    let image = format!("{name}:v1");
    cleanup::register_object("image", &image);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/scenarios/published/kind-image.sh");
    for line in slowly(&script.display().to_string(), &[&newest_image("coracle/node")?, &image])?.lines() {
        println!("        {line}");
    }
    slowly("docker", &["push", "--quiet", &image])?;
    let digests = docker(&["image", "inspect", "--format", "{{join .RepoDigests \"\\n\"}}", &image])?;
    let digest = digests.lines().find_map(|line| line.split_once('@')).ok_or("the image has no digest")?.1.to_owned();
    docker(&["image", "rm", "--force", &image])?;
    let reference = format!("{image}@{digest}");
    cleanup::register_object("image", &format!("{name}@{digest}"));

    let output = cluster.coracle_output(&["create", "cluster", "--image", &reference, "--output", "json"])?;
    ensure(output.code == 0, || output.told())?;
    pulled(&output, &reference)?;
    works(cluster)?;
    loads(cluster)?;
    second_plane(cluster)?;
    cluster.coracle(&["delete", "cluster"])?;
    nothing_left(cluster)?;

    let absent = format!("{image}@sha256:{}", "0".repeat(64));
    let command = cluster.command(&["create", "cluster", "--image", &absent]);
    refused(cluster, command, "image-missing", 3, &[&absent, "cannot be pulled", "coracle build node-image"])?;
    docker(&["image", "rm", "--force", &format!("{name}@{digest}")])?;
    drop(registry);
    let command = cluster.command(&["create", "cluster", "--image", &reference]);
    refused(cluster, command, "image-missing", 3, &[&reference, "connection refused", "coracle build node-image"])
}

/// Without HAProxy and etcdctl in the image, coracle's image gives the load balancer, and etcd's container the program.
fn second_plane(cluster: &Cluster) -> Result<(), String> {
    cluster.coracle(&["node", "add", "--role=control-plane"])?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"]))?;
    docker(&["kill", &format!("{}2", cluster.node())])?;
    docker(&["start", &format!("{}2", cluster.node())])?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"]))?;
    cluster.coracle(&["node", "remove", &format!("{}2", cluster.node())])?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"])).map(drop)
}

/// The events say that the image was pulled, and how much of it was there.
fn pulled(output: &Output, reference: &str) -> Result<(), String> {
    let events: Vec<Value> = output.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = events.iter().any(|event| event["message"] == format!("pulling {reference}"));
    ensure(said, || format!("it was not pulled: {}", output.told()))?;
    let bytes = events.iter().filter(|event| event["event"] == "bytes").filter_map(|event| event["done"].as_u64());
    ensure(bytes.max().unwrap_or_default() > 100_000_000, || format!("no progress: {}", output.told()))
}

/// The node is Ready, and a pod finds the API by its DNS name, over kube-proxy and CoreDNS.
fn works(cluster: &Cluster) -> Result<(), String> {
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    cluster.rolled_out_in("kube-system", "deployment/coredns")?;
    let images = cluster.in_node("crictl images --output json | jq -r '.images[].repoTags[]'")?;
    let proxy = images.lines().find(|image| image.contains("/kube-proxy:")).ok_or("there is no image of kube-proxy")?;
    cluster.kubectl(&["run", "asks", "--image", proxy, "--command", "--", "sleep", "1000"])?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/asks", "--timeout=60s"])?;
    let name = "kubernetes.default.svc.cluster.local";
    let found = cluster.kubectl(&["exec", "asks", "--", "getent", "hosts", name])?;
    contains(&found, "10.96.0.1 ")
}

/// The node's image does not have the program that takes images; it comes with the first load. What is loaded runs, and what
/// came with the node image is not removed.
fn loads(cluster: &Cluster) -> Result<(), String> {
    hello::build()?;
    let load = || cluster.coracle_output(&["load", "docker-image", hello::IMAGE]);
    contains(&load()?.stderr, "got docker.io/library/hello-world:latest")?;
    contains(&load()?.stderr, "had docker.io/library/hello-world:latest")?;
    cluster.kubectl(&["run", "loaded", "--image", hello::IMAGE, "--image-pull-policy=IfNotPresent"])?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/loaded", "--timeout=60s"])?;
    contains(&cluster.port_forward("pod/loaded", 8080, "/")?, "Hello, world!")?;
    cluster.coracle(&["image", "prune"])?;
    contains(&cluster.in_node("crictl images --output json")?, "/kube-controller-manager:")?;
    let listed = cluster.coracle(&["image", "ls"])?;
    ensure(listed.lines().count() == 2, || format!("not only the loaded image is shown: {listed}"))?;
    contains(&listed, "hello-world:latest")
}

/// An image like ours, after a change in a container of it and with another configuration.
fn changed(name: &str, change: &dyn Fn(&str) -> Result<(), String>, config: &str) -> Result<String, String> {
    let container = format!("{}{name}-{}", cleanup::PREFIX, std::process::id());
    let image = format!("{container}:1");
    cleanup::register_object("image", &image);
    cleanup::register_object("container", &container);
    docker(&["create", "--name", &container, &newest_image("coracle/node")?])?;
    change(&container)?;
    docker(&["commit", "--change", config, &container, &image])?;
    docker(&["rm", "--volumes", &container])?;
    Ok(image)
}

/// An image whose components are of another version than it says, which no one can pull: told long before the wait is over.
fn without_components(cluster: &Cluster) -> Result<(), String> {
    let label = "LABEL dev.coracle.kubernetes-version=v1.36.999";
    let image = changed("other", &|_| Ok(()), label)?;
    let command = cluster.command(&["create", "cluster", "--image", &image]);
    let result =
        refused(cluster, command, "image-missing", 3, &["v1.36.999", "registry.k8s.io/", "coracle build node-image"]);
    docker_output(&["image", "rm", &image])?;
    result
}

/// An add-on whose container ends at once, again and again.
fn with_broken_dns(cluster: &Cluster) -> Result<(), String> {
    let program = cluster.write("coredns", "#!/bin/sh\necho 'error: this is no DNS server' >&2\nexit 3\n")?;
    let copy = |container: &str| {
        let target = format!("{container}:/usr/lib/coracle/snapshots/1/fs/coredns");
        let mut chmod = Command::new("chmod");
        chmod.args(["755", &program]);
        run(chmod, None, TRANSFER)?.ok()?;
        docker(&["cp", &program, &target]).map(drop)
    };
    let image = changed("dns", &copy, "LABEL changed=1")?;
    let output = run(cluster.command(&["create", "cluster", "--image", &image]), None, Duration::from_secs(200))?;
    docker_output(&["image", "rm", &image])?;
    told(&output, "component-failed", 1, &["coredns keeps failing", "this is no DNS server", "coracle export logs"])?;
    nothing_left(cluster)
}
