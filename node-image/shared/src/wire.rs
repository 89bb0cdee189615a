//! The messages between the command and its programs in nodes while images are loaded.
//!
//! Messages are JSON, one to a line. After a [`Order::Layer`] come the layer's bytes in chunks: a length (32 bits, the
//! highest byte first) and so many bytes. Length 0 ends the layer.

use std::io::{self, BufRead, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::content::{Manifest, Packing};

/// Raised when two sides of different versions would misunderstand each other.
pub const VERSION: u32 = 1;
/// The longest message; a configuration or a manifest is in one.
const MAX_MESSAGE: u64 = 16 << 20;
/// The longest chunk.
const MAX_CHUNK: u32 = 4 << 20;

/// What the receiver in a node is told, and what the reader of an engine's store says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// First of all: what the node shall have. The receiver answers with its [`Answer::State`].
    Want(Want),
    /// A layer, whose chunks follow.
    Layer(Layer),
    /// An image, whose layers the node has or has been sent.
    Image(Image),
    /// Names for an image that the node has.
    Name(Name),
    /// Everything was sent: make it visible.
    Commit,
}

/// What a node shall have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// [`VERSION`] of who asks.
    pub version: u32,
    /// The images.
    pub images: Vec<Wanted>,
}

/// An image that a node shall have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Image ID, as its source has it: the digest of the configuration, or of a manifest or an index.
    pub id: String,
    /// Full names; none when any name will do.
    pub names: Vec<String>,
    /// Digests of its unpacked layers, lowest first.
    pub diff_ids: Vec<String>,
}

/// What the reader of an engine's store is asked for. It answers with [`Answer::Found`], then sends the layers and images
/// as a receiver takes them, or with [`Answer::Failed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// [`VERSION`] of who asks.
    pub version: u32,
    /// The images.
    pub images: Vec<Wanted>,
    /// Digests of the unpacked layers that are to be sent.
    pub layers: Vec<String>,
}

/// A layer that is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of it unpacked; unknown where the source tells it after the bytes.
    pub diff_id: Option<String>,
    /// How it is packed.
    pub packing: Packing,
}

/// An image whose layers are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// [`Wanted::id`] of the image; remembered, so that the same one is known the next time.
    pub id: String,
    /// Full names.
    pub names: Vec<String>,
    /// The configuration, byte by byte.
    pub config: String,
    /// The manifest, byte by byte. Where the source has none the node writes one.
    pub manifest: Option<Manifest>,
}

/// Names for an image that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// [`Wanted::id`] of the image.
    pub id: String,
    /// Full names.
    pub names: Vec<String>,
}

/// What a program in a node says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What the node has of the images that are wanted, in their order.
    State(Vec<Had>),
    /// All that a reader was asked for is there, with so many bytes.
    Found(u64),
    /// Everything is visible.
    Done(Vec<Stored>),
    /// Nothing of what was sent is in the node.
    Failed(Failure),
}

/// What a node has of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Had {
    /// Digest of its configuration if the whole image is there, under whatever name.
    pub image: Option<String>,
    /// Names that it does not have, or that another image has.
    pub lacks: Vec<String>,
    /// Those of them that another image has.
    pub moved: Vec<String>,
    /// How many of its lowest layers are there.
    pub layers: usize,
}

/// An image that is visible now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// [`Wanted::id`] of the image.
    pub id: String,
    /// Digest of its configuration, which is the ID that the kubelet knows.
    pub image: String,
    /// Names that it has now.
    pub names: Vec<String>,
}

/// Why nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it is.
    pub reason: Reason,
    /// What happened, on one line.
    pub message: String,
}

/// Kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// There is no space left.
    DiskFull,
    /// What was sent is not what its digest says, or no layer.
    Damaged,
    /// The program is of another version than who asks.
    Version,
    /// The source cannot be read in this way; another may do.
    Unreadable,
    /// Anything else.
    Other,
}

/// Writes a message.
pub fn send(target: &mut (impl Write + ?Sized), message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    target.write_all(&line)
}

/// Reads a message; nothing at the end of the stream.
pub fn receive<T: DeserializeOwned>(source: &mut (impl BufRead + ?Sized)) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    source.take(MAX_MESSAGE).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// What precedes a chunk of this many bytes; 0 ends the layer.
pub fn chunk_head(length: usize) -> io::Result<[u8; 4]> {
    let length = u32::try_from(length).ok().filter(|length| *length <= MAX_CHUNK);
    Ok(length.ok_or(io::ErrorKind::InvalidInput)?.to_be_bytes())
}

/// Reads the bytes of one layer out of its chunks.
#[derive(Debug)]
pub struct Chunks<'a, R: ?Sized> {
    source: &'a mut R,
    left: u32,
    ended: bool,
}

impl<'a, R: Read + ?Sized> Chunks<'a, R> {
    /// The layer whose chunks come next.
    pub fn new(source: &'a mut R) -> Self {
        Self { source, left: 0, ended: false }
    }
}

impl<R: Read + ?Sized> Read for Chunks<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended && !buffer.is_empty() {
            let mut length = [0; 4];
            self.source.read_exact(&mut length)?;
            match u32::from_be_bytes(length) {
                0 => self.ended = true,
                length if length > MAX_CHUNK => return Err(io::ErrorKind::InvalidData.into()),
                length => self.left = length,
            }
        }
        if self.ended {
            return Ok(0);
        }
        let wanted = buffer.len().min(self.left as usize);
        let count = self.source.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // At most `left`, by the length of the slice.
        self.left -= u32::try_from(count).unwrap_or(self.left);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_arrives_as_it_was_sent_and_messages_go_on_after_it() {
        let layer = Order::Layer(Layer { diff_id: None, packing: Packing::Gzip });
        let mut stream = Vec::new();
        send(&mut stream, &layer).unwrap();
        for chunk in [&b"one\n"[..], b"{two}", b""] {
            stream.extend_from_slice(&chunk_head(chunk.len()).unwrap());
            stream.extend_from_slice(chunk);
        }
        send(&mut stream, &Order::Commit).unwrap();
        let mut source = stream.as_slice();
        assert_eq!(receive::<Order>(&mut source).unwrap(), Some(layer));
        let mut bytes = Vec::new();
        Chunks::new(&mut source).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"one\n{two}");
        assert_eq!(receive(&mut source).unwrap(), Some(Order::Commit));
        assert_eq!(receive::<Order>(&mut source).unwrap(), None);
    }

    #[test]
    fn what_is_cut_off_is_not_taken_for_the_end() {
        let stream = b"\0\0\0\x03one";
        for mut cut in [&stream[..], &stream[..2], &stream[..5]] {
            let error = Chunks::new(&mut cut).read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(receive::<Order>(&mut &b"{\"layer\""[..]).is_err());
    }
}
