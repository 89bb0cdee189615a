//! Opens files below a directory, and never one outside.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Opening also returns at once if a pipe or a device has the name of the file.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW);
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC).union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// A directory that its own links cannot leave.
pub(crate) struct Rooted {
    directory: OwnedFd,
}

impl Rooted {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self { directory: openat(CWD, directory, DIRECTORY, Mode::empty())? })
    }

    /// Opens a file of this name, as if the directory were the root.
    pub(crate) fn file(&self, name: &[u8]) -> io::Result<File> {
        let path = Path::new(OsStr::from_bytes(name));
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        match openat2(&self.directory, path, READ, Mode::empty(), resolve) {
            // Kernels before 5.6, and engines with an older filter of system calls.
            Err(Errno::NOSYS | Errno::PERM) => self.step_by_step(path),
            opened => Ok(opened?.into()),
        }
    }

    /// The same without support by the kernel: follows no links at all.
    fn step_by_step(&self, path: &Path) -> io::Result<File> {
        let mut parts = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(Ok(name)),
            Component::CurDir | Component::RootDir => None,
            Component::ParentDir | Component::Prefix(_) => Some(Err(Errno::XDEV)),
        });
        let mut name = parts.next().ok_or(Errno::ISDIR)??;
        let mut directory = None;
        for next in parts {
            let above = directory.as_ref().unwrap_or(&self.directory);
            directory = Some(openat(above, name, DIRECTORY, Mode::empty())?);
            name = next?;
        }
        Ok(openat(directory.as_ref().unwrap_or(&self.directory), name, READ, Mode::empty())?.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn both_ways_find_the_same_and_neither_leaves() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("directory");
        std::fs::create_dir_all(directory.join("a/b")).unwrap();
        std::fs::write(directory.join("a/b/file"), "inside").unwrap();
        std::fs::write(place.path().join("file"), "outside").unwrap();
        symlink("/a/b", directory.join("absolute")).unwrap();
        symlink("../..", directory.join("up")).unwrap();
        symlink(place.path().join("file"), directory.join("out")).unwrap();
        let rooted = Rooted::open(&directory).unwrap();
        for name in ["a/b/file", "./a//b/file", "/a/b/file"] {
            for file in [rooted.file(name.as_bytes()), rooted.step_by_step(Path::new(name))] {
                let mut content = String::new();
                file.unwrap().read_to_string(&mut content).unwrap();
                assert_eq!(content, "inside");
            }
        }
        rooted.file(b"absolute/file").unwrap();
        rooted.step_by_step(Path::new("absolute/file")).unwrap_err();
        for name in ["../file", "up/file", "out", "a/none", "", "/"] {
            assert!(rooted.file(name.as_bytes()).is_err() || !name.contains("file"), "{name}");
            assert!(rooted.step_by_step(Path::new(name)).is_err(), "{name}");
        }
    }
}
