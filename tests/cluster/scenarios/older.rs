//! The release before the newest one.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::Group;
use crate::harness::cleanup;
use crate::harness::cluster::Cluster;
use crate::harness::run::{contains, run};

/// Kubernetes 1.35, from its own node image.
pub const OLDER: Group =
    Group { name: "older", environment: &[], create: release_before, together: &[], scenarios: &[] };

const RELEASE: &str = "1.35";
/// Compiling Kubernetes takes six minutes on two quiet cores.
const BUILD_LIMIT: Duration = Duration::from_secs(1500);

/// Its image is built and boots; only where that needs no compiler, or everything is asked for.
fn release_before(cluster: &Cluster) -> Result<(), String> {
    if !is_compiled() && std::env::var("CORACLE_TEST_ALL").as_deref() != Ok("1") {
        println!("        skipped: Kubernetes {RELEASE} was never compiled here; CORACLE_TEST_ALL=1 does so (6 min)");
        return Ok(());
    }
    let image = format!("{}older-{}:1", cleanup::PREFIX, std::process::id());
    cleanup::register_object("image", &image);
    let mut build = cluster.command(&["build", "node-image", "--kubernetes-version", RELEASE, "--image", &image]);
    // The user's caches: of this command, and of Go.
    if let Some(home) = std::env::home_dir() {
        build.env("HOME", home);
    }
    run(build, None, BUILD_LIMIT)?.ok()?;
    cluster.coracle(&["create", "cluster", "--image", &image, "--workers", "1"])?;
    let versions = "--output=jsonpath={.items[*].status.nodeInfo.kubeletVersion}";
    contains(&cluster.kubectl(&["get", "nodes", versions])?, &format!("v{RELEASE}."))?;
    contains(&cluster.kubectl(&["version"])?, &format!("Server Version: v{RELEASE}."))?;
    cluster.rolled_out_in("kube-system", "deployment/coredns")?;
    cluster.rolled_out_in("kube-system", "daemonset/kube-proxy")?;
    cluster.coracle(&["delete", "cluster"]).map(drop)
}

/// Whether a program of the release is among what builds have kept.
fn is_compiled() -> bool {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache"))).unwrap_or_default();
    let kept = std::fs::read_dir(cache.join("coracle/node-image")).into_iter().flatten().flatten();
    let programs = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("kubernetes-"));
    programs.map(|entry| entry.path().join("kubernetes")).any(|program| {
        // It is what it is called as.
        let mut kubelet = Command::new(program);
        kubelet.arg0("kubelet").arg("--version");
        let said = run(kubelet, None, Duration::from_secs(20)).and_then(crate::harness::run::Output::ok);
        said.is_ok_and(|said| said.contains(&format!(" v{RELEASE}.")))
    })
}
