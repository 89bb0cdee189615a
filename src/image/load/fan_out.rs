//! One source, many nodes: what a source reads once is sent to every node that lacks it, in bounded memory.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use coracle_shared::wire::{self, Image, Layer, Message, Placed};
use futures_util::stream;
use tokio::sync::mpsc;

use crate::engine::ByteStream;
use crate::error::{Code, Error, Result};

/// Bytes handed on at once.
const CHUNK: usize = 256 << 10;
/// Chunks that a node may lag behind the fastest one.
const CHUNKS_AHEAD: usize = 8;

/// Has the layers of images, and can read them once.
pub(crate) trait Source: Send {
    /// Hands on what the nodes lack: layers in any order, then each image. Blocks.
    fn send(self: Box<Self>, fan_out: &mut FanOut) -> Result<()>;
}

/// What a node does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Layers, by the digest of their unpacked bytes.
    pub layers: BTreeSet<String>,
    /// Images, by the ID that was asked for.
    pub images: BTreeSet<String>,
}

/// The end at which a source hands on what it reads.
pub(crate) struct FanOut {
    nodes: Vec<NodeSender>,
    abandoned: Arc<AtomicBool>,
    /// The images that were sent.
    images: Vec<Image>,
}

struct NodeSender {
    sender: mpsc::Sender<io::Result<Bytes>>,
    missing: Missing,
    /// Takes the layer that is being sent.
    takes: bool,
}

/// A node's end, and how many bytes have left it.
pub(crate) struct NodeStream {
    /// The bytes, for the engine.
    pub stream: ByteStream,
    /// Bytes read so far.
    pub sent: Arc<AtomicU64>,
}

impl FanOut {
    /// One end for nodes that lack this, and the other end of each.
    pub(crate) fn new(missing: impl IntoIterator<Item = Missing>) -> (Self, Vec<NodeStream>) {
        let (nodes, streams) = missing.into_iter().map(channel).unzip();
        (Self { nodes, abandoned: Arc::default(), images: Vec::new() }, streams)
    }

    /// Becomes true when no node reads any longer.
    pub(crate) fn abandoned(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandoned)
    }

    /// Sends a layer to the nodes that lack it, and to all if it is not known which one it is.
    pub(crate) fn layer(&mut self, layer: &Layer, content: &mut dyn Read) -> io::Result<()> {
        for node in &mut self.nodes {
            node.takes = match &layer.diff_id {
                // Once is enough, even if the source has it twice.
                Some(diff_id) => node.missing.layers.remove(diff_id),
                None => !node.missing.layers.is_empty(),
            };
        }
        if !self.nodes.iter().any(|node| node.takes) {
            return Ok(());
        }
        self.message(&Message::Layer(layer.clone()))?;
        loop {
            let chunk = chunk(content)?;
            let is_last = chunk.len() <= 4;
            self.send(&chunk)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Tells the nodes that lack a layer where they have its files.
    pub(crate) fn linked(&mut self, layer: &Placed) -> io::Result<()> {
        for node in &mut self.nodes {
            node.takes = node.missing.layers.remove(&layer.diff_id);
        }
        self.message(&Message::Linked(layer.clone()))
    }

    /// Tells the nodes that lack an image that its layers were sent.
    pub(crate) fn image(&mut self, image: &Image) -> io::Result<()> {
        self.images.push(image.clone());
        for node in &mut self.nodes {
            node.takes = node.missing.images.remove(&image.id);
        }
        self.message(&Message::Image(image.clone()))
    }

    /// Whether every node was sent the images that it lacks.
    pub(crate) fn is_complete(&self) -> bool {
        self.nodes.iter().all(|node| node.missing.images.is_empty())
    }

    /// Tells all nodes that everything was sent, and returns the images that were.
    pub(crate) fn commit(mut self) -> io::Result<Vec<Image>> {
        self.nodes.iter_mut().for_each(|node| node.takes = true);
        self.message(&Message::Commit)?;
        Ok(self.images)
    }

    fn message(&mut self, order: &Message) -> io::Result<()> {
        let mut line = Vec::new();
        wire::send(&mut line, order)?;
        self.send(&line.into())
    }

    fn send(&mut self, bytes: &Bytes) -> io::Result<()> {
        // A node that failed has dropped its end; the others continue.
        self.nodes.retain(|node| !node.takes || node.sender.blocking_send(Ok(bytes.clone())).is_ok());
        if self.nodes.is_empty() {
            self.abandoned.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

/// The nodes went away while something was sent.
pub(crate) fn not_sent(source: &io::Error) -> Error {
    Error::new(Code::LoadFailed, "cannot send the images").with_cause(source)
}

/// The next chunk with its length before it, as full as it can be; the source is read directly into it.
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

fn channel(missing: Missing) -> (NodeSender, NodeStream) {
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
    (NodeSender { sender, missing, takes: false }, NodeStream { stream: Pin::from(Box::new(stream)), sent })
}

#[cfg(test)]
mod tests {
    use coracle_shared::content::Packing;
    use futures_util::StreamExt;

    use super::*;

    fn lacking(layers: &[&str]) -> Missing {
        Missing { layers: layers.iter().map(|layer| (*layer).to_owned()).collect(), ..Missing::default() }
    }

    #[test]
    fn a_layer_goes_to_the_nodes_that_lack_it_and_once() {
        let (mut fan_out, mut streams) = FanOut::new([lacking(&["one", "two"]), lacking(&["two"]), lacking(&[])]);
        // The other end is dropped: a node that goes away does not stop the others.
        drop(streams.remove(1));
        let job = std::thread::spawn(move || {
            for diff_id in [Some("one"), Some("two"), Some("two"), Some("three"), None] {
                let layer = Layer { diff_id: diff_id.map(str::to_owned), packing: Packing::Plain };
                fan_out.layer(&layer, &mut &b"hello"[..]).unwrap();
            }
            fan_out.commit().unwrap();
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut received = streams.into_iter().map(|stream| {
            let chunks = runtime.block_on(stream.stream.map(|chunk| chunk.unwrap().to_vec()).collect::<Vec<_>>());
            String::from_utf8_lossy(&chunks.concat()).into_owned()
        });
        let first = received.next().unwrap();
        assert_eq!(["one", "two", "three"].map(|layer| first.matches(layer).count()), [1, 1, 0]);
        assert_eq!(first.matches("\0\0\0\u{5}hello\0\0\0\0").count(), 2);
        assert_eq!(received.next().unwrap(), "\"commit\"\n");
        job.join().unwrap();
    }
}
