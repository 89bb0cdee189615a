//! Reads images out of the engine's own store, which a helper container has mounted read-only.
//!
//! Anything unexpected is an error, and the command then gets the images from the engine's API. What is read need not be
//! trusted: the node that receives a layer checks its digest.

mod blobs;
mod overlay;
mod rooted;
mod tar_split;
#[cfg(test)]
mod testing;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use blobs::Blobs;
use coracle_shared::content::{Manifest, Packing};
use coracle_shared::paths::{READER_CONTENT, READER_IMAGES, READER_LAYERS};
use coracle_shared::wire::{self, Answer, Failure, Image, ImageRequest, Layer, Message, ReadRequest, Reason};
use overlay::Overlay;
use tar_split::Split;

/// The largest document that registries accept, bytes.
const MAX_JSON: u64 = 4 << 20;
/// Bytes of a layer that are sent at once.
const CHUNK: usize = 256 << 10;

/// Where the helper container has the engine's directories.
struct Places<'a> {
    /// `image/overlay2` of the engine's data root.
    images: &'a Path,
    /// `overlay2` of the engine's data root.
    layers: &'a Path,
    /// containerd's content store.
    content: &'a Path,
}

/// A layer that was found to be readable.
enum Source {
    Split(Split),
    Blob(File, Packing),
}

/// Everything that was requested, before any of it is sent.
struct Found {
    layers: Vec<(String, Source)>,
    images: Vec<Image>,
    bytes: u64,
}

/// Answers the request on standard input, then ends.
pub(super) fn main() -> ExitCode {
    let places = Places {
        images: Path::new(READER_IMAGES),
        layers: Path::new(READER_LAYERS),
        content: Path::new(READER_CONTENT),
    };
    match serve(&places, &mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard output is only for layers.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers one request: sends the requested layers and images, or the reason why not.
fn serve(places: &Places<'_>, input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<()> {
    let Some(reading) = wire::receive::<ReadRequest>(input)? else { return Ok(()) };
    let found = match find(places, &reading) {
        Ok(found) => found,
        Err(error) => {
            let failure = Failure { reason: Reason::Unreadable, message: error.to_string() };
            wire::send(output, &Answer::Failed(failure))?;
            return output.flush();
        }
    };
    wire::send(output, &Answer::Found(found.bytes))?;
    for (diff_id, source) in found.layers {
        let packing = match &source {
            Source::Split(_) => Packing::Plain,
            Source::Blob(_, packing) => *packing,
        };
        wire::send(output, &Message::Layer(Layer { diff_id: Some(diff_id), packing }))?;
        let mut chunks = Chunker { target: output, buffer: Vec::with_capacity(CHUNK) };
        // After an error, the other side notices that the layer has no end.
        source.write(&mut chunks)?;
        chunks.end()?;
    }
    for image in found.images {
        wire::send(output, &Message::Image(image))?;
    }
    output.flush()
}

/// Finds everything that is requested, and checks that it can be read.
fn find(places: &Places<'_>, reading: &ReadRequest) -> io::Result<Found> {
    if reading.version != wire::VERSION {
        return Err(unexpected("the command has another version"));
    }
    let mut found = Found { layers: Vec::new(), images: Vec::new(), bytes: 0 };
    let mut missing: BTreeSet<&str> = reading.layers.iter().map(String::as_str).collect();
    for wanted in &reading.images {
        if places.content.exists() {
            add_from_content(&Blobs::new(places.content), wanted, &mut missing, &mut found)?;
        } else {
            add_from_overlay(&Overlay::new(places.images, places.layers), wanted, &mut missing, &mut found)?;
        }
    }
    match missing.first() {
        None => Ok(found),
        Some(layer) => Err(unexpected(format!("no image has layer {layer}"))),
    }
}

fn add_from_overlay(
    store: &Overlay,
    wanted: &ImageRequest,
    missing: &mut BTreeSet<&str>,
    found: &mut Found,
) -> io::Result<()> {
    let image = store.image(&wanted.id)?;
    for (diff_id, chain_id) in image.layers {
        if missing.remove(diff_id.as_str()) {
            let layer = store.layer(&diff_id, &chain_id)?;
            found.bytes += layer.size(true)?;
            found.layers.push((diff_id, Source::Split(layer)));
        }
    }
    found.images.push(of(wanted, image.config, None)?);
    Ok(())
}

fn add_from_content(
    store: &Blobs,
    wanted: &ImageRequest,
    missing: &mut BTreeSet<&str>,
    found: &mut Found,
) -> io::Result<()> {
    let image = store.image(&wanted.id, &wanted.diff_ids)?;
    for (digest, diff_id) in image.layers.iter().zip(&wanted.diff_ids) {
        if missing.remove(diff_id.as_str()) {
            let (file, size, packing) = store.layer(digest)?;
            found.bytes += size;
            found.layers.push((diff_id.clone(), Source::Blob(file, packing)));
        }
    }
    let manifest = Manifest { media_type: image.media_type, content: text(image.manifest)? };
    found.images.push(of(wanted, image.config, Some(manifest))?);
    Ok(())
}

fn of(wanted: &ImageRequest, config: Vec<u8>, manifest: Option<Manifest>) -> io::Result<Image> {
    Ok(Image { id: wanted.id.clone(), names: wanted.names.clone(), config: text(config)?, manifest })
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| unexpected("a document is not UTF-8"))
}

impl Source {
    fn write(self, target: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Split(split) => split.write(target),
            Self::Blob(file, _) => io::copy(&mut io::BufReader::with_capacity(CHUNK, file), target).map(drop),
        }
    }
}

/// Sends in chunks what is written to it.
struct Chunker<'a> {
    target: &'a mut dyn Write,
    buffer: Vec<u8>,
}

impl Chunker<'_> {
    fn end(mut self) -> io::Result<()> {
        self.flush()?;
        self.target.write_all(&wire::chunk_head(0)?)
    }
}

impl Write for Chunker<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.target.write_all(&wire::chunk_head(self.buffer.len())?)?;
            self.target.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

fn unexpected(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// The digest of some bytes.
fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// The part of a digest that is a file name; nothing else may become part of a path.
fn hex(digest: &str) -> io::Result<&str> {
    let is_hex = |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digest.strip_prefix("sha256:").filter(is_hex).ok_or_else(|| unexpected(format!("`{digest}` is not a digest")))
}

/// The layers of an image, from its configuration.
fn diff_ids(config: &[u8]) -> io::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default)]
        diff_ids: Vec<String>,
    }
    Ok(serde_json::from_slice::<Config>(config)?.rootfs.diff_ids)
}

/// The chain IDs of layers on top of each other.
fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            Some(below) => digest(format!("{below} {diff_id}").as_bytes()),
            None => diff_id.clone(),
        });
    }
    chain
}

/// Reads a document.
fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_JSON + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_JSON { Err(unexpected("a document is too large")) } else { Ok(content) }
}
