//! The local registry, and registries with a CA, a login, or neither.
//!
//! One mirror of the local registry stands for all others: it has TLS with a CA of this test, asks for a password, and
//! is known in the cluster's network under several names.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use coracle::plan::pki::{Pki, Usage};

use super::hello;
use super::registry_pages::pulls_with_progress;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, json};
use crate::harness::engine::build_registry;
use crate::harness::run::{Output, contains, docker, docker_output, ensure, eventually, free_port, run};

pub(super) const USER: &str = "t-user";
pub(super) const PASSWORD: &str = "t-accept-open-sesame";
/// The same as the registry knows it (bcrypt).
const HASH: &str = "$2a$05$h/lJEl0kMkuZpfWKZTOaBuqmxhwgIZZUUfATY7XJpY510c4G2ygxa";
/// The credential helper of this test.
const HELPER: &str = "t-accept";

pub(super) fn registry() -> String {
    format!("{}local-{}", cleanup::PREFIX, std::process::id())
}

pub(super) fn mirror() -> String {
    format!("{}mirror-{}", cleanup::PREFIX, std::process::id())
}

/// What names of images in the local registry begin with.
pub(super) fn host(cluster: &Cluster) -> Result<String, String> {
    let list = cluster.coracle_json(&["registry", "list", "--output=json"])?;
    let found = list.as_array().into_iter().flatten().find(|one| one["name"] == *registry());
    found.and_then(|one| one["host"].as_str()).map(str::to_owned).ok_or_else(|| format!("it is not in {list}"))
}

/// coracle with the credential helper at hand.
fn with_helper(cluster: &Cluster, arguments: &[&str]) -> Result<Output, String> {
    let mut command = cluster.command(arguments);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", cluster.home.join("helpers").display()));
    run(command, None, Duration::from_secs(400))
}

/// A Docker configuration in the test's home: one registry by a helper, the others in the file.
fn docker_configuration(cluster: &Cluster, password: &str) -> Result<(), String> {
    use base64::Engine as _;
    let text = |error: std::io::Error| error.to_string();
    std::fs::create_dir_all(cluster.home.join(".docker")).map_err(text)?;
    std::fs::create_dir_all(cluster.home.join("helpers")).map_err(text)?;
    let packed = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
    let config = serde_json::json!({
        "credHelpers": {"mirror.test:5443": HELPER},
        "auths": {"private.test:5443": {"auth": packed}, "insecure.test:5443": {"auth": packed}},
    });
    cluster.write(".docker/config.json", &config.to_string())?;
    let script = format!(
        "#!/bin/sh\nread -r server\n[ \"$1 $server\" = \"get mirror.test:5443\" ] || {{ echo credentials not found; exit 1; }}\n\
         echo '{{\"ServerURL\": \"\", \"Username\": \"{USER}\", \"Secret\": \"{PASSWORD}\"}}'\n"
    );
    let path = cluster.write(&format!("helpers/docker-credential-{HELPER}"), &script)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(text)
}

/// The CA of the mirror, and its certificate for all of its names.
fn certificates(cluster: &Cluster) -> Result<(), String> {
    let text = |error: coracle::error::Error| error.to_string();
    let pki = Pki::generate(time::OffsetDateTime::now_utc()).map_err(text)?;
    let names = ["mirror.test", "private.test"];
    let pair = pki.issue(&pki.kubernetes, "mirror", None, Usage::Server, &names, &[]).map_err(text)?;
    cluster.write("ca.crt", &pki.kubernetes.pair.certificate)?;
    cluster.write("tls.crt", &pair.certificate)?;
    cluster.write("tls.key", &pair.key).map(drop)
}

/// A registry that was there before the cluster, and a cluster whose file names it and others.
pub(super) fn create(cluster: &Cluster) -> Result<(), String> {
    build_registry()?;
    hello::build()?;
    let name = registry();
    cleanup::register_object("volume", &name);
    cleanup::register_object("container", &name);
    let port = free_port()?.to_string();
    cluster.coracle(&["registry", "create", "--name", &name, "--port", &port])?;
    docker_configuration(cluster, PASSWORD)?;
    certificates(cluster)?;
    let config = format!(
        "apiVersion: coracle.dev/v1alpha1
kind: Cluster
nodes: [{{role: control-plane}}, {{role: worker}}]
registry: {name}
registries:
  - {{host: upstream.test, mirrors: ['https://mirror.test:5443'], caFile: ca.crt, login: true}}
  - {{host: 'private.test:5443', caFile: ca.crt}}
  - {{host: 'insecure.test:5443', insecure: true, login: true}}
  - {{host: '{name}:5000', insecure: true, mirrors: ['http://127.0.0.1:1', 'http://gone.invalid:5000']}}
"
    );
    let path = cluster.write("cluster.yaml", &config)?;
    let mut arguments = vec!["create", "cluster", "--config", &path];
    let image = std::env::var("CORACLE_TEST_IMAGE").ok();
    if let Some(image) = &image {
        arguments.extend(["--image", image]);
    }
    let planned = with_helper(cluster, &[&arguments[..], &["--dry-run", "--output=yaml"]].concat())?.ok()?;
    ensure(!planned.contains(PASSWORD), || "--dry-run shows the password".to_owned())?;
    let output = with_helper(cluster, &[&arguments[..], &["-vv"]].concat())?;
    let said = format!("{}{}", output.stdout, output.stderr);
    output.ok()?;
    ensure(!said.contains(PASSWORD), || "create says the password".to_owned())?;
    serve_mirror(cluster)
}

/// The mirror, in the cluster's network.
fn serve_mirror(cluster: &Cluster) -> Result<(), String> {
    let config = serde_json::json!({
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": "/var/lib/registry"}},
        "http": {"addr": ":5443", "tls": {"certificate": "/tls.crt", "key": "/tls.key"}},
        "auth": {"htpasswd": {"realm": "t", "path": "/htpasswd"}},
        "proxy": {"remoteurl": format!("http://{}.coracle.internal:5000", registry())},
    });
    cluster.write("mirror.yaml", &config.to_string())?;
    cluster.write("htpasswd", &format!("{USER}:{HASH}\n"))?;
    let (name, network) = (mirror(), format!("coracle-{}", cluster.name));
    cleanup::register_object("network", &network);
    cleanup::register_object("container", &name);
    let aliases = ["mirror", "private", "insecure"].map(|alias| format!("--network-alias={alias}.test"));
    let mut arguments = vec!["create", "--name", &name, "--network", &network, "--env=OTEL_TRACES_EXPORTER=none"];
    arguments.extend(aliases.iter().map(String::as_str));
    let image = docker(&["inspect", "--format={{.Config.Image}}", &registry()])?;
    arguments.extend([image.trim(), "serve", "/mirror.yaml"]);
    docker(&arguments)?;
    for file in ["mirror.yaml", "htpasswd", "tls.crt", "tls.key"] {
        let path = cluster.home.join(file).display().to_string();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).map_err(|error| error.to_string())?;
        docker(&["cp", &path, &format!("{name}:/{file}")])?;
    }
    docker(&["start", &name]).map(drop)
}

/// Starts a pod of this image, always pulled, on a node, and waits until it runs.
pub(super) fn runs(cluster: &Cluster, pod: &str, image: &str, node: &str) -> Result<(), String> {
    start(cluster, pod, image, node, "Always")?;
    is_running(cluster, pod)
}

fn is_running(cluster: &Cluster, pod: &str) -> Result<(), String> {
    eventually(EVENTUALLY_TIMEOUT, || {
        let phase =
            cluster.kubectl(&["get", "pod", pod, "--output=jsonpath={.status.phase} {.status.containerStatuses}"])?;
        ensure(phase.starts_with("Running"), || format!("{pod}: {phase}"))
    })
}

fn start(cluster: &Cluster, pod: &str, image: &str, node: &str, policy: &str) -> Result<(), String> {
    let overrides = serde_json::json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 0}}).to_string();
    let policy = format!("--image-pull-policy={policy}");
    let (image, overrides) = (format!("--image={image}"), format!("--overrides={overrides}"));
    cluster.kubectl(&["run", pod, &image, "--restart=Never", &policy, &overrides]).map(drop)
}

/// Built, pushed and run under one name, in all nodes, and again after a change.
pub(super) fn push(cluster: &Cluster) -> Result<(), String> {
    let host = host(cluster)?;
    let image = format!("{host}/team/app:1");
    cleanup::register_object("image", &image);
    docker(&["tag", hello::IMAGE, &image])?;
    docker(&["push", "--quiet", &image])?;
    let worker = format!("{}-worker", cluster.name);
    runs(cluster, "first", &image, &cluster.node())?;
    runs(cluster, "second", &image, &worker)?;
    let directory = cluster.home.join("app");
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    cluster.write("app/Dockerfile", &format!("FROM {}\nCOPY change /change\n", hello::IMAGE))?;
    cluster.write("app/change", &host)?;
    let image = format!("{host}/team/app:2");
    cleanup::register_object("image", &image);
    docker(&["build", "--quiet", "--tag", &image, &directory.display().to_string()])?;
    let began = Instant::now();
    docker(&["push", "--quiet", &image])?;
    let pushed = began.elapsed();
    runs(cluster, "changed", &image, &worker)?;
    println!("        a small change: pushed in {pushed:.1?}, runs after {:.1?}", began.elapsed());
    let read = cluster.kubectl(&["exec", "changed", "--", "cat", "/change"])?;
    ensure(read == host, || format!("the change is `{read}`"))
}

/// A tag that moved leaves an image behind, which goes, and can be pushed again.
pub(super) fn prune(cluster: &Cluster) -> Result<(), String> {
    let tag = |tag: &str| Ok::<_, String>(format!("{}/team/app:{tag}", host(cluster)?));
    let (moved, kept, again) = (tag("2")?, tag("kept")?, tag("again")?);
    cleanup::register_object("image", &kept);
    cleanup::register_object("image", &again);
    docker(&["tag", &moved, &kept])?;
    let push = || {
        docker(&["build", "--quiet", "--tag", &moved, &cluster.home.join("app").display().to_string()])?;
        // The next one takes its name away.
        cleanup::register_object("image", docker(&["image", "inspect", "--format={{.Id}}", &moved])?.trim());
        docker(&["push", "--quiet", &moved])
    };
    // No one can make it smaller, so it counts as it is.
    let mut noise = vec![0; 20 << 20];
    let filled = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut noise));
    filled.and_then(|()| std::fs::write(cluster.home.join("app/change"), &noise)).map_err(|error| error.to_string())?;
    push()?;
    pulls_with_progress(cluster, &moved)?;
    let name = registry();
    let would = cluster.coracle_output(&["registry", "prune", "--name", &name, "--dry-run"])?;
    contains(&would.stderr, "Would remove 1 image without a tag, 3 blobs in all, and free ")?;
    cluster.write("app/change", "another")?;
    push()?;
    let done = cluster.coracle(&["registry", "prune", "--name", &name, "--output=json"])?;
    let done = json(done.lines().last().unwrap_or_default())?;
    // Two images lost their tag, one of them with the noise.
    let freed = done["freed"].as_u64().unwrap_or_default();
    let right = done["images"] == 2 && done["blobs"] == 6 && (20 << 20..21 << 20).contains(&freed);
    ensure(right, || done.to_string())?;
    let said = cluster.coracle_output(&["registry", "prune", "--name", &name])?;
    contains(&said.stderr, "There is nothing to remove")?;
    docker(&["tag", &kept, &again])?;
    docker(&["push", "--quiet", &again])?;
    runs(cluster, "again-after-prune", &again, &cluster.node())?;
    runs(cluster, "moved", &moved, &cluster.node())
}

/// What tools read, and that pods reach the registry by the name in it.
pub(super) fn hosting(cluster: &Cluster) -> Result<(), String> {
    let key = "--output=jsonpath={.data.localRegistryHosting\\.v1}";
    let text = cluster.kubectl(&["get", "configmap", "local-registry-hosting", "--namespace=kube-public", key])?;
    contains(&text, &format!("host: {}\n", host(cluster)?))?;
    let line = text.lines().find_map(|line| line.strip_prefix("hostFromClusterNetwork: "));
    let inside = line.ok_or_else(|| format!("no name for pods in {text}"))?;
    let url = format!("http://{inside}/v2/_catalog");
    let said = cluster.kubectl(&["exec", "first", "--", "wget", "-q", "-O", "-", &url])?;
    contains(&said, "team/app")?;
    let published = docker(&["port", &registry()])?;
    let all_local = published.lines().all(|line| line.contains("-> 127.0.0.1:"));
    ensure(all_local && !published.is_empty(), || format!("it is published as {published}"))
}

/// A mirror with a CA of its own and a login that a credential helper has.
pub(super) fn mirrored(cluster: &Cluster) -> Result<(), String> {
    runs(cluster, "mirrored", "upstream.test/team/app:1", &cluster.node())?;
    runs(cluster, "insecure", "insecure.test:5443/team/app:1", &cluster.node())?;
    // Without TLS at all, and behind mirrors that are not there.
    runs(cluster, "plain", &format!("{}:5000/team/app:1", registry()), &cluster.node())
}

/// `image pull`: through the mirror, with its CA and login, into all nodes at once; and not without a login.
pub(super) fn image_pull(cluster: &Cluster) -> Result<(), String> {
    let image = "upstream.test/team/app:2";
    cluster.coracle(&["image", "pull", image])?;
    let listed = || cluster.coracle_json(&["image", "ls", "--output=json"]);
    let has = |one: &&serde_json::Value| one["names"].to_string().contains(image);
    let images = listed()?;
    let found = images.as_array().into_iter().flatten().find(has).cloned().unwrap_or_default();
    ensure(found["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2), || {
        format!("it is not in both nodes: {found}")
    })?;
    // What can be pulled again is the kubelet's to remove.
    ensure(found["pinned"] == false, || format!("it is pinned: {found}"))?;
    let worker = format!("{}-worker", cluster.name);
    cluster.coracle(&["image", "rm", image, "--nodes", &worker])?;
    let images = listed()?;
    let found = images.as_array().into_iter().flatten().find(has).cloned().unwrap_or_default();
    ensure(found["names"].to_string().contains(image), || "the name is gone from all nodes".to_owned())?;
    let names = docker(&["exec", &worker, "crictl", "images"])?;
    ensure(!names.contains("upstream.test/team/app   "), || format!("the name is still in the worker: {names}"))?;
    let refused = cluster.coracle_output(&["image", "pull", "private.test:5443/team/app:1"])?;
    ensure(refused.code == 3, || refused.told())?;
    contains(&refused.stderr, "authorization")
}

/// A login while the cluster runs, and again after a node forgot it.
pub(super) fn login(cluster: &Cluster) -> Result<(), String> {
    let (image, worker) = ("private.test:5443/team/app:1", format!("{}-worker", cluster.name));
    start(cluster, "private", image, &worker, "Always")?;
    eventually(EVENTUALLY_TIMEOUT, || contains(&cluster.kubectl(&["describe", "pod", "private"])?, "authorization"))?;
    let missing = cluster.coracle_output(&["registry", "login", "nobody.test"])?;
    ensure(missing.code == 3, || missing.told())?;
    contains(&missing.stderr, "docker login nobody.test")?;
    // No one but the registry knows that a password is wrong.
    docker_configuration(cluster, "t-wrong")?;
    cluster.coracle(&["registry", "login", "private.test:5443"])?;
    let refused = cluster.coracle_output(&["image", "pull", image])?;
    ensure(refused.code == 3, || refused.told())?;
    contains(&refused.stderr, "then `coracle registry login private.test:5443`")?;
    docker_configuration(cluster, PASSWORD)?;
    let done = cluster.coracle(&["registry", "login", "private.test:5443", "--output=json"])?;
    let done = json(done.lines().last().unwrap_or_default())?;
    ensure(done["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2), || done.to_string())?;
    cluster.kubectl(&["delete", "pod", "private", "--now"])?;
    runs(cluster, "private", image, &worker)?;
    let file = "/run/coracle/credentials.json";
    let in_worker = |line: &str| docker(&["exec", &worker, "sh", "-c", line]);
    ensure(in_worker(&format!("stat -f -c %T {file}; stat -c %a {file}"))? == "tmpfs\n600\n", || {
        "it is not in memory".to_owned()
    })?;
    for text in [docker(&["inspect", &worker])?, docker(&["logs", &worker])?, in_worker("journalctl --boot")?] {
        ensure(!text.contains(PASSWORD), || "the password is in the container's description or a log".to_owned())?;
    }
    let written = in_worker(&format!("grep -rlF {PASSWORD} /etc /usr/local /var/lib/kubelet || true"))?;
    ensure(written.is_empty(), || format!("the password is in {written}"))?;
    docker(&["restart", "--time=1", &worker])?;
    eventually(EVENTUALLY_TIMEOUT, || in_worker("systemctl is-active kubelet").map(drop))?;
    let gone = docker_output(&["exec", &worker, "cat", file])?;
    ensure(gone.code != 0, || "the credentials survived".to_owned())?;
    // What was pulled stays usable.
    start(cluster, "present", image, &worker, "IfNotPresent")?;
    is_running(cluster, "present")?;
    with_helper(cluster, &["registry", "login"])?.ok()?;
    runs(cluster, "again", image, &worker)
}

/// A cluster of IPv6 that was there before, which goes again and leaves the registry alone.
pub(super) fn another_cluster(cluster: &Cluster) -> Result<(), String> {
    let other = Cluster::new("registry-other")?;
    let head = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n";
    other.create(&format!("{head}registry: false\nnetworking: {{ipFamily: ipv6}}\n"), &[])?;
    let absent = other.kubectl_output(&["get", "configmap", "local-registry-hosting", "--namespace=kube-public"])?;
    ensure(absent.code != 0, || "a cluster without a registry has one".to_owned())?;
    other.coracle(&["registry", "create", "--name", &registry(), "--cluster", &other.name])?;
    let host = host(cluster)?;
    runs(&other, "shared", &format!("{host}/team/app:1"), &other.node())?;
    other.coracle(&["delete", "cluster"])?;
    let networks = docker(&["network", "ls", "--quiet", "--filter", &format!("name=coracle-{}", other.name)])?;
    ensure(networks.is_empty(), || "the network of the deleted cluster is left".to_owned())?;
    stopped(cluster)?;
    runs(cluster, "still", &format!("{host}/team/app:2"), &cluster.node())
}

/// What is said while the registry is stopped, and that it starts again, with its images.
fn stopped(cluster: &Cluster) -> Result<(), String> {
    let name = registry();
    docker(&["stop", "--time=1", &name])?;
    let listed = cluster.coracle_output(&["registry", "list"])?;
    let line = listed.stdout.lines().find(|line| line.starts_with(&name)).unwrap_or_default();
    contains(line, "exited")?;
    let start = format!("`coracle registry create --name {name}`");
    contains(&listed.stderr, &start)?;
    let pruned = cluster.coracle_output(&["registry", "prune", "--name", &name])?;
    ensure(pruned.code == 1, || pruned.told())?;
    contains(&pruned.stderr, &start)?;
    let pulled = cluster.coracle_output(&["image", "pull", &format!("{}/team/app:2", host(cluster)?)])?;
    ensure(pulled.code == 3, || pulled.told())?;
    contains(&pulled.stderr, &format!("start the registry: {start}"))?;
    cluster.coracle(&["registry", "create", "--name", &name])?;
    // Removed by hand, it is connected again to the cluster whose configuration names it.
    let port = host(cluster)?.replace("localhost:", "");
    docker(&["rm", "--force", &name])?;
    let done = cluster.coracle(&["registry", "create", "--name", &name, "--port", &port, "--output=json"])?;
    let done = json(done.lines().last().unwrap_or_default())?;
    ensure(done["clusters"] == serde_json::json!([cluster.name]), || done.to_string())
}

/// Nothing of the registry stays, in the engine and in the cluster, but its images until they are given up too.
pub(super) fn delete(cluster: &Cluster) -> Result<(), String> {
    let name = registry();
    let host = host(cluster)?;
    docker(&["rm", "--force", "--volumes", &mirror()])?;
    let said = cluster.coracle_output(&["registry", "delete", "--name", &name])?;
    contains(&said.stderr, &format!("Disconnected from {}", cluster.name))?;
    contains(&said.stderr, "images are kept")?;
    ensure(said.code == 0, || said.told())?;
    let pulled = cluster.coracle_output(&["image", "pull", &format!("{host}/team/app:2")])?;
    contains(&pulled.stderr, "the node has no registry of this name")?;
    contains(&cluster.kubectl(&["exec", "still", "--", "echo", "runs on"])?, "runs on")?;
    let object = cluster.kubectl_output(&["get", "configmap", "local-registry-hosting", "--namespace=kube-public"])?;
    contains(&object.stderr, "NotFound")?;
    let directories = cluster.in_node("ls /etc/containerd/certs.d")?;
    ensure(!directories.contains(&host), || format!("a node still has {directories}"))?;
    let volume = ["volume", "ls", "--quiet", "--filter", &format!("name={name}")];
    contains(&docker(&volume)?, &name)?;
    let done = cluster.coracle(&["registry", "delete", "--name", &name, "--volumes", "--output=json"])?;
    let done = json(done.lines().last().unwrap_or_default())?;
    ensure(done["deleted"] == false && done["images"] == "deleted", || done.to_string())?;
    ensure(docker(&volume)?.is_empty(), || "the volume is left".to_owned())?;
    let list = json(&cluster.coracle(&["registry", "list", "--output=json"])?)?;
    ensure(!list.to_string().contains(&name), || format!("`registry list` said {list}"))?;
    cluster.coracle(&["delete", "cluster"])?;
    let left = docker(&["ps", "--all", "--quiet", "--filter", &format!("name={}", cluster.name)])?;
    ensure(left.is_empty(), || format!("containers are left: {left}"))
}
