//! Outputs of build steps, kept by the hash of their inputs.

use std::fmt::{LowerHex, Write as _};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::engine::process::{self, Life};
use crate::error::{Code, Error, OTHER_CACHE, Result};

/// Where outputs are until they are whole.
const UNFINISHED: &str = "unfinished-";
/// After this time no one is working on an unfinished output any more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory with one subdirectory per output, `NAME-HASH`, and a list of its files beside it. It may be removed at any
/// time.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    root: PathBuf,
}

impl Cache {
    pub(super) fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(|source| unusable(root, &source))?;
        for path in abandoned(root).map_err(|source| unusable(root, &source))? {
            // That it stays is no reason to fail.
            let _ = std::fs::remove_dir_all(path);
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The directory with the output of a step, which `make` fills when there is none for these inputs yet.
    pub(super) async fn output<Make>(&self, name: &str, inputs: &[&[u8]], make: Make) -> Result<PathBuf>
    where
        Make: AsyncFnOnce(&Path) -> Result<()>,
    {
        let wanted = self.root.join(format!("{name}-{}", &fingerprint(inputs)[..16]));
        if wanted.is_dir() {
            if is_whole(&wanted) {
                return Ok(wanted);
            }
            // Such as after the machine has lost its power.
            std::fs::remove_dir_all(&wanted).map_err(|source| unusable(&wanted, &source))?;
        }
        let unfinished = self.scratch()?;
        make(unfinished.path()).await?;
        let done = files(unfinished.path(), &|_| None).and_then(|files| std::fs::write(list_of(&wanted), files));
        // The files are on the disk before they have their name: a machine that loses its power never has them half.
        let done = done.and_then(|()| Ok(rustix::fs::syncfs(std::fs::File::open(unfinished.path())?)?));
        done.map_err(|source| unusable(&wanted, &source))?;
        match std::fs::rename(unfinished.path(), &wanted) {
            // Someone else made the same meanwhile.
            Err(_) if wanted.is_dir() => {}
            other => other.map_err(|source| unusable(&wanted, &source))?,
        }
        Ok(wanted)
    }

    /// A directory that goes away when it is dropped.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix(&format!("{UNFINISHED}{}-", process::own()))
            .permissions(permissions())
            .tempdir_in(&self.root)
            .map_err(|source| unusable(&self.root, &source))
    }
}

/// The outputs that killed builds have left unfinished.
pub(super) fn abandoned(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root)?.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED)) else { continue };
        let maker = rest.rsplit_once('-').map_or(Life::Unknown, |(mark, _)| process::life(mark));
        let changed = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let is_old = changed.and_then(|changed| changed.elapsed().ok()).is_some_and(|age| age > ABANDONED);
        if maker == Life::Gone || (maker == Life::Unknown && is_old) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Where the list of the files of an output is.
fn list_of(output: &Path) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(".files");
    path.into()
}

/// Whether an output has the files that were made, none of them cut off or changed. One of an earlier coracle has no list,
/// or one without hashes, which is made anew.
fn is_whole(output: &Path) -> bool {
    let made = match std::fs::read_to_string(list_of(output)) {
        Ok(made) => made,
        Err(source) => return source.kind() == io::ErrorKind::NotFound,
    };
    let check = || -> io::Result<bool> {
        let now = files(output, &|path| made_as(&made, path))?;
        if made == now {
            return Ok(true);
        }
        // Files that were copied have another time; their content counts.
        let hashed = files(output, &|_| None)?;
        let is_same = contents(&made) == contents(&hashed);
        if is_same {
            std::fs::write(list_of(output), hashed)?;
        }
        Ok(is_same)
    };
    check().unwrap_or(false)
}

/// The lines of a list without the times of the files.
fn contents(list: &str) -> Vec<(&str, &str)> {
    let parts = |line| -> Option<(&str, &str)> {
        let (sum, rest): (&str, &str) = str::split_once(line, ' ')?;
        rest.split_once(' ').map(|(_, path)| (sum, path))
    };
    list.lines().filter_map(parts).collect()
}

/// The hash that a list has for a file of this time and path: reading hundreds of megabytes again would be noticed.
fn made_as(list: &str, line: &str) -> Option<String> {
    list.lines().find_map(|made| made.split_once(' ').filter(|(_, rest)| *rest == line).map(|(sum, _)| sum.to_owned()))
}

/// The files below a directory, one a line: hash, time and size, and path. `known` has hashes by what follows them.
fn files(directory: &Path, known: &dyn Fn(&str) -> Option<String>) -> io::Result<String> {
    let mut list = String::new();
    below(directory, Path::new(""), &mut list, known)?;
    Ok(list)
}

fn below(root: &Path, place: &Path, list: &mut String, known: &dyn Fn(&str) -> Option<String>) -> io::Result<()> {
    let mut entries = std::fs::read_dir(root.join(place))?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (metadata, path) = (entry.metadata()?, place.join(entry.file_name()));
        if metadata.is_dir() {
            below(root, &path, list, known)?;
            continue;
        }
        let time = format!("{}.{:09}-{}", metadata.mtime(), metadata.mtime_nsec(), metadata.len());
        let rest = format!("{time} {}", path.display());
        let sum = match known(&rest) {
            Some(sum) => sum,
            None if metadata.is_file() => hash_of::<Sha256>(&entry.path())?,
            None => "-".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(list, "{sum} {rest}");
    }
    Ok(())
}

pub(super) fn hash_of<H: Digest + io::Write>(path: &Path) -> io::Result<String>
where
    sha2::digest::Output<H>: LowerHex,
{
    let mut hash = H::new();
    io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}

/// mmdebstrap in a user namespace must be able to look into it.
fn permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

/// Hash of a list of byte strings, as hex; where one string ends matters.
pub(super) fn fingerprint(inputs: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update(u64::try_from(input.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(input);
    }
    format!("{:x}", hash.finalize())
}

fn unusable(path: &Path, source: &std::io::Error) -> Error {
    Error::new(Code::FileFailed, format!("cannot use the cache at `{}`", path.display()))
        .with_cause(source)
        .hint(OTHER_CACHE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_input_ends_matters() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_eq!(fingerprint(&[b"ab"]), fingerprint(&[b"ab"]));
    }

    #[tokio::test]
    async fn an_output_is_made_once_and_never_half() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path()).unwrap();
        let failed = cache
            .output("x", &[b"1"], async |path: &Path| {
                std::fs::write(path.join("half"), "").unwrap();
                Err(Error::new(Code::BuildFailed, "no"))
            })
            .await;
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        let make = async |path: &Path| {
            std::fs::write(path.join("whole"), "").unwrap();
            Ok(())
        };
        let first = cache.output("x", &[b"1"], make).await.unwrap();
        assert!(first.join("whole").is_file());
        let again = cache.output("x", &[b"1"], async |_: &Path| panic!("made twice")).await.unwrap();
        assert_eq!(first, again);
        // A file that was cut off, changed or removed is made again.
        let cut: &dyn Fn(&Path) -> io::Result<()> = &|path| std::fs::write(path, "");
        for damage in [cut, &|path| std::fs::write(path, "CONTENT"), &|path| std::fs::remove_file(path)] {
            let make = async |path: &Path| {
                std::fs::create_dir(path.join("below")).unwrap();
                std::fs::write(path.join("below/whole"), "content").unwrap();
                Ok(())
            };
            let output = cache.output("y", &[b"1"], make).await.unwrap();
            damage(&output.join("below/whole")).unwrap();
            let again = cache.output("y", &[b"1"], make).await.unwrap();
            assert_eq!(std::fs::read_to_string(again.join("below/whole")).unwrap(), "content");
        }
        // One that was only copied is not.
        let output = cache.output("y", &[b"1"], async |_: &Path| panic!("made twice")).await.unwrap();
        std::fs::write(output.join("below/whole"), "content").unwrap();
        for _ in 0..2 {
            cache.output("y", &[b"1"], async |_: &Path| panic!("made twice")).await.unwrap();
        }
    }
}
