//! All that can be known about the files below a directory, as text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Files by path from the directory, and what they are.
pub(super) type Listing = BTreeMap<String, String>;

/// Lists a directory. The time of these directories is left out.
pub(super) fn list(directory: &Path, timeless: impl Fn(&[u8]) -> bool) -> Result<Listing, String> {
    let mut found = Vec::new();
    walk(directory, &mut found).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut groups: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut listing = Listing::new();
    for (path, metadata) in found {
        let name = path.strip_prefix(directory).unwrap_or(&path).as_os_str().as_bytes();
        let shown = name.escape_ascii().to_string();
        let mut text = describe(&path, &metadata).map_err(|error| format!("{}: {error}", path.display()))?;
        if !(metadata.is_dir() && timeless(name)) {
            let _ = write!(text, " mtime={}.{:09}", metadata.mtime(), metadata.mtime_nsec());
        }
        if !metadata.is_dir() && metadata.nlink() > 1 {
            let first = groups.entry((metadata.dev(), metadata.ino())).or_insert_with(|| shown.clone());
            let _ = write!(text, " links={} same-as={first}", metadata.nlink());
        }
        listing.insert(shown, text);
    }
    Ok(listing)
}

fn walk(path: &Path, found: &mut Vec<(PathBuf, fs::Metadata)>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let is_dir = metadata.is_dir();
    found.push((path.to_owned(), metadata));
    if is_dir {
        let mut names = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            walk(&name, found)?;
        }
    }
    Ok(())
}

fn describe(path: &Path, metadata: &fs::Metadata) -> io::Result<String> {
    let kind = metadata.file_type();
    let what = if kind.is_symlink() {
        format!("link to {}", fs::read_link(path)?.as_os_str().as_bytes().escape_ascii())
    } else if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_file() {
        format!("file size={} sha256={:x}", metadata.len(), Sha256::digest(fs::read(path)?))
    } else if kind.is_fifo() {
        "pipe".to_owned()
    } else if kind.is_char_device() || kind.is_block_device() {
        let device = metadata.rdev();
        let letter = if kind.is_char_device() { 'c' } else { 'b' };
        format!("device {letter} {}:{}", rustix::fs::major(device), rustix::fs::minor(device))
    } else {
        "something else".to_owned()
    };
    let mut text = format!("{what} mode={:o} owner={}:{}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    for (name, value) in xattrs(path)? {
        let _ = write!(text, " {name}={}", value.escape_ascii());
    }
    Ok(text)
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0; 4096];
    let count = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut found = BTreeMap::new();
    for name in names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 4096];
        let count = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(count);
        found.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    Ok(found)
}

/// The first lines in which two listings differ.
pub(super) fn difference(engine: &Listing, node: &Listing) -> Vec<String> {
    let none = "nothing".to_owned();
    let names: std::collections::BTreeSet<&String> = engine.keys().chain(node.keys()).collect();
    let pairs =
        names.into_iter().map(|name| (name, engine.get(name).unwrap_or(&none), node.get(name).unwrap_or(&none)));
    pairs
        .filter(|(_, engine, node)| engine != node)
        .map(|(name, engine, node)| format!("/{name}\n  engine: {engine}\n  node:   {node}"))
        .collect()
}
