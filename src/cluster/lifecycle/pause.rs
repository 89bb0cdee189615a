//! `pause` and `unpause`: the processes are frozen, and keep their memory.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::cluster::health::back;
use crate::cluster::lifecycle::parts::Parts;
use crate::cluster::run::Run;
use crate::cluster::{access, found, state};
use crate::engine::Engine;
use crate::engine::spec::State;
use crate::error::{Error, Reason, Result};
use crate::ui::Step;

/// How long freezing is tried, and the pause between two attempts.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// Freezes what runs of a cluster, all at once, and returns the names of those containers.
pub async fn pause(engine: &dyn Engine, parts: &Parts, step: &Step) -> Result<Vec<String>> {
    let running: Vec<_> = parts.in_state(State::Running).collect();
    if running.is_empty() && parts.in_state(State::Paused).next().is_none() {
        return Err(state::stopped(&parts.cluster.name));
    }
    let results = join_all(running.iter().map(|container| freeze(engine, &container.id))).await;
    for (container, result) in running.iter().zip(results) {
        result.map_err(|error| explained(error.on_node(&container.name)))?;
        step.detail(&container.name, "paused");
    }
    Ok(running.iter().map(|container| container.name.clone()).collect())
}

/// Freezes a container. With cgroup v1, the kernel gives up on processes that are just being made, and the engine thaws the
/// others: on a busy machine, it takes more than one attempt.
async fn freeze(engine: &dyn Engine, container: &str) -> Result<()> {
    let deadline = Instant::now() + FREEZE_TIMEOUT;
    loop {
        match engine.pause_container(container).await {
            Err(error) if error.reason() == Some(Reason::NotFrozen) && Instant::now() < deadline => sleep(PAUSE).await,
            other => return other,
        }
    }
}

fn explained(error: Error) -> Error {
    if error.reason() == Some(Reason::NotFrozen) {
        return error
            .hint("the machine is too busy to freeze so many processes at once; try again, or use `coracle stop`");
    }
    error
}

/// Lets what is frozen go on, and returns the names of those containers.
pub async fn unpause(engine: &dyn Engine, parts: &Parts, step: &Step) -> Result<Vec<String>> {
    let paused: Vec<_> = parts.in_state(State::Paused).collect();
    let results = join_all(paused.iter().map(|container| engine.unpause_container(&container.id))).await;
    for (container, result) in paused.iter().zip(results) {
        result.map_err(|error| error.on_node(&container.name))?;
        step.detail(&container.name, "runs");
    }
    Ok(paused.iter().map(|container| container.name.clone()).collect())
}

/// Waits until the API server of a cluster that goes on answers.
pub async fn until_answers(run: &Run, parts: &Parts, step: &Step) -> Result<()> {
    let cluster = found::get(&*run.engine, &parts.cluster.name).await?;
    cluster.require_api()?;
    let client = access::client(&*run.engine, &cluster).await?;
    back::until_answers(run, &client, &cluster.node_names(), step).await
}
