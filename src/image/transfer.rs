//! One source, many nodes: all imports run while the source is read, and all have ended when this ends.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;

use super::load::Progress;
use super::node;
use super::stream::Fan;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// Unwraps the result of a blocking task.
pub(super) fn joined<T>(result: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    result.map_err(|source| Error::new(Code::LoadFailed, "reading the images was interrupted").cause(&source))?
}

/// Runs the sending job and all imports; returns what the job found and the bytes that each node took.
pub(super) async fn transfer<T: Send + 'static>(
    engine: &dyn Engine,
    nodes: &[String],
    total: u64,
    progress: Progress<'_>,
    job: impl FnOnce(Fan) -> Result<T> + Send + 'static,
) -> Result<(T, BTreeMap<String, u64>)> {
    let (fan, outlets) = Fan::new(nodes.len());
    let abandoned = fan.abandoned();
    let counts: Vec<_> = outlets.iter().map(|outlet| outlet.sent.clone()).collect();
    let tell = || {
        for (node, count) in nodes.iter().zip(&counts) {
            let sent = count.load(Ordering::Relaxed);
            progress(node, sent, total.max(sent));
        }
    };
    let imports = nodes.iter().zip(outlets).map(|(node, outlet)| node::import(engine, node, outlet.stream));
    let work = async { tokio::join!(tokio::task::spawn_blocking(move || job(fan)), join_all(imports)) };
    tokio::pin!(work);
    let mut tick = tokio::time::interval(TICK);
    let (sent, imported) = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => tell(),
        }
    };
    tell();
    let failure = first_failure(nodes, imported);
    match (joined(sent), failure) {
        // The sender stops when no node listens any more: the nodes know why.
        (Err(_), Some(failure)) if abandoned.load(Ordering::Relaxed) => Err(failure),
        (Err(error), _) | (Ok(_), Some(error)) => Err(error),
        (Ok(sent), None) => {
            let bytes = counts.iter().map(|count| count.load(Ordering::Relaxed));
            Ok((sent, nodes.iter().cloned().zip(bytes).collect()))
        }
    }
}

/// The first node's error; says which nodes have the images nevertheless.
fn first_failure(nodes: &[String], imported: Vec<Result<()>>) -> Option<Error> {
    let done: Vec<&str> =
        nodes.iter().zip(&imported).filter(|(_, result)| result.is_ok()).map(|(node, _)| node.as_str()).collect();
    let mut failures: Vec<Error> = imported.into_iter().filter_map(Result::err).collect();
    let others: Vec<String> = failures.iter().skip(1).map(ToString::to_string).collect();
    let first = (!failures.is_empty()).then(|| failures.remove(0))?.lines(others);
    Some(if done.is_empty() { first } else { first.hint(format!("these nodes have the images: {}", done.join(", "))) })
}
