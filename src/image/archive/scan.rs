//! Reads image archives: what `docker save`, Podman, Buildx and Skopeo write, compressed with gzip or zstd or not.
//!
//! An archive is read once from front to back. Small JSON files are kept, everything else passes by: it is measured,
//! if wanted hashed, and handed on. What the files mean is found out at the end (`layout`), because the engine
//! writes its lists last.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Component, Path};

use coracle_shared::content::Packing;
use flate2::read::MultiGzDecoder;
use flate2::write::MultiGzDecoder as GzipUnpacker;
use sha2::{Digest, Sha256};
use zstd::stream::write::Decoder as ZstdUnpacker;

use crate::error::{Code, Error, Result};

pub(crate) mod directory;
pub(crate) mod layout;
pub(crate) mod oci;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

/// JSON files up to this size (bytes) are kept in memory; registries take no larger manifests.
const MAX_JSON: u64 = 4 << 20;
/// What all kept files may take together, bytes.
const MAX_KEPT: u64 = 48 << 20;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// No sane archive has more files.
const MAX_FILES: usize = 100_000;

/// What is known about one file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileFacts {
    /// Size in bytes.
    pub size: u64,
    /// Digest of its bytes, if it was computed.
    pub digest: Option<String>,
    /// Digest of its bytes when unpacked, if it was computed.
    pub unpacked: Option<String>,
    /// How it is packed.
    pub packing: Packing,
}

/// How much of an archive is verified while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Every byte, by its digest.
    Everything,
    /// The structure; the node compares the digests of what it receives.
    Structure,
}

/// All that one reading found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Files by path.
    pub files: BTreeMap<String, FileFacts>,
    /// Links by path, to the path of the file.
    pub links: BTreeMap<String, String>,
    /// The content of the small JSON files.
    pub kept: BTreeMap<String, Vec<u8>>,
}

/// A file that passes by.
pub(crate) struct Entry<'a> {
    /// Its path.
    pub path: &'a str,
    /// How it is packed.
    pub packing: Packing,
    /// What was kept of the files before it.
    pub kept: &'a BTreeMap<String, Vec<u8>>,
}

/// Takes the files that are not kept, and their content.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&Entry<'_>, &mut dyn Read) -> io::Result<()>;

/// An archive that is damaged or none.
pub(crate) fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::ArchiveInvalid, "the image archive cannot be used")
        .because(why)
        .hint("make it again: `docker save --output FILE IMAGE`; nothing was sent to a node")
}

pub(crate) fn unreadable(source: &io::Error) -> Error {
    let text = source.to_string();
    // What the tar reader says of an end in the middle has no kind of its own.
    let cut = source.kind() == io::ErrorKind::UnexpectedEof
        || ["unexpected EOF", "entire block"].iter().any(|said| text.contains(said));
    invalid(if cut { "it is cut off".to_owned() } else { text })
}

/// Unpacks the whole archive if it is compressed.
fn unpacked<'a>(source: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(CHUNK, source);
    let head = source.fill_buf().map_err(|source| unreadable(&source))?;
    if head.is_empty() {
        return Err(invalid("it is empty"));
    }
    match packing(head) {
        Packing::Gzip => return Ok(Box::new(MultiGzDecoder::new(source))),
        Packing::Zstd => {
            let source = zstd::Decoder::with_buffer(source).map_err(|source| unreadable(&source))?;
            return Ok(Box::new(source));
        }
        Packing::Plain if head.starts_with(b"BZh") => return Err(packed_otherwise("bzip2", "bunzip2")),
        Packing::Plain if head.starts_with(b"\xfd7zXZ") => return Err(packed_otherwise("xz", "unxz")),
        Packing::Plain => {}
    }
    Ok(Box::new(source))
}

fn packed_otherwise(format: &str, command: &str) -> Error {
    Error::new(Code::ArchiveInvalid, "the image archive cannot be used")
        .because(format!("it is compressed with {format}"))
        .hint(format!("unpack it first: `{command}`; gzip and zstd are read as they are"))
}

fn packing(head: &[u8]) -> Packing {
    match head {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
        _ => Packing::Plain,
    }
}

/// Reads an archive to its end.
pub(crate) fn scan(source: impl Read, check: Check, sink: Sink<'_>) -> Result<Scan> {
    let mut archive = tar::Archive::new(unpacked(source)?);
    let mut found = Scan::default();
    let mut kept = 0;
    for entry in archive.entries().map_err(|source| unreadable(&source))? {
        let mut entry = entry.map_err(|source| tar_error(&source, found.files.is_empty()))?;
        let path = clean(&entry.path().map_err(|source| unreadable(&source))?)?;
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let size = entry.size();
                let facts = read_file(&mut entry, &path, size, check, &mut found.kept, sink)?;
                kept += if found.kept.contains_key(&path) { size } else { 0 };
                found.files.insert(path, facts);
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let hard = entry.header().entry_type() == tar::EntryType::Link;
                let target = entry.link_name().map_err(|source| unreadable(&source))?.unwrap_or_default();
                let base = if hard { Path::new("") } else { Path::new(&path).parent().unwrap_or(Path::new("")) };
                let target = clean(&base.join(target))?;
                found.links.insert(path, target);
            }
            _ => {}
        }
        if kept > MAX_KEPT || found.files.len() > MAX_FILES {
            return Err(invalid("it has more files than an image archive can have"));
        }
    }
    // What compresses it has a checksum at its end, and whoever writes into a pipe wants it read to the end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|source| unreadable(&source))?;
    Ok(found)
}

fn tar_error(source: &io::Error, first: bool) -> Error {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => unreadable(source),
        _ if first => invalid("it is not a tar archive").hint("an image file system alone is no archive of an image"),
        _ => unreadable(source),
    }
}

/// The path from the archive's root, without `.` and `..`.
fn clean(path: &Path) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => {
                parts.push(part.to_str().ok_or_else(|| invalid("a file name in it is not UTF-8"))?);
            }
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    Ok(parts.join("/"))
}

/// Reads one file: keeps it if it is small JSON, else hands it on.
pub(crate) fn read_file(
    entry: &mut impl Read,
    path: &str,
    size: u64,
    check: Check,
    kept: &mut BTreeMap<String, Vec<u8>>,
    sink: Sink<'_>,
) -> Result<FileFacts> {
    let mut head = Vec::new();
    entry.by_ref().take(16).read_to_end(&mut head).map_err(|source| unreadable(&source))?;
    let packing = packing(&head);
    let is_json = head.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"{[".contains(byte));
    // Engines do not compress layers; whoever does so needs the digest of the compressed bytes.
    let hash = check == Check::Everything || packing != Packing::Plain && !path.starts_with("blobs/");
    let mut meter = Meter::new(io::Cursor::new(head).chain(entry), hash, check == Check::Everything, packing);
    if is_json && size <= MAX_JSON {
        let mut content = Vec::new();
        meter.read_to_end(&mut content).map_err(|source| unreadable(&source))?;
        kept.insert(path.to_owned(), content);
    } else {
        sink(&Entry { path, packing, kept }, &mut meter).map_err(|source| unreadable(&source))?;
        io::copy(&mut meter, &mut io::sink()).map_err(|source| unreadable(&source))?;
    }
    if meter.size != size {
        return Err(invalid("it is cut off"));
    }
    meter.facts(path)
}

/// Measures and hashes what is read through it.
struct Meter<R> {
    source: R,
    size: u64,
    hash: Option<Sha256>,
    unpacked: Option<Unpacker>,
    packing: Packing,
}

/// Hashes what comes out of a packed file.
enum Unpacker {
    Gzip(GzipUnpacker<HashWriter>),
    Zstd(ZstdUnpacker<'static, HashWriter>),
}

impl Unpacker {
    fn new(packing: Packing) -> Option<Self> {
        let hash = HashWriter(Sha256::new());
        match packing {
            Packing::Plain => None,
            Packing::Gzip => Some(Self::Gzip(GzipUnpacker::new(hash))),
            // It fails only where there is no memory.
            Packing::Zstd => ZstdUnpacker::new(hash).ok().map(Self::Zstd),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(unpacker) => unpacker.write_all(bytes),
            Self::Zstd(unpacker) => unpacker.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<String> {
        match self {
            Self::Gzip(unpacker) => unpacker.finish().map(|hash| digest_of(hash.0)),
            Self::Zstd(mut unpacker) => {
                unpacker.flush()?;
                Ok(digest_of(unpacker.into_inner().0))
            }
        }
    }
}

struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: Read> Meter<R> {
    fn new(source: R, hash: bool, unpack: bool, packing: Packing) -> Self {
        let unpacked = if unpack { Unpacker::new(packing) } else { None };
        Self { source, size: 0, hash: hash.then(Sha256::new), unpacked, packing }
    }

    fn facts(self, path: &str) -> Result<FileFacts> {
        let digest = self.hash.map(digest_of);
        let unpacked = match (self.unpacked, self.packing) {
            (Some(unpacked), _) => {
                let digest = unpacked.finish();
                Some(digest.map_err(|source| invalid(format!("`{path}` in it is damaged: {source}")))?)
            }
            (None, Packing::Plain) => digest.clone(),
            (None, _) => None,
        };
        Ok(FileFacts { size: self.size, digest, unpacked, packing: self.packing })
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let bytes = &buffer[..count];
        self.size += count as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        if let Some(unpacked) = &mut self.unpacked {
            unpacked.write(bytes)?;
        }
        Ok(count)
    }
}

fn digest_of(hash: Sha256) -> String {
    format!("sha256:{:x}", hash.finalize())
}

/// The digest of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    digest_of(Sha256::new_with_prefix(bytes))
}
