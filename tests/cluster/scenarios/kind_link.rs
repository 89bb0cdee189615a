//! The command under the name `kind`: scripts as kind's users have them, in a directory of `tests/kind-scripts`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;

use super::hello;
use crate::Group;
use crate::harness::chance::is_long;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::engine::{build_registry, newest_image};
use crate::harness::run::{contains, docker, ensure, free_port, run};
use crate::harness::{cleanup, coracle};

/// A control plane and a worker, made by a script that calls `kind`.
pub(crate) const KIND_LINK: Group = Group {
    name: "kind-link",
    environment: &[],
    create,
    together: &[],
    scenarios: &[
        ("recognised", recognised),
        ("scripts", scripts),
        ("node-add", node_add),
        ("node-restart", node_restart),
        ("more-clusters", more_clusters),
        ("e2e-framework", e2e_framework),
        ("delete", delete),
    ],
};

/// How long several scripts may take together.
const LIMIT: Duration = Duration::from_secs(1200);

/// What scripts of kind have in common: a home, and names and ports that nothing else has.
struct Session<'c> {
    cluster: &'c Cluster,
    network: String,
    image: String,
    registry: String,
    registry_port: u16,
    node_port: u16,
}

impl<'c> Session<'c> {
    fn of(cluster: &'c Cluster) -> Result<Self, String> {
        static PORTS: OnceLock<Result<(u16, u16), String>> = OnceLock::new();
        let (registry_port, node_port) = PORTS.get_or_init(|| Ok((free_port()?, free_port()?))).clone()?;
        let name = |what: &str| format!("{}-{what}", cluster.name);
        let image = format!("{}:1", name("hello"));
        Ok(Self { cluster, network: name("network"), image, registry: name("registry"), registry_port, node_port })
    }

    fn home(&self) -> PathBuf {
        self.cluster.home.join("session")
    }

    /// A command line of a shell with the link to coracle in PATH.
    fn shell(&self, script: &str) -> Result<Command, String> {
        let mut command = self.cluster.script(script, &self.cluster.home)?;
        command.env_remove("CORACLE_CLUSTER_NAME").env("KIND_CLUSTER_NAME", &self.cluster.name);
        command.env("KIND_EXPERIMENTAL_DOCKER_NETWORK", &self.network);
        Ok(command)
    }

    /// Runs scripts by their numbers; each has to print what it prints with kind.
    fn run(&self, numbers: &str) -> Result<(), String> {
        let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kind-scripts/run");
        let mut command = self.shell(&format!("'{}' {numbers}", runner.display()))?;
        command.env("SESSION", self.home()).env("PREFIX", &self.cluster.name).env("IMAGE", &self.image);
        command.env("NODE_IMAGE", newest_image("coracle/node")?).env("REGISTRY", &self.registry);
        command.env("REGISTRY_PORT", self.registry_port.to_string()).env("NODE_PORT", self.node_port.to_string());
        run(command, None, LIMIT)?.ok().map(drop)
    }

    /// Runs a script of a line or two, and returns what it prints.
    fn said(&self, script: &str) -> Result<String, String> {
        run(self.shell(script)?, None, LIMIT)?.ok()
    }
}

/// The link is made beside coracle, and one of someone else is left alone; then the first scripts make the cluster.
fn create(cluster: &Cluster) -> Result<(), String> {
    let session = Session::of(cluster)?;
    cleanup::register_object("network", &session.network);
    let text = |error: std::io::Error| error.to_string();
    let tools = cluster.home.join("bin");
    for directory in [&tools, &session.home()] {
        std::fs::create_dir_all(directory).map_err(text)?;
    }
    let link = tools.display().to_string();
    cluster.coracle(&["kind-link", &link])?;
    let target = std::fs::read_link(tools.join("kind")).map_err(text)?;
    let own = std::fs::canonicalize(coracle()).map_err(text)?;
    ensure(target == own, || format!("the link leads to {}", target.display()))?;
    cluster.write("kind", "somebody's own")?;
    let refused = cluster.coracle_output(&["kind-link", &cluster.home.display().to_string()])?;
    ensure(refused.code != 0, || refused.told())?;
    contains(&refused.stderr, "not a link to coracle")?;
    hello::build()?;
    cleanup::register_object("image", &session.image);
    docker(&["tag", hello::IMAGE, &session.image])?;
    session.run("01 02 03 04")?;
    session.said("kind export kubeconfig").map(drop)
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
    let network = Session::of(cluster)?.network;
    for role in ["control-plane", "worker"] {
        let format = format!("{{{{index .NetworkSettings.Networks \"{network}\" | json}}}}");
        let joined = docker(&["inspect", "--format", &format, &format!("{}-{role}", cluster.name)])?;
        ensure(joined.trim() != "null", || format!("{role} is not in network `{network}`"))?;
    }
    let port = docker(&["port", &cluster.node(), "30080"])?;
    contains(&port, "0.0.0.0:")
}

/// What users do with a cluster, from its kubeconfig to its logs.
fn scripts(cluster: &Cluster) -> Result<(), String> {
    build_registry()?;
    let session = Session::of(cluster)?;
    let config = json!({
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": "/var/lib/registry"}},
        "http": {"addr": ":5000"},
    });
    let file = cluster.write("registry.yaml", &config.to_string())?;
    cleanup::register_object("container", &session.registry);
    let published = format!("127.0.0.1:{}:5000", session.registry_port);
    let image = newest_image("coracle/registry")?;
    let environment = "--env=OTEL_TRACES_EXPORTER=none";
    let name = &session.registry;
    docker(&["create", "--name", name, "--publish", &published, environment, &image, "serve", "/registry.yaml"])?;
    docker(&["cp", &file, &format!("{name}:/registry.yaml")])?;
    docker(&["start", name])?;
    session.run("05 06 07 08 09 10 11 12 13 14 15 16 17 21")
}

/// A node that is added later is one of kind as well.
fn node_add(cluster: &Cluster) -> Result<(), String> {
    let session = Session::of(cluster)?;
    cluster.coracle(&["node", "add"])?;
    let added = format!("{}-worker2", cluster.name);
    let nodes = session.said("kind get nodes")?;
    ensure(nodes.lines().any(|node| node == added), || nodes.clone())?;
    let format = format!("{{{{index .NetworkSettings.Networks \"{}\" | json}}}}", session.network);
    let joined = docker(&["inspect", "--format", &format, &added])?;
    ensure(joined.trim() != "null", || "the new node is not in kind's network".to_owned())?;
    cluster.coracle(&["node", "remove", &added]).map(drop)
}

/// Scripts stop and start a node's container; both networks are there again.
fn node_restart(cluster: &Cluster) -> Result<(), String> {
    docker(&["restart", "--time=1", &format!("{}-worker", cluster.name)])?;
    cluster.ready(EVENTUALLY_TIMEOUT)?;
    Session::of(cluster)?.run("08")
}

/// Scripts that make clusters beside the first one.
fn more_clusters(cluster: &Cluster) -> Result<(), String> {
    if !is_long() {
        println!("        left to the long run: it creates four clusters");
        return Ok(());
    }
    for name in ["second", "charts", "1", "2"] {
        cleanup::register(&format!("{}-{name}", cluster.name), &cluster.home);
    }
    Session::of(cluster)?.run("18 19 20")
}

/// A suite of sigs.k8s.io/e2e-framework, which calls `kind`, runs from its cluster to the logs.
fn e2e_framework(cluster: &Cluster) -> Result<(), String> {
    if !is_long() {
        println!("        left to the long run: compiling it takes minutes");
        return Ok(());
    }
    let session = Session::of(cluster)?;
    let name = format!("{}-e2e", cluster.name);
    cleanup::register(&name, &cluster.home);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e-framework");
    let config = cluster.write("e2e.yaml", "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n")?;
    let mut command = session.shell("go test -count=1 -v ./...")?;
    command.current_dir(directory).env("CLUSTER", &name).env("IMAGE", &session.image).env("CONFIG", config);
    command.env("LOGS", cluster.home.join("e2e-logs")).env_remove("KIND_CLUSTER_NAME");
    for variable in ["GOPATH", "GOCACHE", "GOMODCACHE"] {
        let mut go = Command::new("go");
        go.args(["env", variable]);
        command.env(variable, run(go, None, LIMIT)?.ok()?.trim());
    }
    let said = run(command, None, LIMIT)?.ok()?;
    contains(&said, "--- PASS: TestPodOfALoadedImage")?;
    let exported = cluster.home.join("e2e-logs").join(format!("{name}-control-plane"));
    ensure(exported.is_dir(), || "the framework has exported no logs".to_owned())?;
    let left = docker(&["ps", "--all", "--quiet", "--filter", &format!("name={name}")])?;
    ensure(left.is_empty(), || "the framework's cluster is left".to_owned())
}

/// Deleting twice is well, and what others have stays: their network, and what leads to other clusters.
fn delete(cluster: &Cluster) -> Result<(), String> {
    let session = Session::of(cluster)?;
    session.run("22")?;
    let networks = docker(&["network", "ls", "--format", "{{.Name}}"])?;
    ensure(networks.lines().any(|name| name == session.network), || "the shared network is gone".to_owned())?;
    cluster.coracle(&["kind-link", "--remove", &cluster.home.join("bin").display().to_string()])?;
    ensure(!cluster.home.join("bin/kind").exists(), || "the link is left".to_owned())
}
