//! `stop`: the containers end in an order in which nothing loses what it needs; all data, addresses and ports stay.

use futures_util::future::join_all;

use crate::cluster::lifecycle::parts::{Parts, is_alive};
use crate::engine::Engine;
use crate::engine::spec::{Container, State};
use crate::error::{Code, Error, Result};
use crate::ui::{Step, Ui};

/// How long a container may take to end before it is killed, seconds. systemd ends what is left in a node after 10 s.
const GRACE: i32 = 20;
/// The exit code of what was killed.
const KILLED: i64 = 137;

/// Stops what is alive of the parts, and returns the names of those containers.
pub async fn stop(engine: &dyn Engine, parts: &Parts, step: &Step, ui: &Ui) -> Result<Vec<String>> {
    let mut stopped = Vec::new();
    for stage in parts.to_stop() {
        // Every container is awaited, even after a failure: the next `stop` finds the others stopped.
        let results = join_all(stage.iter().map(|container| stop_container(engine, container, step))).await;
        for (container, killed) in stage.iter().zip(results) {
            if killed? {
                ui.warn(format!(
                    "`{}` did not end within {GRACE} s and was killed; everything that its API server acknowledged is on disk",
                    container.name
                ));
            }
            stopped.push(container.name.clone());
        }
    }
    Ok(stopped)
}

/// Stops a container; returns whether it had to be killed.
async fn stop_container(engine: &dyn Engine, container: &Container, step: &Step) -> Result<bool> {
    step.detail(&container.name, "stopping");
    let work = async {
        if container.state == State::Paused {
            // What is frozen cannot end.
            engine.unpause_container(&container.id).await?;
        }
        engine.stop_container(&container.id, GRACE).await?;
        engine.inspect(&container.id).await
    };
    let ended = work.await.map_err(|error| error.on_node(&container.name))?;
    step.detail(&container.name, "stopped");
    Ok(ended.is_some_and(|ended| !ended.running && ended.exit_code == KILLED))
}

/// Fails if something of the parts still runs, such as because another command has started it meanwhile.
pub async fn require_stopped(engine: &dyn Engine, parts: &Parts) -> Result<()> {
    let now = if parts.nodes.is_empty() {
        Parts::of_cluster(engine, &parts.cluster.name).await?
    } else {
        Parts::of_nodes(engine, Some(&parts.cluster.name), &parts.nodes).await?
    };
    let again = now.to_stop().flatten().find(|container| is_alive(container.state)).map(|found| found.name.clone());
    again.map_or(Ok(()), |name| {
        Err(Error::new(Code::StepFailed, format!("`{name}` runs again"))
            .because("something started it while the others were stopped")
            .hint("run the command again"))
    })
}
