//! Waiting with an eye on the nodes: what will never come up ends the wait early, with the reason.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cluster::health::diagnose;
use crate::cluster::run::Run;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::kubernetes::Client;
use crate::ui::Step;

/// Pause between two diagnoses.
const DIAGNOSIS_INTERVAL: Duration = Duration::from_secs(3);

/// Does `work`, and ends early if one of the nodes or a component will never come up.
pub async fn watched<T>(run: &Run, nodes: &[String], step: &Step, work: impl Future<Output = Result<T>>) -> Result<T> {
    let result = tokio::select! {
        result = work => result,
        error = failure(&*run.engine, nodes) => return Err(error),
    };
    match result {
        Err(error) if Instant::now() >= run.deadline => {
            step.detail("asking", "the nodes for the reason");
            Err(explained(&*run.engine, nodes, error).await)
        }
        other => other,
    }
}

/// Waits for a failure that one of the nodes reports twice: a component that failed once while another one started gets its
/// second chance.
async fn failure(engine: &dyn Engine, nodes: &[String]) -> Error {
    let mut suspected = None;
    loop {
        sleep(DIAGNOSIS_INTERVAL).await;
        for node in nodes {
            let Some(error) = diagnose::find_failure(engine, node).await else { continue };
            if suspected.replace(error.message().to_owned()).is_some_and(|message| message == error.message()) {
                return error;
            }
        }
    }
}

/// The failure of a node or component that explains a missed deadline, else the error with a hint.
async fn explained(engine: &dyn Engine, nodes: &[String], error: Error) -> Error {
    for node in nodes {
        if let Some(cause) = diagnose::find_failure(engine, node).await {
            return cause;
        }
    }
    error.hint("give it more time with `--wait 10m`, or keep the nodes with `--retain` and read `coracle export logs`")
}

/// Whether the API answers `GET /livez`.
pub async fn is_alive(client: &Client) -> bool {
    client.get("/livez").await.is_ok()
}
