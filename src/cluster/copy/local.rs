//! The end of a copy that is on this host.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use tokio::task::JoinHandle;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

use crate::cluster::copy::place::Kind;
use crate::engine::ByteStream;
use crate::error::{Code, Error, Result};

/// Bytes that are on their way at once.
const PIPE: usize = 256 << 10;
/// A link of another kind than symbolic leads to a path of the archive.
const NO_LINK: &str = "it is a hard link without a target";

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Number of files and links.
    pub files: usize,
    /// Their size, bytes.
    pub bytes: u64,
    /// Sockets, pipes and devices, which are left out.
    pub skipped: usize,
}

fn failed(what: &str, path: &Path, source: &io::Error) -> Error {
    Error::new(Code::FileFailed, format!("cannot {what} `{}`", path.display())).with_cause(source)
}

/// What a path is, if it exists.
pub(super) fn kind(path: &Path) -> Result<Option<Kind>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(Some(Kind::Directory)),
        Ok(_) => Ok(Some(Kind::File)),
        Err(source) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&source.kind()) => Ok(None),
        Err(source) => Err(failed("read", path, &source)),
    }
}

/// The name of a path, also of `.` and `..`.
pub(super) fn name(path: &Path) -> Result<String> {
    if let Some(name) = path.file_name() {
        return Ok(name.to_string_lossy().into_owned());
    }
    let whole = path.canonicalize().map_err(|source| failed("read", path, &source))?;
    Ok(whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
}

/// A path as an archive in which it has this name; without the directory itself if not `with_top`. What is read belongs to root
/// there.
pub(super) fn pack(path: PathBuf, name: String, with_top: bool) -> (ByteStream, JoinHandle<Result<Copied>>) {
    let (writer, reader) = tokio::io::duplex(PIPE);
    let mut writer = SyncIoBridge::new(writer);
    let packing = tokio::task::spawn_blocking(move || {
        let mut builder = tar::Builder::new(&mut writer);
        let mut copied = Copied::default();
        add(&mut builder, &path, Path::new(&name), (with_top, true), &mut copied)?;
        builder.finish().map_err(|source| failed("pack", &path, &source))?;
        drop(builder);
        // The end of the archive.
        writer.shutdown().map_err(|source| failed("pack", &path, &source))?;
        Ok(copied)
    });
    (Box::pin(ReaderStream::with_capacity(reader, PIPE)), packing)
}

/// Adds a path and what is in it. Only the path that was named is followed if it is a link.
fn add(
    builder: &mut tar::Builder<impl Write>,
    path: &Path,
    name: &Path,
    (with_itself, is_named): (bool, bool),
    copied: &mut Copied,
) -> Result<()> {
    let error = |source: io::Error| match source.kind() {
        // The other end has stopped reading, and knows why.
        ErrorKind::BrokenPipe => Error::new(Code::EngineFailed, "the copy ended unexpectedly").with_cause(&source),
        _ => failed("read", path, &source),
    };
    let metadata = if is_named { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let metadata = metadata.map_err(error)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    header.set_uid(0);
    header.set_gid(0);
    if metadata.is_dir() {
        header.set_size(0);
        if with_itself {
            builder.append_data(&mut header, name, io::empty()).map_err(error)?;
        }
        let mut children = Vec::new();
        for child in fs::read_dir(path).map_err(error)? {
            children.push(child.map_err(error)?.file_name());
        }
        children.sort();
        for child in children {
            add(builder, &path.join(&child), &name.join(&child), (true, false), copied)?;
        }
    } else if metadata.is_symlink() {
        header.set_size(0);
        builder.append_link(&mut header, name, fs::read_link(path).map_err(error)?).map_err(error)?;
        copied.files += 1;
    } else if metadata.is_file() {
        let size = metadata.len();
        header.set_size(size);
        // One that grows meanwhile is copied as it was.
        let content = File::open(path).map_err(error)?.take(size);
        builder.append_data(&mut header, name, content).map_err(error)?;
        copied.files += 1;
        copied.bytes += size;
    } else {
        copied.skipped += 1;
    }
    Ok(())
}

/// Unpacks an archive whose names begin with `base` at a path.
pub(super) async fn unpack(archive: ByteStream, base: String, end: PathBuf) -> Result<Copied> {
    let lost = |source: &dyn std::error::Error| {
        Error::new(Code::StepFailed, "the copy task ended without a result").with_cause(source)
    };
    let source = SyncIoBridge::new(StreamReader::new(archive));
    let unpacking = tokio::task::spawn_blocking(move || unpack_from(source, &base, &end));
    unpacking.await.map_err(|source| lost(&source))?
}

fn unpack_from(archive: impl Read, base: &str, end: &Path) -> Result<Copied> {
    let error = |source: io::Error| failed("write", end, &source);
    let parent = end.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        return Err(Error::new(Code::UsageInvalid, format!("there is no directory `{}`", parent.display()))
            .hint(format!("`mkdir -p {}` creates it", parent.display())));
    }
    let (mut copied, mut directories) = (Copied::default(), Vec::new());
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(error)? {
        let mut entry = entry.map_err(error)?;
        let below = below(&entry.path().map_err(error)?, base);
        let path = if below.as_os_str().is_empty() { end.to_owned() } else { end.join(&below) };
        let error = |source: io::Error| failed("write", &path, &source);
        require_no_links(end, &below).map_err(error)?;
        // Not every archive has its directories.
        if let Some(parent) = below.parent() {
            fs::create_dir_all(end.join(parent)).map_err(error)?;
        }
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                fs::create_dir_all(&path).map_err(error)?;
                directories.push((path.clone(), entry.header().mode().map_err(error)?));
            }
            tar::EntryType::Link => {
                let link = entry.link_name().map_err(error)?.ok_or_else(|| error(io::Error::other(NO_LINK)))?;
                let source = end.join(self::below(&link, base));
                fs::copy(&source, &path).map_err(error)?;
                copied.files += 1;
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                entry.unpack(&path).map_err(error)?;
                copied.files += 1;
                copied.bytes += entry.size();
            }
            tar::EntryType::Symlink => {
                entry.unpack(&path).map_err(error)?;
                copied.files += 1;
            }
            _ => copied.skipped += 1,
        }
    }
    // Whoever sends it has not ended before all of it is taken, and fails if the connection is closed on it.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(error)?;
    // Only now: one that may not be written could not be filled.
    for (path, mode) in directories.iter().rev() {
        fs::set_permissions(path, Permissions::from_mode(mode & 0o777))
            .map_err(|source| failed("write", path, &source))?;
    }
    Ok(copied)
}

/// The path of an entry below what was named, and never outside of it.
fn below(path: &Path, base: &str) -> PathBuf {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
    names.skip(usize::from(!base.is_empty())).collect()
}

/// Fails if a link stands in the way: the archive may have brought it, and what follows would be written elsewhere.
fn require_no_links(end: &Path, below: &Path) -> io::Result<()> {
    let mut path = end.to_owned();
    let Some(parent) = below.parent() else { return Ok(()) };
    for part in parent {
        path.push(part);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(io::Error::other(format!("`{}` is a link", path.display())));
        }
    }
    Ok(())
}
