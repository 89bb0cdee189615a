//! Nothing stays: not after a failure, a panic or Ctrl-C, and not from a run that was killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::run::{docker, docker_output, run};

/// How names of clusters, containers, networks and images of this test begin.
pub const PREFIX: &str = "t-accept-";
/// Leftovers that are younger may belong to a run that is still going on.
const LEFTOVER_AGE: time::Duration = time::Duration::hours(1);

static CLUSTERS: Mutex<Vec<(String, PathBuf)>> = Mutex::new(Vec::new());
static OBJECTS: Mutex<Vec<(&'static str, String)>> = Mutex::new(Vec::new());

/// Notes a cluster and its home directory.
pub fn register(cluster: &str, home: &Path) {
    CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner).push((cluster.to_owned(), home.to_owned()));
}

/// Notes an object of the engine: `container`, `volume`, `network` or `image`.
pub fn register_object(kind: &'static str, name: &str) {
    OBJECTS.lock().unwrap_or_else(PoisonError::into_inner).push((kind, name.to_owned()));
}

/// Deletes a cluster without touching any kubeconfig.
fn delete(cluster: &str) {
    let nowhere = std::env::temp_dir().join(format!("{cluster}.nowhere"));
    let mut command = Command::new(super::coracle());
    command.args(["delete", "cluster", "--quiet", "--name", cluster, "--kubeconfig"]).arg(nowhere);
    match run(command, None, Duration::from_secs(120)) {
        Ok(output) if output.code != 0 => eprintln!("cleaning up: {}", output.told()),
        Ok(_) => {}
        Err(error) => eprintln!("cleaning up: {error}"),
    }
}

/// Removes a cluster and its home directory now.
pub fn cluster(name: &str) {
    let mut clusters = CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(index) = clusters.iter().position(|(cluster, _)| cluster == name) else { return };
    let (name, home) = clusters.remove(index);
    delete(&name);
    let _ = std::fs::remove_dir_all(home);
}

/// Removes everything that was noted.
pub fn all() {
    loop {
        let next = CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner).first().map(|(name, _)| name.clone());
        let Some(name) = next else { break };
        cluster(&name);
    }
    // Containers hold networks and volumes: the last ones noted go first.
    let objects = std::mem::take(&mut *OBJECTS.lock().unwrap_or_else(PoisonError::into_inner));
    for (kind, name) in objects.into_iter().rev() {
        let force = ["container", "volume", "image"].contains(&kind).then_some("--force");
        let arguments: Vec<&str> = [kind, "rm"].into_iter().chain(force).chain([name.as_str()]).collect();
        let _ = docker_output(&arguments);
    }
}

/// Removes what runs that were killed have left an hour ago or earlier.
pub fn leftovers() -> Result<(), String> {
    let format = "{{.Names}}\t{{.Label \"dev.coracle.cluster\"}}";
    let filter = format!("name=^{PREFIX}");
    let mut done: Vec<String> = Vec::new();
    for line in docker(&["ps", "--all", "--filter", &filter, "--format", format])?.lines() {
        let (container, cluster) = line.split_once('\t').unwrap_or((line, ""));
        let created = docker(&["inspect", "--format", "{{.Created}}", container])?;
        let created = time::OffsetDateTime::parse(created.trim(), &time::format_description::well_known::Rfc3339)
            .map_err(|error| format!("{container} was created at `{created}`: {error}"))?;
        if time::OffsetDateTime::now_utc() - created < LEFTOVER_AGE || done.iter().any(|name| name == cluster) {
            continue;
        }
        println!("removing a leftover of an earlier run: {line}");
        if cluster.is_empty() {
            docker(&["rm", "--force", "--volumes", container])?;
        } else {
            delete(cluster);
            done.push(cluster.to_owned());
        }
    }
    Ok(())
}

/// Cleans up on Ctrl-C and SIGTERM too.
pub fn on_signals() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut term) = signal(SignalKind::terminate()) else { return };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
        });
        eprintln!("interrupted, cleaning up");
        all();
        std::process::exit(130);
    });
}
