//! One source, many nodes: what a source reads once goes to every node that lacks it, in bounded memory.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use coracle_shared::wire::{self, Image, Layer, Order};
use futures_util::stream;
use tokio::sync::mpsc;

use crate::engine::ByteStream;
use crate::error::Result;

/// Bytes handed on at once.
const CHUNK: usize = 256 << 10;
/// Chunks that a node may lag behind the fastest one.
const CHUNKS_AHEAD: usize = 8;

/// Something that has the layers of images, and can read them once.
pub(crate) trait Feed: Send {
    /// Hands the hub what its nodes lack: layers in any order, then each image. Blocks.
    fn feed(self: Box<Self>, hub: &mut Hub) -> Result<()>;
}

/// What a node lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lacks {
    /// Layers, by the digest of their unpacked bytes.
    pub layers: BTreeSet<String>,
    /// Images, by the ID that was asked for.
    pub images: BTreeSet<String>,
}

/// The end at which a source hands on what it reads.
pub(crate) struct Hub {
    nodes: Vec<Inlet>,
    abandoned: Arc<AtomicBool>,
}

struct Inlet {
    sender: mpsc::Sender<io::Result<Bytes>>,
    lacks: Lacks,
    /// Takes the layer that is being sent.
    takes: bool,
}

/// A node's end, and how many bytes have left it.
pub(crate) struct Outlet {
    /// The bytes, for the engine.
    pub stream: ByteStream,
    /// Bytes read so far.
    pub sent: Arc<AtomicU64>,
}

impl Hub {
    /// A hub for nodes that lack this.
    pub(crate) fn new(lacks: impl IntoIterator<Item = Lacks>) -> (Self, Vec<Outlet>) {
        let (nodes, outlets) = lacks.into_iter().map(outlet).unzip();
        (Self { nodes, abandoned: Arc::default() }, outlets)
    }

    /// Becomes true when no node listens any more.
    pub(crate) fn abandoned(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandoned)
    }

    /// Sends a layer to the nodes that lack it, and to all when nobody knows which one it is.
    pub(crate) fn layer(&mut self, layer: &Layer, content: &mut dyn Read) -> io::Result<()> {
        for node in &mut self.nodes {
            node.takes = match &layer.diff_id {
                // Once is enough, also when the source has it twice.
                Some(diff_id) => node.lacks.layers.remove(diff_id),
                None => !node.lacks.layers.is_empty(),
            };
        }
        if !self.nodes.iter().any(|node| node.takes) {
            return Ok(());
        }
        self.message(&Order::Layer(layer.clone()))?;
        loop {
            let chunk = chunk(content)?;
            let ended = chunk.len() <= 4;
            self.send(&chunk)?;
            if ended {
                return Ok(());
            }
        }
    }

    /// Tells the nodes that lack an image that its layers were sent.
    pub(crate) fn image(&mut self, image: &Image) -> io::Result<()> {
        for node in &mut self.nodes {
            node.takes = node.lacks.images.remove(&image.id);
        }
        self.message(&Order::Image(image.clone()))
    }

    /// Whether every node was sent the images that it lacks.
    pub(crate) fn is_complete(&self) -> bool {
        self.nodes.iter().all(|node| node.lacks.images.is_empty())
    }

    /// Tells all nodes that everything was sent.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        self.nodes.iter_mut().for_each(|node| node.takes = true);
        self.message(&Order::Commit)
    }

    fn message(&mut self, order: &Order) -> io::Result<()> {
        let mut line = Vec::new();
        wire::send(&mut line, order)?;
        self.send(&line.into())
    }

    fn send(&mut self, bytes: &Bytes) -> io::Result<()> {
        // A node that failed has dropped its end; the others go on.
        self.nodes.retain(|node| !node.takes || node.sender.blocking_send(Ok(bytes.clone())).is_ok());
        if self.nodes.is_empty() {
            self.abandoned.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

/// The next chunk with its length before it, as full as it can be; the source is read right into it.
fn chunk(content: &mut dyn Read) -> io::Result<Bytes> {
    let mut chunk = vec![0; 4 + CHUNK];
    let mut length = 0;
    while length < CHUNK {
        match content.read(&mut chunk[4 + length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(source),
        }
    }
    chunk.truncate(4 + length);
    chunk[..4].copy_from_slice(&wire::chunk_head(length)?);
    Ok(chunk.into())
}

fn outlet(lacks: Lacks) -> (Inlet, Outlet) {
    let (sender, mut receiver) = mpsc::channel(CHUNKS_AHEAD);
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let stream = stream::poll_fn(move |context| {
        let next = receiver.poll_recv(context);
        if let std::task::Poll::Ready(Some(Ok(chunk))) = &next {
            let chunk: &Bytes = chunk;
            count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        next
    });
    (Inlet { sender, lacks, takes: false }, Outlet { stream: Pin::from(Box::new(stream)), sent })
}
