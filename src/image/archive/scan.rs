//! Reads image archives: those of `docker save`, Podman, Buildx and Skopeo, plain or compressed with gzip or zstd.
//!
//! An archive is read once from front to back. Small JSON files are kept, everything else passes by: it is measured,
//! hashed if that is wanted, and handed on. What the files mean is found out at the end (`images`), because the engine
//! writes its lists last.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};

use coracle_shared::content::Packing;
use flate2::read::MultiGzDecoder;

use crate::error::{Code, Error, Result};
use crate::image::archive::invalid::invalid;
use crate::image::archive::meter::{FileFacts, Meter};

/// JSON files up to this size (bytes) are kept in memory; registries accept no larger manifests.
const MAX_JSON: u64 = 4 << 20;
/// The largest size of all kept files together, bytes.
const MAX_KEPT: u64 = 48 << 20;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// No sensible archive has more files.
const MAX_FILES: usize = 100_000;

/// How much of an archive is verified while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Every byte, by its digest.
    Everything,
    /// The structure; the node checks the digests of what it receives.
    Structure,
}

/// Everything that was found in one pass.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The files, by path.
    pub files: BTreeMap<String, FileFacts>,
    /// The links, by path, with the path of the file that each leads to.
    pub links: BTreeMap<String, String>,
    /// The content of the small JSON files.
    pub kept: BTreeMap<String, Vec<u8>>,
}

/// A file that passes by.
pub(crate) struct Entry<'a> {
    pub path: &'a str,
    pub packing: Packing,
    /// The files before it that were kept.
    pub kept: &'a BTreeMap<String, Vec<u8>>,
}

/// Takes the files that are not kept, and their content.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&Entry<'_>, &mut dyn Read) -> io::Result<()>;

pub(crate) fn unreadable(source: &io::Error) -> Error {
    let text = source.to_string();
    // The tar reader has no error kind of its own for an archive that ends early.
    let cut = source.kind() == io::ErrorKind::UnexpectedEof
        || ["unexpected EOF", "entire block"].iter().any(|words| text.contains(words));
    invalid(if cut { "it is cut off".to_owned() } else { text })
}

/// Decompresses the whole archive if it is compressed.
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
        .hint(format!("decompress it first with `{command}`; only gzip and zstd are read directly"))
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
            return Err(invalid("it has more files than an image archive may have"));
        }
    }
    // A compressed archive has a checksum at its end, and a program that writes to a pipe needs it read to the end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|source| unreadable(&source))?;
    Ok(found)
}

fn tar_error(source: &io::Error, first: bool) -> Error {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => unreadable(source),
        _ if first => invalid("it is not a tar archive").hint("the file system of an image is not an image archive"),
        _ => unreadable(source),
    }
}

/// The path from the archive's root, without `.` and `..`.
fn clean(path: &Path) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => {
                parts.push(part.to_str().ok_or_else(|| invalid("one of its file names is not UTF-8"))?);
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
    // Engines do not compress layers; where a tool has done so, the digest of the compressed bytes is needed.
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
