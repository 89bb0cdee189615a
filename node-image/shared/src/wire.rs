//! The messages between the command and its programs in nodes while images are loaded.
//!
//! Messages are JSON, one to a line. After a [`Message::Layer`] come the layer's bytes in chunks: a length (32 bits, the
//! highest byte first) and that many bytes. Length 0 ends the layer.

use std::io::{self, BufRead, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::content::{Manifest, Packing};
use crate::paths::STAGING;

/// Raised when two sides of different versions would misunderstand each other.
pub const VERSION: u32 = 1;
/// The longest message; a configuration or a manifest is in one.
const MAX_MESSAGE: u64 = 16 << 20;
/// The longest chunk.
const MAX_CHUNK: u32 = 4 << 20;

/// What the receiver in a node gets, and what the reader of an engine's store sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// First of all: what the node should have. The receiver answers with its [`Answer::State`].
    #[serde(rename = "want")]
    Request(Request),
    /// A layer, whose chunks follow.
    Layer(Layer),
    /// A layer whose files are already in the node, in a directory that it may take.
    Linked(Placed),
    /// An image, whose layers the node has or has been sent.
    Image(Image),
    /// Names for an image that the node has.
    Name(Name),
    /// Everything was sent: make it visible.
    Commit,
}

/// What a node should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the side that asks.
    pub version: u32,
    /// The images.
    pub images: Vec<ImageRequest>,
}

/// An image that a node should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRequest {
    /// Image ID as its source has it: the digest of the configuration, or of a manifest or an index.
    pub id: String,
    /// Full names; empty if any name will do.
    pub names: Vec<String>,
    /// Digests of its unpacked layers, lowest first.
    pub diff_ids: Vec<String>,
}

/// What the reader of an engine's store is asked for. It answers with [`Answer::Found`], then sends the layers and images
/// as a receiver takes them, or with [`Answer::Failed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// [`VERSION`] of the side that asks.
    pub version: u32,
    /// The images.
    pub images: Vec<ImageRequest>,
    /// Digests of the unpacked layers that are to be sent.
    pub layers: Vec<String>,
}

/// What the helper is asked for that links layers of one node into other nodes of the same machine: each layer becomes the
/// directory [`LinkRequest::directory`] of each of the others. It answers with [`Answer::Done`] when all are there, and what
/// the nodes have not taken is removed when its input ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRequest {
    /// [`VERSION`] of the side that asks.
    pub version: u32,
    /// The node that has the layers: the directory of its `/var`, among the engine's volumes.
    pub from: String,
    /// The same of the nodes that get them.
    pub to: Vec<String>,
    /// A name that no other request has.
    pub name: String,
    /// The files of each layer in the first node, as [`Placed::directory`].
    pub layers: Vec<String>,
}

impl LinkRequest {
    /// Where a layer is in the nodes that got it.
    pub fn directory(&self, index: usize) -> String {
        format!("{STAGING}/{}/{index}", self.name)
    }
}

/// A layer in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Digest of it unpacked.
    pub diff_id: String,
    /// Its files, in the node.
    pub directory: String,
    /// The size of its tar, bytes.
    pub size: u64,
}

/// A layer whose chunks follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of it unpacked; unknown where the source gives it only after the bytes.
    pub diff_id: Option<String>,
    /// How it is packed.
    pub packing: Packing,
}

/// An image, whose layers the node has or was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// [`ImageRequest::id`] of the image; the node remembers it, so that it recognizes the image the next time.
    pub id: String,
    /// Full names.
    pub names: Vec<String>,
    /// The configuration, with every byte as it is.
    pub config: String,
    /// The manifest; where the source has none, the node writes one.
    pub manifest: Option<Manifest>,
}

/// Names for an image that the node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// [`ImageRequest::id`] of the image.
    pub id: String,
    /// Full names.
    pub names: Vec<String>,
}

/// What a program in a node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What the node has of the requested images, in the order of the request.
    State(Vec<ImageState>),
    /// Everything that the reader was asked for exists, and has so many bytes.
    Found(u64),
    /// Everything is stored and visible.
    Done(Vec<Stored>),
    /// Nothing that was sent is stored in the node.
    Failed(Failure),
}

/// What a node has of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageState {
    /// Digest of its configuration if the node has the whole image, under whatever name.
    pub image: Option<String>,
    /// Names that no image has, or another one.
    pub lacks: Vec<String>,
    /// Those of them that another image has now.
    pub moved: Vec<String>,
    /// How many of its lowest layers the node has.
    pub layers: usize,
}

/// An image that is visible now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// [`ImageRequest::id`] of the image.
    pub id: String,
    /// Digest of its configuration: the ID that the kubelet knows.
    pub image: String,
    /// Its names.
    pub names: Vec<String>,
    /// Its layers that were sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Placed>,
}

/// Why nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub reason: Reason,
    /// What happened, in one line.
    pub message: String,
}

/// Kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No space is left.
    DiskFull,
    /// What was sent does not match its digest, or is no layer.
    Damaged,
    /// The program has another version than the side that asks.
    Version,
    /// The source cannot be read in this way; another way may work.
    Unreadable,
    /// Anything else.
    Other,
}

pub fn send(target: &mut (impl Write + ?Sized), message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    target.write_all(&line)
}

/// Reads a message; `None` at the end of the stream.
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
    fn a_layer_arrives_as_it_was_sent_and_messages_continue_after_it() {
        let layer = Message::Layer(Layer { diff_id: None, packing: Packing::Gzip });
        let mut stream = Vec::new();
        send(&mut stream, &layer).unwrap();
        for chunk in [&b"one\n"[..], b"{two}", b""] {
            stream.extend_from_slice(&chunk_head(chunk.len()).unwrap());
            stream.extend_from_slice(chunk);
        }
        send(&mut stream, &Message::Commit).unwrap();
        let mut source = stream.as_slice();
        assert_eq!(receive::<Message>(&mut source).unwrap(), Some(layer));
        let mut bytes = Vec::new();
        Chunks::new(&mut source).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"one\n{two}");
        assert_eq!(receive(&mut source).unwrap(), Some(Message::Commit));
        assert_eq!(receive::<Message>(&mut source).unwrap(), None);
    }

    #[test]
    fn programs_of_older_nodes_understand_the_messages() {
        let image = ImageRequest { id: "i".to_owned(), names: vec!["n".to_owned()], diff_ids: vec!["d".to_owned()] };
        let request = Message::Request(Request { version: VERSION, images: vec![image] });
        let mut line = Vec::new();
        send(&mut line, &request).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"want\":{\"version\":1,\"images\":[{\"id\":\"i\",\"names\":[\"n\"],\"diff_ids\":[\"d\"]}]}}\n"
        );
        let state = ImageState { image: None, lacks: Vec::new(), moved: Vec::new(), layers: 2 };
        let mut line = Vec::new();
        send(&mut line, &Answer::State(vec![state])).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"state\":[{\"image\":null,\"lacks\":[],\"moved\":[],\"layers\":2}]}\n"
        );
    }

    #[test]
    fn what_is_cut_off_is_not_taken_for_the_end() {
        let stream = b"\0\0\0\x03one";
        for mut cut in [&stream[..], &stream[..2], &stream[..5]] {
            let error = Chunks::new(&mut cut).read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(receive::<Message>(&mut &b"{\"layer\""[..]).is_err());
    }
}
