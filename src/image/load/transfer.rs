//! One source, many nodes: all of them take while the source is read, and all have ended when this ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coracle_shared::wire::{self, Name, Order, Stored};
use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::engine::ByteStream;
use crate::error::{Code, Error, Result};
use crate::image::load::Progress;
use crate::image::load::hub::{Feed, Hub, Lacks};
use crate::image::load::session::Session;

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// A node, and what it is to get.
pub(crate) struct Receiver {
    pub node: String,
    pub session: Session,
    /// What it lacks of layers and images.
    pub lacks: Lacks,
    /// Names for images that it has.
    pub names: Vec<Name>,
}

/// What a node has now.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub bytes: u64,
    pub layers: usize,
    pub stored: Vec<Stored>,
}

/// Unwraps the result of a blocking task.
pub(crate) fn joined<T>(result: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    result.map_err(|source| Error::new(Code::LoadFailed, "reading the images was interrupted").cause(&source))?
}

/// Runs the source and all nodes that take from it; returns what each took.
pub(crate) async fn transfer(
    receivers: Vec<Receiver>,
    feed: Option<Box<dyn Feed>>,
    total: u64,
    progress: Progress<'_>,
) -> Result<BTreeMap<String, Received>> {
    let (hub, outlets) = Hub::new(receivers.iter().map(|receiver| receiver.lacks.clone()));
    let abandoned = hub.abandoned();
    let counts: Vec<Arc<AtomicU64>> = outlets.iter().map(|outlet| Arc::clone(&outlet.sent)).collect();
    let nodes: Vec<String> = receivers.iter().map(|receiver| receiver.node.clone()).collect();
    let layers: Vec<usize> = receivers.iter().map(|receiver| receiver.lacks.layers.len()).collect();
    let tell = || {
        for (node, count) in nodes.iter().zip(&counts) {
            let sent = count.load(Ordering::Relaxed);
            progress(node, sent, total.max(sent));
        }
    };
    let sends = receivers.into_iter().zip(outlets).map(|(receiver, outlet)| async move {
        let stream = named(&receiver.names)?.chain(outlet.stream).boxed();
        receiver.session.send(stream).await
    });
    let work = async { tokio::join!(tokio::task::spawn_blocking(move || run(feed, hub)), join_all(sends)) };
    tokio::pin!(work);
    let mut tick = tokio::time::interval(TICK);
    let (read, sent) = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => tell(),
        }
    };
    tell();
    let (stored, failure) = first_failure(&nodes, sent);
    match (joined(read), failure) {
        // The source stops when no node listens any more: the nodes know why.
        (Err(_), Some(failure)) if abandoned.load(Ordering::Relaxed) => Err(failure),
        (Err(error), _) | (Ok(()), Some(error)) => Err(error),
        (Ok(()), None) => {
            let bytes = counts.iter().map(|count| count.load(Ordering::Relaxed));
            let received = bytes.zip(layers).zip(stored);
            let received = received.map(|((bytes, layers), stored)| Received { bytes, layers, stored });
            Ok(nodes.into_iter().zip(received).collect())
        }
    }
}

fn run(feed: Option<Box<dyn Feed>>, mut hub: Hub) -> Result<()> {
    if let Some(feed) = feed {
        feed.feed(&mut hub)?;
    }
    // A source that ends early must not pass for one that had everything.
    if !hub.is_complete() {
        return Err(Error::new(Code::LoadFailed, "cannot send the images").because("their source ended too early"));
    }
    hub.commit().map_err(|source| cut(&source))
}

/// The nodes went away.
pub(crate) fn cut(source: &std::io::Error) -> Error {
    Error::new(Code::LoadFailed, "cannot send the images").cause(source)
}

/// Orders that need no source.
fn named(names: &[Name]) -> Result<ByteStream> {
    let mut lines = Vec::new();
    for name in names {
        wire::send(&mut lines, &Order::Name(name.clone())).map_err(|source| cut(&source))?;
    }
    Ok(futures_util::stream::once(async move { Ok(Bytes::from(lines)) }).boxed())
}

/// The first node's error; says which nodes have the images nevertheless.
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
    let first = failures.remove(0).lines(others);
    let told =
        if done.is_empty() { first } else { first.hint(format!("these nodes have the images: {}", done.join(", "))) };
    (stored, Some(told))
}
