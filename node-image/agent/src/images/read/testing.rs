//! Shared parts of the readers' tests.

use std::io;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

/// Measures and hashes what is written to it.
#[derive(Default)]
pub(super) struct Sum {
    pub(super) size: u64,
    /// It has files that were written with their holes.
    pub(super) sparse: bool,
    hash: Sha256,
}

impl Sum {
    pub(super) fn digest(self) -> String {
        format!("sha256:{:x}", self.hash.finalize())
    }
}

impl io::Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size += bytes.len() as u64;
        // Headers come in small pieces.
        self.sparse |= bytes.len() < 64 << 10 && bytes.windows(11).any(|part| part == b"GNU.sparse.");
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The data root of this machine's engine and the IDs of its images, if it is readable.
pub(super) fn engine() -> Option<(PathBuf, Vec<String>)> {
    let root = PathBuf::from("/var/lib/docker");
    let images = std::fs::read_dir(root.join("image/overlay2/imagedb/content/sha256")).ok()?;
    let ids = images.flatten().filter_map(|entry| Some(format!("sha256:{}", entry.file_name().to_str()?)));
    Some((root, ids.collect()))
}
