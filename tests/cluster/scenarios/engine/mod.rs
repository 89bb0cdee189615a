//! What happens when the engine itself stops, is killed or has no room; and kind on our image. On engines of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Group;
use crate::harness::chance;
use crate::harness::cluster::Cluster;
use crate::harness::engine::{build_registry, in_path, newest_image, script};
use crate::harness::run::{Output, ensure, run};
use crate::scenarios::platforms;

mod inside;

/// Engines that are stopped, killed and filled.
pub const ENGINE: Group = Group {
    name: "engine",
    environment: &[],
    create: can_be_made,
    together: &[],
    scenarios: &[
        ("restart", restart),
        ("full", full),
        ("gone", gone),
        ("plug", plug),
        ("hangs", hangs),
        ("dind", dind),
        ("inside", inside::inside),
        ("kind", kind),
        ("store", store),
        ("settings", settings),
    ],
};

/// kind's release whose images and commands these tests know.
const KIND: &str = "v0.33.0";

fn can_be_made(_: &Cluster) -> Result<(), String> {
    for program in ["unshare", "dockerd", "jq"] {
        ensure(in_path(program).is_some(), || format!("an engine of its own needs {program}"))?;
    }
    Ok(())
}

/// After a restart of the engine the same cluster is there, with its data and its addresses, and the shared registry.
fn restart(cluster: &Cluster) -> Result<(), String> {
    build_registry()?;
    let registry = newest_image("coracle/registry")?;
    script(cluster, "scenarios/engine/restart.sh", &[Path::new(&registry)]).map(drop)
}

/// A disk without room, and one that fills up meanwhile.
fn full(cluster: &Cluster) -> Result<(), String> {
    script(cluster, "scenarios/engine/full.sh", &[]).map(drop)
}

/// An engine that is killed or stopped at each step that waits.
fn gone(cluster: &Cluster) -> Result<(), String> {
    script(cluster, "scenarios/engine/gone.sh", &[]).map(drop)
}

/// The host loses its power: what was not on the disk is gone, and everything that was acknowledged is there.
fn plug(cluster: &Cluster) -> Result<(), String> {
    for program in ["perl", "ip", "iptables"] {
        ensure(in_path(program).is_some(), || format!("pulling the plug needs {program}"))?;
    }
    let rounds = chance::rounds(1, 10).to_string();
    let said = script(cluster, "scenarios/engine/plug.sh", &[Path::new(&rounds)])?;
    said.lines().filter(|line| line.starts_with("round ")).for_each(|line| println!("        {line}"));
    Ok(())
}

/// Settings of the engine and routes of its host, which nodes replace or `create` tells.
fn settings(cluster: &Cluster) -> Result<(), String> {
    script(cluster, "scenarios/engine/settings.sh", &[]).map(drop)
}

/// An engine that takes connections and does not answer any more.
fn hangs(cluster: &Cluster) -> Result<(), String> {
    script(cluster, "scenarios/engine/hangs.sh", &[]).map(drop)
}

/// An engine with TLS in another network, as a job of GitLab has it.
fn dind(cluster: &Cluster) -> Result<(), String> {
    for program in ["openssl", "ip"] {
        ensure(in_path(program).is_some(), || format!("an engine in another network needs {program}"))?;
    }
    script(cluster, "scenarios/engine/dind.sh", &[]).map(drop)
}

/// kind boots our image as it boots its own.
fn kind(cluster: &Cluster) -> Result<(), String> {
    let Some(kind) = find_kind()? else {
        println!("        skipped: there is neither kind {KIND} nor Go to install it with");
        return Ok(());
    };
    script(cluster, "scenarios/engine/kind.sh", &[&kind]).map(drop)
}

/// An engine with containerd's image store, which is the usual one since Docker 29.
fn store(cluster: &Cluster) -> Result<(), String> {
    let cache = std::env::home_dir().unwrap_or_else(std::env::temp_dir).join(".cache/coracle/test-engines");
    let archives = ["image.tar", "changed.tar"].map(|name| cluster.home.join(name));
    for (archive, last) in archives.iter().zip(["three", "four"]) {
        platforms::write_archive(archive, "t-accept-store-app:1", &["one", "two", last])?;
    }
    // Made outside of the namespaces, which have no network.
    let root = cache.join("debian-13-buildx.tar");
    let mut make =
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/scenarios/engine/store-root.sh"));
    make.arg(&root);
    run(make, None, Duration::from_secs(600))?.ok()?;
    script(cluster, "scenarios/engine/store.sh", &[&root, &archives[0], &archives[1]]).map(drop)
}

/// The `kind` of the user when it is the right one, else one that is installed once for these tests.
fn find_kind() -> Result<Option<PathBuf>, String> {
    let is_right = |file: &Path| {
        let mut command = Command::new(file);
        command.args(["version", "--quiet"]);
        let version = run(command, None, Duration::from_secs(20)).and_then(Output::ok);
        version.is_ok_and(|version| version.trim().trim_start_matches('v') == KIND.trim_start_matches('v'))
    };
    let tools = std::env::home_dir().unwrap_or_else(std::env::temp_dir).join(".cache/coracle/test-tools");
    if let Some(kind) = in_path("kind").into_iter().chain([tools.join("kind")]).find(|file| is_right(file)) {
        return Ok(Some(kind));
    }
    if in_path("go").is_none() {
        return Ok(None);
    }
    let mut install = Command::new("go");
    install.args(["install", &format!("sigs.k8s.io/kind@{KIND}")]).env("GOBIN", &tools).env("CGO_ENABLED", "0");
    match run(install, None, Duration::from_secs(400))?.ok() {
        Ok(_) => Ok(Some(tools.join("kind"))),
        Err(error) => {
            println!("        kind cannot be installed: {error}");
            Ok(None)
        }
    }
}
