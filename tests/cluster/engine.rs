//! What happens when the engine itself stops: on an engine of the test's own.

use std::process::Command;
use std::time::Duration;

use crate::Group;
use crate::cluster::Cluster;
use crate::run::{docker, run};

/// An engine that is stopped and started.
pub const ENGINE: Group = Group { name: "engine", environment: &[], create: restart, together: &[], scenarios: &[] };

/// After a restart of the engine the same cluster is there, with its data and its addresses.
fn restart(cluster: &Cluster) -> Result<(), String> {
    let images = docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "coracle/node"])?;
    let image = images.lines().next().ok_or("there is no coracle/node image")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/engine-restart.sh");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", script]).arg(&cluster.home).args([env!("CARGO_BIN_EXE_coracle"), image]);
    command.env_remove("KUBECONFIG").env_remove("DOCKER_HOST");
    run(command, None, Duration::from_secs(400))?.ok().map(drop)
}
