//! kubectl of a cluster's version, copied once out of a node and kept in this user's cache.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::engine::{Engine, files};
use crate::error::{Code, Error, OTHER_CACHE, Result};

/// Where a node has kubectl.
const IN_NODE: &str = "/usr/bin/kubectl";
const MODE: u32 = 0o755;

/// The directory of coracle's cache. Everything in it may be removed at any time.
pub fn cache() -> Result<PathBuf> {
    dirs::cache_dir()
        .map(|directory| directory.join("coracle"))
        .ok_or_else(|| Error::new(Code::FileFailed, "there is no cache directory").hint("set HOME or XDG_CACHE_HOME"))
}

/// Where kubectl of this version is in the cache.
pub fn path(cache: &Path, version: &str) -> PathBuf {
    cache.join("kubectl").join(version).join("kubectl")
}

/// Where the kubeconfig of a cluster is in the cache, which only its kubectl reads.
pub fn kubeconfig(cache: &Path, cluster: &str) -> PathBuf {
    cache.join("kubeconfig").join(cluster)
}

/// Removes the kubeconfig of a cluster that is deleted.
pub fn remove_kubeconfig(cluster: &str) -> Result<()> {
    let Ok(cache) = cache() else { return Ok(()) };
    let path = kubeconfig(&cache, cluster);
    match fs::remove_file(&path) {
        Err(source) if !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(Error::new(Code::FileFailed, format!("cannot remove `{}`", path.display())).with_cause(&source))
        }
        _ => Ok(()),
    }
}

/// Whether the cache has this kubectl as it was copied, neither cut off nor changed since.
pub fn is_whole(path: &Path) -> bool {
    check(path).unwrap_or(false)
}

/// Copies kubectl out of a node to `path`, in place of what is there.
pub async fn copy(engine: &dyn Engine, node: &str, path: &Path) -> Result<()> {
    let missing = || Error::new(Code::NotFound, "the node has no kubectl").on_node(node);
    let bytes = files::read_file(engine, node, IN_NODE).await?.ok_or_else(missing)?;
    store(path, &bytes).map_err(|source| unusable(path, &source))
}

/// The error for a part of the cache that cannot be written.
pub fn unusable(path: &Path, source: &io::Error) -> Error {
    Error::new(Code::FileFailed, format!("cannot write `{}`", path.display())).with_cause(source).hint(OTHER_CACHE)
}

/// What is known about a copy: its size and when it was written, which are quick to compare, and its hash.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    size: u64,
    written: (i64, i64),
    hash: String,
}

impl Record {
    fn new(metadata: &Metadata, hash: String) -> Self {
        Self { size: metadata.len(), written: (metadata.mtime(), metadata.mtime_nsec()), hash }
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut number = || words.next()?.parse().ok();
        let (size, seconds, nanoseconds): (i64, i64, i64) = (number()?, number()?, number()?);
        let hash = words.next()?.to_owned();
        Some(Self { size: size.try_into().ok()?, written: (seconds, nanoseconds), hash })
    }

    fn text(&self) -> String {
        format!("{} {} {} {}\n", self.size, self.written.0, self.written.1, self.hash)
    }
}

fn record_of(path: &Path) -> PathBuf {
    path.with_extension("record")
}

fn check(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    let Some(record) = Record::read(&fs::read_to_string(record_of(path))?) else { return Ok(false) };
    if !metadata.is_file() || metadata.len() != record.size {
        return Ok(false);
    }
    if metadata.mode() & MODE != MODE {
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
    }
    let current = Record::new(&metadata, record.hash.clone());
    // The hash of 60 MB would be noticed at every call; whoever changes a file also changes this time.
    if current.written == record.written {
        return Ok(true);
    }
    if hash_of(File::open(path)?)? != record.hash {
        return Ok(false);
    }
    replace(&record_of(path), current.text().as_bytes(), None)?;
    Ok(true)
}

fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    }
    let file = replace(path, bytes, Some(MODE))?;
    let record = Record::new(&file.metadata()?, hash_of(bytes)?);
    replace(&record_of(path), record.text().as_bytes(), None).map(drop)
}

/// Writes a file that others see whole or not at all, even after the machine has lost its power.
fn replace(path: &Path, bytes: &[u8], mode: Option<u32>) -> io::Result<File> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)
}

fn hash_of(mut content: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut content, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_empty_cut_off_or_changed_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path(), "v1.36.3");
        assert!(!is_whole(&path));
        let whole = || {
            store(&path, b"the program").unwrap();
            assert!(is_whole(&path));
        };
        whole();
        for damaged in ["", "the prog", "the progrxm"] {
            fs::write(&path, damaged).unwrap();
            assert!(!is_whole(&path), "{damaged:?}");
            whole();
        }
        fs::remove_file(record_of(&path)).unwrap();
        assert!(!is_whole(&path), "a copy of an earlier coracle, which did not say what it is");
        whole();
        fs::write(record_of(&path), "").unwrap();
        assert!(!is_whole(&path));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(!is_whole(&path));
        whole();
    }

    #[test]
    fn what_only_looks_changed_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path(), "v1.36.3");
        store(&path, b"the program").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(is_whole(&path));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        // Such as a cache that was copied to another machine.
        fs::write(&path, "the program").unwrap();
        assert!(is_whole(&path) && is_whole(&path));
    }

    #[test]
    fn a_cache_that_cannot_be_written_has_a_way_out() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("kubectl"), "").unwrap();
        let path = path(directory.path(), "v1.36.3");
        let error = unusable(&path, &store(&path, b"the program").unwrap_err());
        assert_eq!((error.code(), error.hints()), (Code::FileFailed, &[OTHER_CACHE.to_owned()][..]));
    }
}
