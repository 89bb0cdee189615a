//! One stream of an archive, written once and read by many nodes at the same time, in bounded memory.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::sync::mpsc;

use super::archive::{Scan, digest};
use super::layout::{ArchiveImage, NAME_ANNOTATION, descriptor};
use crate::engine::ByteStream;

/// Bytes handed on at once.
const CHUNK: usize = 256 << 10;
/// Chunks that a node may lag behind the fastest one.
const CHUNKS_AHEAD: usize = 8;
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The writing end: what is written goes to every reader that is still there.
pub(super) struct Fan {
    outlets: Vec<mpsc::Sender<io::Result<Bytes>>>,
    buffer: BytesMut,
    abandoned: Arc<AtomicBool>,
}

/// A reading end, and how many bytes have left it.
pub(super) struct Outlet {
    /// The bytes, for the engine.
    pub stream: ByteStream,
    /// Bytes read so far.
    pub sent: Arc<AtomicU64>,
}

impl Fan {
    /// A stream with `count` readers.
    pub(super) fn new(count: usize) -> (Self, Vec<Outlet>) {
        let (senders, outlets) = (0..count).map(|_| outlet()).unzip();
        (Self { outlets: senders, buffer: BytesMut::with_capacity(CHUNK), abandoned: Arc::default() }, outlets)
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK)).freeze();
        // A node that failed has dropped its end; the others go on.
        self.outlets.retain(|outlet| outlet.blocking_send(Ok(chunk.clone())).is_ok());
        if self.outlets.is_empty() {
            self.abandoned.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    /// Becomes true when no reader is left.
    pub(super) fn abandoned(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandoned)
    }

    /// Makes the readers fail: what they have is not all.
    pub(super) fn abort(self) {
        for outlet in self.outlets {
            // Nobody is there to be told when this fails.
            let _ = outlet.blocking_send(Err(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

fn outlet() -> (mpsc::Sender<io::Result<Bytes>>, Outlet) {
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
    (sender, Outlet { stream: Pin::from(Box::new(stream)), sent })
}

impl Write for Fan {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { Ok(()) } else { self.send() }
    }
}

/// Writes an archive in OCI's layout, whatever the layout of the one that it comes from.
///
/// containerd goes by the digests of files, not by their names, so layers pass before anybody knows what they are.
pub(super) struct ArchiveWriter {
    tar: tar::Builder<Fan>,
    run: String,
    files: u32,
}

impl ArchiveWriter {
    /// Begins an archive.
    pub(super) fn new(fan: Fan) -> Self {
        // containerd resumes an interrupted transfer of the same file name in the middle: no two runs may share names.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self { tar: tar::Builder::new(fan), run: format!("coracle-{since:x}-{:x}", std::process::id()), files: 0 }
    }

    /// Adds a file that only its digest names.
    pub(super) fn file(&mut self, size: u64, content: &mut dyn Read) -> io::Result<()> {
        self.files += 1;
        let path = format!("{}/{}", self.run, self.files);
        self.entry(&path, size, content)
    }

    fn entry(&mut self, path: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        self.tar.append_data(&mut header, path, content)
    }

    /// Adds what the images need of the small files, and the list of the images: only now is there an image.
    pub(super) fn finish(mut self, scan: &Scan, images: &[ArchiveImage]) -> io::Result<()> {
        let mut entries = Vec::new();
        let mut written = std::collections::BTreeSet::new();
        for image in images {
            for content in
                image.paths.iter().filter(|path| written.insert(*path)).filter_map(|path| scan.kept.get(path))
            {
                self.file(content.len() as u64, &mut content.as_slice())?;
            }
            self.file(image.manifest.len() as u64, &mut image.manifest.as_slice())?;
            for name in &image.names {
                let mut entry = descriptor(&image.media_type, digest(&image.manifest), image.manifest.len() as u64);
                entry.annotations.insert(NAME_ANNOTATION.to_owned(), name.to_string());
                entries.push(entry);
            }
        }
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
        self.entry("index.json", index.len() as u64, &mut index.as_bytes())?;
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        self.entry("oci-layout", layout.len() as u64, &mut layout.as_slice())?;
        self.tar.into_inner()?.flush()
    }

    /// Ends the archive without a list of images: a node then takes none of it.
    pub(super) fn abort(self) {
        if let Ok(fan) = self.tar.into_inner() {
            fan.abort();
        }
    }
}
