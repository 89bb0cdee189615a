//! Engines of a test's own, which it may stop, kill and fill, and what they need of the engine of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::cluster::Cluster;
use super::run::{Output, docker, run};

/// This program's file in a directory of PATH.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Builds the registry's program, which takes minutes without a cache.
pub fn build_registry() -> Result<(), String> {
    let mut build = Command::new(super::coracle());
    build.args(["build", "addons", "registry"]);
    run(build, None, Duration::from_secs(1200))?.ok().map(drop)
}

/// The newest local image of this repository that is tagged with a version.
pub fn newest_image(repository: &str) -> Result<String, String> {
    let images = docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository])?;
    let image = images.lines().find(|image| image.contains(":v"));
    image.map(str::to_owned).ok_or_else(|| format!("there is no {repository} image"))
}

/// Runs a script of the repository in namespaces of its own, which take every process with them when it ends. It gets a
/// directory, coracle, the node image and these arguments, and sources `own-engine.sh`.
pub fn script(cluster: &Cluster, script: &str, more: &[&Path]) -> Result<String, String> {
    let image = newest_image("coracle/node")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster").join(script);
    let directory = cluster.home.join(script.file_name().unwrap_or_default());
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]).arg(script);
    command.arg(&directory).args([super::coracle(), &image]).args(more);
    command.env_remove("KUBECONFIG").env_remove("DOCKER_HOST").env_remove("CORACLE_CLUSTER_NAME");
    let said = run(command, None, Duration::from_secs(600)).and_then(Output::ok);
    // The engine's images are gigabytes.
    let _ = std::fs::remove_dir_all(&directory);
    said
}
