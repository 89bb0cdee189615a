//! Owner, permissions, extended attributes and times of the files in a layer.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::entries::number;
use super::pax::Records;
use super::unpack::{below, owner};

/// The prefix of the name of an extended attribute.
const XATTR: &str = "SCHILY.xattr.";
/// The prefix of attributes that the overlay itself trusts: no layer may set them.
const TRUSTED: &str = "trusted.overlay.";

/// The times of the last read and the last write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    accessed: Timespec,
    modified: Timespec,
}

/// What a layer has about a file beside its content.
#[derive(Debug)]
pub(super) struct Attributes {
    uid: Uid,
    gid: Gid,
    mode: Mode,
    xattrs: Vec<(String, Vec<u8>)>,
    /// The times; those of a directory are set once its content is complete.
    pub times: Times,
}

impl Attributes {
    /// Reads them from the header and its extensions.
    pub(super) fn of(header: &tar::Header, extended: &Records) -> io::Result<Self> {
        let old = header.as_old();
        let uid = extended.number("uid")?.map_or_else(|| number(&old.uid, header.uid()), Ok)?;
        let gid = extended.number("gid")?.map_or_else(|| number(&old.gid, header.gid()), Ok)?;
        let (uid, gid) = owner(uid, gid)?;
        let mode = Mode::from_raw_mode(number(&old.mode, header.mode())? & 0o7777);
        let seconds = i64::try_from(number(&old.mtime, header.mtime())?).unwrap_or_default();
        let mut modified = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let (mut accessed, mut xattrs) = (None, Vec::new());
        for (key, value) in extended.iter() {
            match key {
                // A time before the epoch becomes its beginning, as in engines.
                "mtime" => modified = time(value).filter(|time| time.tv_sec >= 0).unwrap_or(modified),
                "atime" => accessed = time(value),
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR).filter(|name| !name.starts_with(TRUSTED)) {
                        xattrs.push((name.to_owned(), value.to_vec()));
                    }
                }
            }
        }
        let times = Times { accessed: accessed.unwrap_or(modified), modified };
        Ok(Self { uid, gid, mode, xattrs, times })
    }

    /// Sets them. The owner comes first: a change of it clears permission bits and capabilities.
    pub(super) fn apply(&self, dir: impl AsFd, name: &[u8], symlink: bool) -> io::Result<()> {
        fs::chownat(&dir, name, Some(self.uid), Some(self.gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !symlink {
            fs::chmodat(&dir, name, self.mode, AtFlags::empty())?;
        }
        for (key, value) in &self.xattrs {
            let path = below(dir.as_fd().as_raw_fd(), name);
            known(fs::lsetxattr(path, key.as_str(), value, XattrFlags::empty()))?;
        }
        set_times(dir.as_fd(), name, self.times)
    }

    /// Sets them on an open file.
    pub(super) fn apply_to_file(&self, file: &File) -> io::Result<()> {
        fs::fchown(file, Some(self.uid), Some(self.gid))?;
        fs::fchmod(file, self.mode)?;
        for (key, value) in &self.xattrs {
            known(fs::fsetxattr(file, key.as_str(), value, XattrFlags::empty()))?;
        }
        Ok(fs::futimens(file, &self.times.stamps())?)
    }
}

/// Ignores the error of a file system that does not support a kind of attributes.
fn known(set: Result<(), Errno>) -> io::Result<()> {
    match set {
        Err(Errno::OPNOTSUPP) => Ok(()),
        set => Ok(set?),
    }
}

impl Times {
    fn stamps(self) -> Timestamps {
        Timestamps { last_access: self.accessed, last_modification: self.modified }
    }
}

/// Sets the times of a file; of a link, not of its target.
pub(super) fn set_times(dir: impl AsFd, name: &[u8], times: Times) -> io::Result<()> {
    Ok(fs::utimensat(dir, name, &times.stamps(), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Reads `SECONDS` or `SECONDS.FRACTION`.
fn time(text: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = seconds.starts_with('-');
    let seconds: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    Some(match (negative, nanos) {
        (true, 1..) => Timespec { tv_sec: seconds - 1, tv_nsec: 1_000_000_000 - nanos },
        _ => Timespec { tv_sec: seconds, tv_nsec: nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_also_before_1970() {
        for (text, seconds, nanos) in
            [("5", 5, 0), ("5.25", 5, 250_000_000), ("-1.5", -2, 500_000_000), ("7.123456789999", 7, 123_456_789)]
        {
            let time = time(text.as_bytes()).unwrap();
            assert_eq!((time.tv_sec, time.tv_nsec), (seconds, nanos));
        }
        assert!(time(b"now").is_none());
    }
}
