//! A file tree that is never on a disk as such: read from a tar, changed, written as a tar. It keeps owners and modes
//! without needing the rights to set them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::error::{Code, Error, Result};

/// The time of every file, 2026-01-01: the same inputs give the same image.
const TIME: u64 = 1_767_225_600;

/// Files by their path without a leading slash.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    mode: u32,
    owner: (u64, u64),
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Directory,
    Symlink(String),
    /// Another name of the file at this path.
    Link(String),
    File(Source),
}

/// Where a file's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Memory(Arc<[u8]>),
    Slice { file: Arc<Path>, offset: u64, size: u64 },
}

impl Source {
    fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Slice { size, .. } => *size,
        }
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Memory(bytes) => Ok(Box::new(&bytes[..])),
            Self::Slice { file, offset, size } => {
                let mut opened = File::open(file)?;
                opened.seek(SeekFrom::Start(*offset))?;
                Ok(Box::new(opened.take(*size)))
            }
        }
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Tree {
    /// Reads an uncompressed tar; contents stay in it.
    pub(super) fn read(archive: &Path) -> Result<Self> {
        let failed = |source: io::Error| {
            Error::new(Code::BuildFailed, format!("cannot read `{}`", archive.display())).with_cause(&source)
        };
        let file: Arc<Path> = archive.into();
        let mut reader = tar::Archive::new(File::open(archive).map_err(failed)?);
        let mut tree = Self::default();
        for entry in reader.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = clean(&entry.path().map_err(failed)?);
            let target = entry.link_name().map_err(failed)?.unwrap_or_default();
            let kind = match entry.header().entry_type() {
                EntryType::Directory => Kind::Directory,
                EntryType::Symlink => Kind::Symlink(target.to_string_lossy().into_owned()),
                EntryType::Link => Kind::Link(clean(&target)),
                EntryType::Regular => {
                    let (offset, size) = (entry.raw_file_position(), entry.size());
                    Kind::File(Source::Slice { file: Arc::clone(&file), offset, size })
                }
                // The engine makes devices; a whiteout of an overlay would be one too.
                _ => continue,
            };
            let header = entry.header();
            let owner = (header.uid().map_err(failed)?, header.gid().map_err(failed)?);
            if !path.is_empty() {
                tree.entries.insert(path, Entry { mode: header.mode().map_err(failed)?, owner, kind });
            }
        }
        Ok(tree)
    }

    /// Adds a directory and what is above it; an existing one stays as it is.
    pub(super) fn directory(&mut self, path: &str) {
        for (end, _) in path.match_indices('/').chain(std::iter::once((path.len(), ""))) {
            let entry = || Entry { mode: 0o755, owner: (0, 0), kind: Kind::Directory };
            self.entries.entry(path[..end].to_owned()).or_insert_with(entry);
        }
    }

    /// Adds a file of root's.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: impl Into<Arc<[u8]>>) {
        self.add(path, mode, Kind::File(Source::Memory(content.into())));
    }

    /// Adds a program of root's whose content is in a file of this machine.
    pub(super) fn program(&mut self, path: &str, file: &Path) -> Result<()> {
        let size = std::fs::metadata(file).map_err(|source| {
            Error::new(Code::BuildFailed, format!("cannot read `{}`", file.display())).with_cause(&source)
        })?;
        self.add(path, 0o755, Kind::File(Source::Slice { file: file.into(), offset: 0, size: size.len() }));
        Ok(())
    }

    /// Adds a symbolic link.
    pub(super) fn symlink(&mut self, path: &str, target: &str) {
        self.add(path, 0o777, Kind::Symlink(target.to_owned()));
    }

    /// Adds another name of the file at `target`.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.add(path, 0o755, Kind::Link(target.to_owned()));
    }

    fn add(&mut self, path: &str, mode: u32, kind: Kind) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above);
        }
        self.entries.insert(path.to_owned(), Entry { mode, owner: (0, 0), kind });
    }

    /// Gives a file or directory another mode.
    pub(super) fn set_mode(&mut self, path: &str, mode: u32) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.mode = mode;
        }
    }

    /// Gives a file or directory, and what is below, another place.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        let moved: Vec<_> =
            self.entries.keys().filter(|path| *path == from || path.starts_with(&below)).cloned().collect();
        for path in moved {
            if let Some(entry) = self.entries.remove(&path) {
                self.entries.insert(format!("{to}{}", &path[from.len()..]), entry);
            }
        }
    }

    /// Removes what the pattern matches, with everything below.
    pub(super) fn remove(&mut self, pattern: &str) {
        self.entries.retain(|path, _| {
            let mut ends = path.match_indices('/').map(|(end, _)| end).chain(std::iter::once(path.len()));
            !ends.any(|end| matches(pattern, &path[..end]))
        });
    }

    /// The files and symbolic links that the patterns match, with the same contents.
    pub(super) fn select(&self, patterns: &[String]) -> Result<Self> {
        let mut selected = Self::default();
        for pattern in patterns {
            let mut any = false;
            for (path, entry) in self.entries.iter().filter(|(path, _)| matches(pattern, path)) {
                any = true;
                let kind = match &entry.kind {
                    Kind::Directory => continue,
                    Kind::Link(target) => self.entries.get(target).map_or(&entry.kind, |target| &target.kind),
                    other => other,
                };
                selected.add(path, entry.mode, kind.clone());
            }
            if !any {
                return Err(Error::new(Code::BuildFailed, format!("the root file system has no `{pattern}`")));
            }
        }
        Ok(selected)
    }

    /// Puts another tree below a directory. Files that are in both, with the same content, become hard links.
    pub(super) fn mount(&mut self, directory: &str, tree: &Self) {
        self.directory(directory);
        for (path, entry) in &tree.entries {
            let mut entry = entry.clone();
            let own = self.entries.get(path).map(|own| &own.kind);
            if matches!((&entry.kind, own), (Kind::File(source), Some(Kind::File(same))) if same == source) {
                entry.kind = Kind::Link(path.clone());
            }
            self.entries.insert(format!("{directory}/{path}"), entry);
        }
    }

    /// A text file's content.
    pub(super) fn text(&self, path: &str) -> Result<String> {
        let missing = || Error::new(Code::BuildFailed, format!("the root file system has no `{path}`"));
        let Some(Entry { kind: Kind::File(source), .. }) = self.entries.get(path) else {
            return Err(missing());
        };
        let bytes = source.bytes().map_err(|source| missing().with_cause(&source))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Paths, relative to the directory, and contents of the files in it.
    pub(super) fn contents_below(&self, directory: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let below = format!("{directory}/");
        let mut contents = Vec::new();
        for (path, entry) in &self.entries {
            if let (Some(path), Kind::File(source)) = (path.strip_prefix(&below), &entry.kind) {
                let bytes = source.bytes().map_err(|source| {
                    Error::new(Code::BuildFailed, format!("cannot read `{path}` of the root file system"))
                        .with_cause(&source)
                })?;
                contents.push((path.to_owned(), bytes));
            }
        }
        Ok(contents)
    }

    /// A file that says, in a layer, that one of a layer below is not there.
    pub(super) fn whiteout(&self) -> Option<&str> {
        let name = |path: &&String| path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh."));
        self.entries.keys().find(name).map(String::as_str)
    }

    /// Writes the tree as a tar; returns the hex SHA-256 and the size of the tar.
    pub(super) fn write(&self, to: &Path) -> Result<(String, u64)> {
        self.write_tar(to).map_err(|source| {
            Error::new(Code::FileFailed, format!("cannot write `{}`", to.display())).with_cause(&source)
        })
    }

    fn write_tar(&self, to: &Path) -> io::Result<(String, u64)> {
        let output =
            Hashing { file: io::BufWriter::with_capacity(1 << 20, File::create(to)?), hash: Sha256::new(), size: 0 };
        let mut tar = tar::Builder::new(output);
        // A hard link must come after its file.
        let is_link = |entry: &&Entry| matches!(entry.kind, Kind::Link(_));
        for links in [false, true] {
            for (path, entry) in self.entries.iter().filter(|(_, entry)| is_link(entry) == links) {
                append(&mut tar, path, entry)?;
            }
        }
        let mut output = tar.into_inner()?;
        output.flush()?;
        Ok((format!("{:x}", output.hash.finalize()), output.size))
    }
}

fn append(tar: &mut tar::Builder<Hashing>, path: &str, entry: &Entry) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.0);
    header.set_gid(entry.owner.1);
    header.set_mtime(TIME);
    header.set_size(0);
    match &entry.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Kind::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, path, target)
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Link);
            tar.append_link(&mut header, path, target)
        }
        Kind::File(source) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(source.size());
            tar.append_data(&mut header, path, source.open()?)
        }
    }
}

/// A file that is hashed while it is written.
struct Hashing {
    file: io::BufWriter<File>,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn clean(path: &Path) -> String {
    let path: PathBuf = path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
    path.to_string_lossy().into_owned()
}

/// Whether a pattern matches a whole path; `*` stands for any characters but a slash.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == path;
    };
    let Some(path) = path.strip_prefix(head) else {
        return false;
    };
    let within = path.find('/').unwrap_or(path.len());
    (0..=within).any(|taken| path.is_char_boundary(taken) && matches(rest, &path[taken..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.entries.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_star_stays_within_a_directory() {
        assert!(matches("usr/sbin/*tables*", "usr/sbin/ip6tables-save"));
        assert!(matches("dev/*", "dev/null"));
        assert!(!matches("dev/*", "dev/pts/0"));
        assert!(!matches("usr/lib/lib*.so*", "usr/lib/libx/a.so"));
        assert!(!matches("usr", "usr/lib"));
    }

    #[test]
    fn removing_takes_what_is_below() {
        let mut tree = Tree::default();
        for path in ["dev/pts/0", "dev/null", "etc/a.wants/b", "etc/c"] {
            tree.file(path, 0o644, *b"");
        }
        tree.remove("dev/*");
        tree.remove("etc/*.wants");
        assert_eq!(paths(&tree), ["dev", "etc", "etc/c"]);
    }

    #[test]
    fn what_a_layer_shares_becomes_a_hard_link() {
        let mut root = Tree::default();
        root.file("usr/bin/sh", 0o755, *b"shell");
        root.symlink("usr/bin/bash", "sh");
        let mut layer = root.select(&["usr/bin/*".to_owned()]).unwrap();
        layer.file("coredns", 0o755, *b"dns");
        root.mount("layer", &layer);
        root.link("usr/bin/dns", "layer/coredns");

        let scratch = tempfile::tempdir().unwrap();
        let (archive, again) = (scratch.path().join("a.tar"), scratch.path().join("b.tar"));
        let (hash, size) = root.write(&archive).unwrap();
        assert_eq!(size, std::fs::metadata(&archive).unwrap().len());
        let read = Tree::read(&archive).unwrap();
        assert!(matches!(&read.entries["layer/usr/bin/sh"].kind, Kind::Link(target) if target == "usr/bin/sh"));
        assert!(matches!(&read.entries["layer/usr/bin/bash"].kind, Kind::Symlink(target) if target == "sh"));
        assert!(matches!(&read.entries["usr/bin/dns"].kind, Kind::Link(target) if target == "layer/coredns"));
        assert_eq!(read.text("layer/coredns").unwrap(), "dns");
        assert_eq!(read.write(&again).unwrap().0, hash, "the same tree gives the same tar");
    }

    #[test]
    fn a_whiteout_is_found() {
        let mut tree = Tree::default();
        tree.file("etc/a.wh.b", 0o644, *b"");
        assert_eq!(tree.whiteout(), None);
        tree.file("etc/.wh.passwd", 0o644, *b"");
        assert_eq!(tree.whiteout(), Some("etc/.wh.passwd"));
    }

    #[test]
    fn a_pattern_without_a_match_is_an_error() {
        let error = Tree::default().select(&["usr/sbin/nft".to_owned()]).unwrap_err();
        assert!(error.message().contains("usr/sbin/nft"));
    }
}
