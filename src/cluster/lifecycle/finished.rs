//! Which clusters are finished: `create` says so in every control plane at its end, and one that was killed never did.

use futures_util::future::try_join_all;

use crate::cluster::found::{self, Cluster};
use crate::cluster::upload::write_files;
use crate::config::Role;
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::engine::process::{self, Life};
use crate::error::{Code, Result};
use crate::plan::FileTree;
use crate::plan::labels;

/// The file that says it.
const FINISHED: &str = "/etc/coracle/finished";

/// Says that what this run made is finished, or is meant to stay as it is.
pub(super) async fn mark(engine: &dyn Engine, run: &str) -> Result<()> {
    let made = engine.containers(&[format!("{}={run}", labels::RUN)]).await?;
    let Some(cluster) = found::group(made).pop() else { return Ok(()) };
    let mut files = FileTree::default();
    files.text(FINISHED, format!("{run}\n"));
    let planes = cluster.nodes.iter().filter(|node| node.role == Role::ControlPlane);
    let written = planes.map(async |node| {
        write_files(engine, &node.container.id, &files).await.map_err(|error| error.on_node(&node.name))
    });
    try_join_all(written).await.map(drop)
}

/// What is known of a cluster's creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Creation {
    Finished,
    /// Its process still runs, or another one is at it.
    Running,
    /// Its process was killed.
    Killed,
    /// It is not finished, and its process is not known here.
    Unknown,
}

/// What is known of the creation of a cluster, which has been removed in part perhaps.
pub(super) async fn of(engine: &dyn Engine, cluster: &Cluster) -> Result<Creation> {
    // Nodes that came later have no mark of `create`: where there is one, there was a cluster.
    let marks: Vec<Option<&String>> =
        cluster.nodes.iter().map(|node| node.container.labels.get(labels::PROCESS)).collect();
    if marks.is_empty() || marks.contains(&None) {
        return Ok(Creation::Finished);
    }
    for node in cluster.nodes.iter().filter(|node| node.role == Role::ControlPlane) {
        match read_file(engine, &node.container.id, FINISHED).await {
            Ok(Some(_)) => return Ok(Creation::Finished),
            Ok(None) => {}
            Err(error) if error.code() == Code::EngineUnreachable => return Err(error),
            // Someone is removing the container just now, and the engine its files.
            Err(_) => return Ok(Creation::Running),
        }
    }
    let lives: Vec<Life> = marks.into_iter().flatten().map(|mark| process::life(mark)).collect();
    Ok(if lives.contains(&Life::Lives) {
        Creation::Running
    } else if lives.contains(&Life::Unknown) {
        Creation::Unknown
    } else {
        Creation::Killed
    })
}
