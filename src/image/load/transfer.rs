//! Runs one source and many nodes: all of them receive while the source is read, and all have ended when this ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coracle_shared::wire::{self, Image, Message, Name, Stored};
use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::engine::ByteStream;
use crate::engine::finishing::{LastStep, LastSteps};
use crate::error::{Code, Error, Result};
use crate::image::load::fan_out::{FanOut, Missing, Source, not_sent};
use crate::image::load::session::Session;
use crate::image::progress::Progress;

/// How often progress is reported.
const TICK: Duration = Duration::from_millis(100);

/// A node, and what it should get.
pub(crate) struct Receiver {
    pub node: String,
    pub session: Session,
    /// Layers and images that it does not have.
    pub missing: Missing,
    /// Names for images that it has.
    pub names: Vec<Name>,
}

/// What a node received.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub bytes: u64,
    pub layers: usize,
    pub stored: Vec<Stored>,
}

/// What the nodes received, by their names, and the images that were sent to them.
#[derive(Debug, Default)]
pub(crate) struct Transferred {
    pub nodes: BTreeMap<String, Received>,
    pub images: Vec<Image>,
}

/// Unwraps the result of a blocking task.
pub(crate) fn joined<T>(result: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    result
        .map_err(|source| Error::new(Code::LoadFailed, "reading the images failed unexpectedly").with_cause(&source))?
}

/// Runs the source and all nodes that receive from it; returns what each received.
pub(crate) async fn transfer(
    receivers: Vec<Receiver>,
    source: Option<Box<dyn Source>>,
    total: u64,
    progress: Progress<'_>,
) -> Result<Transferred> {
    let (fan_out, streams) = FanOut::new(receivers.iter().map(|receiver| receiver.missing.clone()));
    let abandoned = fan_out.abandoned();
    let counts: Vec<Arc<AtomicU64>> = streams.iter().map(|stream| Arc::clone(&stream.sent)).collect();
    let nodes: Vec<String> = receivers.iter().map(|receiver| receiver.node.clone()).collect();
    let layers: Vec<usize> = receivers.iter().map(|receiver| receiver.missing.layers.len()).collect();
    let report = || {
        for (node, count) in nodes.iter().zip(&counts) {
            let sent = count.load(Ordering::Relaxed);
            progress(node, sent, total.max(sent));
        }
    };
    let sends = receivers.into_iter().zip(streams).map(|(receiver, stream)| async move {
        let messages = name_messages(&receiver.names)?.chain(stream.stream).boxed();
        receiver.session.send(messages).await
    });
    let steps = LastSteps::current();
    let read = tokio::task::spawn_blocking(move || run(source, fan_out, &steps));
    let work = async { tokio::join!(read, join_all(sends)) };
    tokio::pin!(work);
    let mut tick = tokio::time::interval(TICK);
    let (read, sent) = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => report(),
        }
    };
    report();
    let (stored, failure) = first_failure(&nodes, sent);
    match (joined(read), failure) {
        // The source stops when no node reads any longer: the nodes know why.
        (Err(_), Some(failure)) if abandoned.load(Ordering::Relaxed) => Err(failure),
        (Err(error), _) | (Ok(_), Some(error)) => Err(error),
        (Ok((_last, images)), None) => {
            let bytes = counts.iter().map(|count| count.load(Ordering::Relaxed));
            let received = bytes.zip(layers).zip(stored);
            let received = received.map(|((bytes, layers), stored)| Received { bytes, layers, stored });
            Ok(Transferred { nodes: nodes.into_iter().zip(received).collect(), images })
        }
    }
}

/// Runs the source, and returns the images that it sent, and what lasts until the nodes have stored everything, which they
/// cannot take back.
fn run(source: Option<Box<dyn Source>>, mut fan_out: FanOut, steps: &LastSteps) -> Result<(LastStep, Vec<Image>)> {
    if let Some(source) = source {
        source.send(&mut fan_out)?;
    }
    // A source that ends early must not pass for one that had everything.
    if !fan_out.is_complete() {
        return Err(Error::new(Code::LoadFailed, "cannot send the images").because("their source ended too early"));
    }
    let last = steps.begin();
    let images = fan_out.commit().map_err(|source| not_sent(&source))?;
    Ok((last, images))
}

/// Messages that need no source.
fn name_messages(names: &[Name]) -> Result<ByteStream> {
    let mut lines = Vec::new();
    for name in names {
        wire::send(&mut lines, &Message::Name(name.clone())).map_err(|source| not_sent(&source))?;
    }
    Ok(futures_util::stream::once(async move { Ok(Bytes::from(lines)) }).boxed())
}

/// The first node's error, with a hint that lists the nodes that have the images nevertheless.
fn first_failure(nodes: &[String], sent: Vec<Result<Vec<Stored>>>) -> (Vec<Vec<Stored>>, Option<Error>) {
    let done: Vec<&str> =
        nodes.iter().zip(&sent).filter(|(_, result)| result.is_ok()).map(|(node, _)| node.as_str()).collect();
    let mut stored = Vec::new();
    let mut failures = Vec::new();
    for result in sent {
        match result {
            Ok(names) => stored.push(names),
            Err(error) => failures.push(error),
        }
    }
    if failures.is_empty() {
        return (stored, None);
    }
    let others: Vec<String> = failures.iter().skip(1).map(ToString::to_string).collect();
    let first = failures.remove(0).with_lines(others);
    let failure =
        if done.is_empty() { first } else { first.hint(format!("these nodes have the images: {}", done.join(", "))) };
    (stored, Some(failure))
}
