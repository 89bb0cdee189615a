//! Turns an unpacked layer into one of containerd's layers.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::containerd::{Containerd, Labels};
use super::proto::Mount;
use super::trouble::{Result, failed};
use super::unpack::Unpacked;

/// The size of a layer's tar in bytes, kept with the layer.
pub(super) const SIZE_LABEL: &str = "dev.coracle.size";
/// Attributes by which the overlay marks its own layers.
const OVERLAY: &[&str] = &["trusted.overlay.", "user.overlay."];

/// The place of a layer in the store.
pub(super) struct Place<'a> {
    /// The name of the unfinished snapshot.
    pub key: &'a str,
    /// Chain ID of the layer.
    pub chain: &'a str,
    /// Chain ID of the layer below; empty if there is none.
    pub parent: &'a str,
}

/// Moves an unpacked layer into the store, and returns where its files are then.
pub(super) async fn adopt(
    containerd: &mut Containerd,
    place: &Place<'_>,
    directory: &Path,
    unpacked: &Unpacked,
    size: u64,
) -> Result<PathBuf> {
    let mounts = containerd.prepare(place.key, place.parent).await?;
    let moved = upper(&mounts).and_then(|upper| settle(&mounts, &upper, directory, unpacked).map(|()| upper));
    let labels = Labels::from([(SIZE_LABEL.to_owned(), size.to_string())]);
    let done = match moved {
        Ok(upper) => containerd.commit(place.key, place.chain, labels).await.map(|()| upper),
        Err(failure) => Err(failure),
    };
    if done.is_err() {
        // The first failure is the one to report.
        let _ = containerd.remove_snapshot(place.key).await;
    }
    done
}

/// Where containerd expects the files of a layer.
fn upper(mounts: &[Mount]) -> Result<PathBuf> {
    let option =
        |mount: &Mount| mount.options.iter().find_map(|option| option.strip_prefix("upperdir=")).map(PathBuf::from);
    let found = match mounts {
        [mount] if mount.kind == "overlay" => option(mount),
        [mount] if mount.kind == "bind" => Some(PathBuf::from(&mount.source)),
        _ => None,
    };
    found.ok_or_else(|| failed("the node's snapshotter is not the kernel's overlay"))
}

/// The layers below, the closest one first.
fn lowers(mounts: &[Mount]) -> Vec<PathBuf> {
    let options = mounts.iter().flat_map(|mount| &mount.options);
    let lowers = options.filter_map(|option| option.strip_prefix("lowerdir="));
    lowers.flat_map(|paths| paths.split(':')).map(PathBuf::from).collect()
}

fn settle(mounts: &[Mount], upper: &Path, directory: &Path, unpacked: &Unpacked) -> Result<()> {
    complete(directory, &unpacked.implicit, &lowers(mounts))?;
    if !unpacked.root {
        let given = fs::metadata(upper)?;
        std::os::unix::fs::chown(directory, Some(given.uid()), Some(given.gid()))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(given.mode() & 0o7777))?;
    }
    fs::remove_dir(upper)?;
    Ok(fs::rename(directory, upper)?)
}

/// Sets the attributes of directories that a layer does not describe to those in the layers below.
pub(super) fn complete(directory: &Path, implicit: &BTreeSet<PathBuf>, lowers: &[PathBuf]) -> io::Result<()> {
    // If this layer hides a directory of the others, its own directory does not take over their attributes.
    for path in implicit.iter().filter(|path| !hides(directory, path)) {
        for lower in lowers {
            match open_below(lower, path) {
                // If this layer does not have it, the next one may, unless this one hides it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if hides(lower, path) => break,
                Err(Errno::NOENT) => {}
                Err(source) => return Err(source.into()),
                Ok(found) => {
                    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
                    if kind.is_dir() {
                        copy_attributes(&found, &open_below(directory, path)?, |name| !is_overlay(name))?;
                    }
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Whether a layer hides this path of the layers below: a parent of it is opaque, or not a directory.
fn hides(layer: &Path, path: &Path) -> bool {
    let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
    above.reverse();
    for parent in above {
        let Ok(found) = open_below(layer, parent) else { return false };
        let is_directory = rustix::fs::fstat(&found).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
        let mut mark = [0; 1];
        let place = format!("/proc/self/fd/{}", found.as_raw_fd());
        let opaque = is_directory && rustix::fs::getxattr(place, "trusted.overlay.opaque", &mut mark) == Ok(1);
        if !is_directory || opaque && mark == *b"y" {
            return true;
        }
    }
    false
}

fn open_below(root: &Path, path: &Path) -> Result<OwnedFd, Errno> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// Whether an attribute is one by which the overlay marks a layer.
fn is_overlay(name: &str) -> bool {
    OVERLAY.iter().any(|own| name.starts_with(own))
}

/// Copies owner, permissions, times, and the extended attributes that are wanted.
pub(super) fn copy_attributes(from: &OwnedFd, to: &OwnedFd, is_wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    let given = rustix::fs::fstat(from)?;
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let (source, target) = (path(from), path(to));
    let owner = (Some(Uid::from_raw(given.st_uid)), Some(Gid::from_raw(given.st_gid)));
    rustix::fs::chownat(to, "", owner.0, owner.1, AtFlags::EMPTY_PATH)?;
    rustix::fs::chmod(&target, Mode::from_raw_mode(given.st_mode & 0o7777))?;
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::listxattr(&source, &mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if !is_wanted(&String::from_utf8_lossy(name)) {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let size = rustix::fs::getxattr(&source, name, &mut value)?;
        rustix::fs::setxattr(&target, name, &value[..size], XattrFlags::empty())?;
    }
    let time = |seconds, nanos: u64| rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos.try_into().unwrap_or(0) };
    let times = rustix::fs::Timestamps {
        last_access: time(given.st_atime, given.st_atime_nsec),
        last_modification: time(given.st_mtime, given.st_mtime_nsec),
    };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, target, &times, AtFlags::empty())?)
}
