//! The command under the name `kind`: scripts as kind's users have them, in a folder of `tests/kind-scripts`.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::hello;
use crate::Group;
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::engine::{build_registry, newest_image};
use crate::harness::run::{Output, contains, docker, ensure, free_port, run};
use crate::harness::{cleanup, coracle};

/// A control plane and a worker, made by a script that calls `kind`.
pub(crate) const KIND_LINK: Group = Group {
    name: "kind-link",
    environment: &[],
    create,
    together: &[],
    scenarios: &[
        ("lists", lists),
        ("recognised", recognised),
        ("load", load),
        ("local-registry", local_registry),
        ("internal", internal),
        ("node-add", node_add),
        ("node-restart", node_restart),
        ("delete", delete),
    ],
};

/// How long a script may take.
const LIMIT: Duration = Duration::from_secs(400);

fn network() -> String {
    format!("{}kind-network-{}", cleanup::PREFIX, std::process::id())
}

fn registry() -> String {
    format!("{}kind-registry-{}", cleanup::PREFIX, std::process::id())
}

/// Runs a script of `tests/kind-scripts` with `kind` and `kubectl` in PATH, to its end, however that is.
fn script(cluster: &Cluster, name: &str, more: &[(&str, &str)]) -> Result<Output, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kind-scripts").join(name);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut command = cluster.script(&text, &cluster.home)?;
    command.env_remove("CORACLE_CLUSTER_NAME").env("KIND_CLUSTER_NAME", &cluster.name);
    command.env("KIND_EXPERIMENTAL_DOCKER_NETWORK", network()).envs(more.iter().copied());
    run(command, None, LIMIT)
}

/// The link is made beside coracle, and a second one of somebody else is left alone.
fn create(cluster: &Cluster) -> Result<(), String> {
    cleanup::register_object("network", &network());
    let tools = cluster.home.join("bin");
    std::fs::create_dir_all(&tools).map_err(|error| error.to_string())?;
    let link = tools.display().to_string();
    cluster.coracle(&["kind-link", &link])?;
    let target = std::fs::read_link(tools.join("kind")).map_err(|error| error.to_string())?;
    let own = std::fs::canonicalize(coracle()).map_err(|error| error.to_string())?;
    ensure(target == own, || format!("the link leads to {}", target.display()))?;
    cluster.write("kind", "somebody's own")?;
    let refused = cluster.coracle_output(&["kind-link", &cluster.home.display().to_string()])?;
    ensure(refused.code != 0, || refused.told())?;
    contains(&refused.stderr, "not a link to coracle")?;
    script(cluster, "create.sh", &[])?.ok().map(drop)
}

/// What scripts read from standard output is what kind prints there.
fn lists(cluster: &Cluster) -> Result<(), String> {
    script(cluster, "lists.sh", &[])?.ok().map(drop)
}

/// Tools know a cluster of kind by its context, by labels of its containers and by the network of its nodes.
fn recognised(cluster: &Cluster) -> Result<(), String> {
    let context = cluster.kubectl(&["config", "current-context"])?;
    ensure(context.trim() == format!("kind-{}", cluster.name), || context.clone())?;
    let filter = format!("label=io.x-k8s.kind.cluster={}", cluster.name);
    let format = "{{.Names}} {{.Label \"io.x-k8s.kind.role\"}}";
    let found = docker(&["ps", "--filter", &filter, "--format", format])?;
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    let wanted = ["control-plane", "worker"].map(|role| format!("{}-{role} {role}", cluster.name));
    ensure(found == wanted, || format!("{found:?}"))?;
    for role in ["control-plane", "worker"] {
        let format = format!("{{{{index .NetworkSettings.Networks \"{}\" | json}}}}", network());
        let joined = docker(&["inspect", "--format", &format, &format!("{}-{role}", cluster.name)])?;
        ensure(joined.trim() != "null", || format!("{role} is not in network `{}`", network()))?;
    }
    let port = docker(&["port", &cluster.node(), "30080"])?;
    contains(&port, "0.0.0.0:")
}

/// Several images at once, into one node, and from an archive.
fn load(cluster: &Cluster) -> Result<(), String> {
    hello::build()?;
    let image = format!("{}kind-load:{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("image", &image);
    docker(&["tag", hello::IMAGE, &image])?;
    script(cluster, "load.sh", &[("IMAGE", &image)])?.ok().map(drop)
}

/// The steps of kind's page about a local registry: pods get the images that were pushed to `localhost:PORT`.
fn local_registry(cluster: &Cluster) -> Result<(), String> {
    build_registry()?;
    hello::build()?;
    let (name, port) = (registry(), free_port()?.to_string());
    let config = json!({
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": "/var/lib/registry"}},
        "http": {"addr": ":5000"},
    });
    let file = cluster.write("registry.yaml", &config.to_string())?;
    cleanup::register_object("container", &name);
    let published = format!("127.0.0.1:{port}:5000");
    let image = newest_image("coracle/registry")?;
    let environment = "--env=OTEL_TRACES_EXPORTER=none";
    docker(&["create", "--name", &name, "--publish", &published, environment, &image, "serve", "/registry.yaml"])?;
    docker(&["cp", &file, &format!("{name}:/registry.yaml")])?;
    docker(&["start", &name])?;
    let pushed = format!("localhost:{port}/hello:1");
    cleanup::register_object("image", &pushed);
    script(cluster, "local-registry.sh", &[("REGISTRY", &name), ("PORT", &port)])?.ok()?;
    docker(&["tag", hello::IMAGE, &pushed])?;
    docker(&["push", "--quiet", &pushed])?;
    for node in ["control-plane", "worker"] {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: pulled-{node}}}\nspec:\n  nodeName: {}-{node}\n  \
             containers: [{{name: c, image: '{pushed}', imagePullPolicy: Always}}]\n",
            cluster.name
        );
        cluster.apply(&pod)?;
        let pod = format!("pod/pulled-{node}");
        cluster.kubectl(&["wait", &pod, "--for=condition=Ready", "--timeout=90s"])?;
        cluster.kubectl(&["delete", &pod, "--wait=false"])?;
    }
    Ok(())
}

/// A container in the nodes' network reaches the API with the kubeconfig that `--internal` gives.
fn internal(cluster: &Cluster) -> Result<(), String> {
    let image = newest_image("coracle/node")?;
    script(cluster, "internal.sh", &[("IMAGE", &image)])?.ok().map(drop)
}

/// A node that is added later is one of kind as well.
fn node_add(cluster: &Cluster) -> Result<(), String> {
    cluster.coracle(&["node", "add"])?;
    let nodes = script(cluster, "lists.sh", &[("WORKERS", "2")])?;
    nodes.ok()?;
    let format = format!("{{{{index .NetworkSettings.Networks \"{}\" | json}}}}", network());
    let joined = docker(&["inspect", "--format", &format, &format!("{}-worker2", cluster.name)])?;
    ensure(joined.trim() != "null", || "the new node is not in kind's network".to_owned())?;
    cluster.coracle(&["node", "remove", &format!("{}-worker2", cluster.name)]).map(drop)
}

/// Scripts stop and start a node's container; both networks are there again.
fn node_restart(cluster: &Cluster) -> Result<(), String> {
    docker(&["restart", "--time=1", &format!("{}-worker", cluster.name)])?;
    cluster.ready(PATIENCE)?;
    let image = newest_image("coracle/node")?;
    script(cluster, "internal.sh", &[("IMAGE", &image)])?.ok().map(drop)
}

/// Deleting twice is well, and what others have stays: their network, and what leads to other clusters.
fn delete(cluster: &Cluster) -> Result<(), String> {
    script(cluster, "delete.sh", &[])?.ok()?;
    let contexts = cluster.kubectl(&["config", "get-contexts", "--output=name"])?;
    ensure(contexts.trim() == "foreign", || contexts.clone())?;
    let networks = docker(&["network", "ls", "--format", "{{.Name}}"])?;
    ensure(networks.lines().any(|name| name == network()), || "the shared network is gone".to_owned())?;
    cluster.coracle(&["kind-link", "--remove", &cluster.home.join("bin").display().to_string()])?;
    ensure(!cluster.home.join("bin/kind").exists(), || "the link is left".to_owned())
}
