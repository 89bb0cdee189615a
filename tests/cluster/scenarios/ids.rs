//! Errors that no other scenario ends with, each with its ID, its exit code and a hint. `tests/it/errors.rs` looks for all IDs.

use std::process::Command;
use std::time::Duration;

use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::engine::newest_image;
use crate::harness::run::{docker, eventually, run};

use super::failures::{nothing_left, told};

const LIMIT: Duration = Duration::from_secs(120);

/// It ends with this error and exit code, and says all these parts.
fn fails(command: Command, id: &str, code: i32, parts: &[&str]) -> Result<(), String> {
    told(&run(command, None, LIMIT)?, id, code, parts)
}

/// On the group `fail`, which has no cluster: kubeconfigs that cannot be used, names that do not exist or are taken.
pub(super) fn of_host(cluster: &Cluster) -> Result<(), String> {
    let create = |more: &[&str]| cluster.command(&[&["create", "cluster"], more].concat());
    let broken = cluster.write("broken", "{\n")?;
    fails(create(&["--kubeconfig", &broken]), "kubeconfig-invalid", 1, &["broken:", "not YAML"])?;
    let directory = cluster.home.display().to_string();
    fails(create(&["--kubeconfig", &directory]), "file-failed", 1, &["is a directory"])?;
    let locked = cluster.write("locked", "")?;
    let lock = cluster.write("locked.lock", "")?;
    fails(create(&["--kubeconfig", &locked]), "kubeconfig-locked", 1, &["locked.lock", "rm '"])?;
    std::fs::remove_file(lock).map_err(|error| error.to_string())?;

    fails(cluster.command(&["status"]), "cluster-not-found", 3, &[&cluster.name])?;

    let name = format!("{}ids-{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("container", &name);
    docker(&["create", "--name", &name, &newest_image("coracle/node")?])?;
    let registry = cluster.command(&["registry", "create", "--name", &name]);
    let result = fails(registry, "registry-exists", 3, &[&name, "docker rm --force"]);
    docker(&["rm", "--force", &name])?;
    result?;

    let empty = cluster.home.join("no-logins");
    std::fs::create_dir_all(&empty).map_err(|error| error.to_string())?;
    let config = cluster.write(
        "login.yaml",
        "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nregistries: [{host: reg.example, login: true}]\n",
    )?;
    let mut command = create(&["--config", &config]);
    command.env("DOCKER_CONFIG", &empty);
    fails(command, "credentials-missing", 3, &["reg.example", "docker login"])?;
    nothing_left(cluster)
}

/// On the group `one`: images and ports that cannot be had, and an API that refuses.
pub(super) fn of_cluster(cluster: &Cluster) -> Result<(), String> {
    let garbage = cluster.write("garbage.tar", "this is no archive\n")?;
    fails(
        cluster.command(&["load", "image-archive", &garbage]),
        "archive-invalid",
        1,
        &["garbage.tar", "docker save"],
    )?;

    let directory = cluster.home.join("build");
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let build = |path: Option<&str>| {
        let mut command = cluster.command(&["image", "build", "--tag", "t-ids:1", &directory.display().to_string()]);
        command.envs(path.map(|path| ("PATH", path)));
        command
    };
    cluster.write("build/Dockerfile", "FROM scratch\nCOPY absent /\n")?;
    let output = run(build(None), None, LIMIT)?;
    told(&output, "build-failed", 1, &[])?;
    fails(build(Some("/nonexistent")), "tool-missing", 4, &["`docker` is not installed", "load image-archive"])?;

    // A container of someone else has the name of a forwarder.
    let port = super::explain::free_port()?;
    let name = format!("{}-port-{port}-tcp", cluster.name);
    cleanup::register_object("container", &name);
    docker(&["create", "--name", &name, &newest_image("coracle/node")?])?;
    let add = cluster.command(&["port", "add", &format!("{port}:80")]);
    let output = run(add, None, LIMIT)?;
    docker(&["rm", "--force", &name])?;
    told(&output, "name-taken", 3, &[&name, "docker rm"])?;

    // A node without the program that lists its images.
    let program = cluster.in_node("command -v crictl")?;
    cluster.in_node(&format!("mv {} /root/t-ids-crictl", program.trim()))?;
    let result = fails(cluster.command(&["image", "ls"]), "step-failed", 1, &["crictl", "node image"]);
    cluster.in_node(&format!("mv /root/t-ids-crictl {}", program.trim()))?;
    result?;

    // Without its binding, the administrator may do nothing.
    let kubectl = "kubectl --kubeconfig=/etc/kubernetes/super-admin.conf";
    let binding = "clusterrolebinding kubeadm:cluster-admins";
    cluster.in_node(&format!("{kubectl} get {binding} --output=json >/root/t-ids && {kubectl} delete {binding}"))?;
    let result = eventually(EVENTUALLY_TIMEOUT, || {
        fails(cluster.command(&["events"]), "api-failed", 1, &["cannot list the events", "forbidden"])
    });
    cluster.in_node(&format!("{kubectl} create --filename=/root/t-ids && rm /root/t-ids"))?;
    result?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["events"]).map(drop))
}
