//! The guide's chart, with helm: the user's, or one that is built from its Go module once.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::harness::cluster::Cluster;
use crate::harness::guide::follow;
use crate::harness::run::{Output, run};

/// What is built when there is no helm.
const MODULE: &str = "helm.sh/helm/v4/cmd/helm@v4.3.1";

/// Installed, upgraded, rolled back, removed.
pub(super) fn chart(cluster: &Cluster) -> Result<(), String> {
    let helm = helm()?;
    let tools = cluster.home.join("bin");
    std::fs::create_dir_all(&tools).map_err(|error| error.to_string())?;
    std::os::unix::fs::symlink(helm, tools.join("helm")).map_err(|error| error.to_string())?;
    follow(cluster, "helm.md")
}

fn helm() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(helm) = std::env::split_paths(&path).map(|directory| directory.join("helm")).find(|helm| helm.is_file())
    {
        return Ok(helm);
    }
    let cache = dirs::cache_dir().ok_or("there is no cache directory")?.join("coracle/test-tools");
    let helm = cache.join("helm");
    if !helm.is_file() {
        let mut go = Command::new("go");
        go.args(["install", MODULE]).env("GOBIN", &cache).env("GOFLAGS", "-trimpath");
        run(go, None, Duration::from_secs(900)).and_then(Output::ok)?;
    }
    Ok(helm)
}
