//! Unpacked layers that are not part of containerd's store yet.

use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{fs, io};

use coracle_shared::paths::STAGING;
use rustix::fs::{FlockOperation, flock};

use super::trouble::{Result, failed};
use super::unpack::Unpacked;

/// Has the kernel write to the disk what it only holds in memory: else a power cut within half a minute would leave layers
/// whose files have their length and no content.
pub(super) fn write_out() -> Result<()> {
    let store = File::open(STAGING)?;
    Ok(rustix::fs::syncfs(store).map_err(io::Error::from)?)
}

/// An unpacked layer.
#[derive(Debug)]
pub(super) struct Staged {
    pub directory: PathBuf,
    /// What was found while unpacking.
    pub unpacked: Unpacked,
    /// The size of its tar, bytes.
    pub size: u64,
}

/// A directory of this run, which is removed when the run ends.
#[derive(Debug)]
pub(super) struct Staging {
    root: PathBuf,
    layers: usize,
    _lock: File,
}

impl Staging {
    /// Creates the directory, and removes those of runs that were killed.
    pub(super) fn open() -> Result<Self> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::create(Path::new(STAGING), &format!("{}-{:x}", std::process::id(), since.as_nanos()))
    }

    /// Creates it below another directory, which may be that of another node.
    pub(super) fn create(all: &Path, run: &str) -> Result<Self> {
        fs::create_dir_all(all)?;
        // So that no other run takes a new directory for an old one between its creation and its locking.
        let lock = File::open(all)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from)?;
        for entry in fs::read_dir(all)? {
            let path = entry?.path();
            if File::open(&path).is_ok_and(|old| flock(&old, FlockOperation::NonBlockingLockExclusive).is_ok()) {
                fs::remove_dir_all(&path)?;
            }
        }
        let root = all.join(run);
        fs::create_dir(&root)?;
        let lock = File::open(&root)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from)?;
        Ok(Self { root, layers: 0, _lock: lock })
    }

    /// A name that no other run has.
    pub(super) fn run(&self) -> String {
        self.root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// An empty directory for a layer.
    pub(super) fn directory(&mut self) -> Result<PathBuf> {
        let path = self.next();
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// The path of a layer that another program makes, by its place among them.
    pub(super) fn path(&self, index: usize) -> PathBuf {
        self.root.join(index.to_string())
    }

    fn next(&mut self) -> PathBuf {
        self.layers += 1;
        self.path(self.layers)
    }

    /// A complete copy of a layer.
    pub(super) fn copy(&mut self, layer: &Path) -> Result<PathBuf> {
        let path = self.next();
        let copied = Command::new("cp").args(["--archive", "--no-target-directory"]).arg(layer).arg(&path).output()?;
        if !copied.status.success() {
            let message = String::from_utf8_lossy(&copied.stderr).trim().to_owned();
            return Err(failed(format!("cannot copy a layer: {message}")));
        }
        Ok(path)
    }
}

/// The directory of a layer that was put into this node.
pub(super) fn given(directory: &str) -> Result<PathBuf> {
    let path = PathBuf::from(directory);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if is_plain && path.starts_with(STAGING) && fs::symlink_metadata(&path)?.is_dir() {
        return Ok(path);
    }
    Err(failed(format!("`{directory}` is not a layer that was put into this node")))
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The next run removes what this one cannot.
        let _ = fs::remove_dir_all(&self.root);
    }
}
