//! Unpacks a layer into an empty directory, in the form that the kernel's overlay expects.
//!
//! What a layer deletes becomes a character device 0/0 or a mark on a directory. No path leads out of the directory: the
//! kernel resolves all of them below it, including symbolic links of the layer.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::attributes::{Attributes, Times, set_times};
use super::content::{write_content, write_sparse};
use super::entries::{Entries, Entry};

/// Marks what a layer deletes.
const WHITEOUT: &[u8] = b".wh.";
/// The prefix of marks that are no files of the image.
const MARK: &[u8] = b".wh..wh.";
/// Marks a directory whose content in lower layers is hidden.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The largest number of symbolic links in a row that lead to directories still to be created.
const MAX_LINKS: u8 = 16;

/// What was found while a layer was unpacked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Directories with files of the layer that it does not describe, parents first.
    pub implicit: BTreeSet<PathBuf>,
    /// It describes its root directory.
    pub root: bool,
}

/// Unpacks the tar of a layer into an empty directory. The source is read to its end.
pub(super) fn unpack(mut source: impl Read, root: &Path) -> io::Result<Unpacked> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut target = Target {
        root: Rc::new(fs::open(root, flags, Mode::empty())?),
        found: Unpacked::default(),
        directories: Vec::new(),
        last: None,
    };
    let mut entries = Entries::new(&mut source);
    while let Some(entry) = entries.next()? {
        target.entry(&entry, &mut entries.content())?;
    }
    // In reverse order: the times of a directory are set after its files.
    for (path, times) in std::mem::take(&mut target.directories).into_iter().rev() {
        let (parent, name) = target.place(&path, 0)?;
        let there = fs::statat(parent.as_fd(), name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        // A directory that was replaced later has no times.
        if there.is_ok_and(|there| FileType::from_raw_mode(there.st_mode).is_dir()) {
            set_times(parent.as_fd(), &name, times)?;
        }
    }
    let found = target.found;
    io::copy(&mut source, &mut io::sink())?;
    Ok(found)
}

/// A directory that a layer is unpacked into.
struct Target {
    root: Rc<OwnedFd>,
    found: Unpacked,
    directories: Vec<(PathBuf, Times)>,
    /// The last used directory; the files of a directory usually follow each other.
    last: Option<(PathBuf, Rc<OwnedFd>)>,
}

impl Target {
    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> io::Result<()> {
        let kind = entry.kind;
        let path = clean(&entry.path);
        let attributes = Attributes::of(&entry.header, &entry.extended)?;
        let Some(name) = path.file_name().map(|name| name.as_bytes().to_vec()) else {
            return if kind == EntryType::Directory { self.root_directory(&attributes) } else { Ok(()) };
        };
        if let Some(taken) = name.strip_prefix(WHITEOUT) {
            return self.mark(&path, &name, taken);
        }
        let (parent, name) = self.place(&path, 0)?;
        let dir = parent.as_fd();
        match kind {
            EntryType::Directory => {
                self.directory(dir, &name, &path)?;
                attributes.apply(dir, &name, false)?;
                self.directories.push((path, attributes.times));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let file = self.make(dir, &name, || {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    fs::openat(dir, &name, flags, Mode::RUSR | Mode::WUSR)
                })?;
                let file = File::from(file);
                match &entry.sparse {
                    Some(map) => write_sparse(content, map, &file)?,
                    None => write_content(content, &file)?,
                }
                attributes.apply_to_file(&file)?;
            }
            EntryType::Link => self.hard_link(&entry.link, dir, &name, &attributes)?,
            EntryType::Symlink => {
                self.make(dir, &name, || fs::symlinkat(entry.link.as_slice(), dir, &name))?;
                attributes.apply(dir, &name, true)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.node(&entry.header, dir, &name, &attributes)?;
            }
            other => {
                let text = format!("`{}` in the layer has the unknown type {other:?}", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(())
    }

    fn root_directory(&mut self, attributes: &Attributes) -> io::Result<()> {
        self.found.root = true;
        let path = format!("/proc/self/fd/{}", self.root.as_raw_fd());
        let root = File::open(path)?;
        attributes.apply_to_file(&root)
    }

    /// Creates a file and replaces what is in its place.
    fn make<T>(&mut self, dir: impl AsFd, name: &[u8], begin: impl Fn() -> Result<T, Errno>) -> io::Result<T> {
        match begin() {
            Err(Errno::EXIST) => {
                self.last = None;
                remove(dir.as_fd(), name)?;
                Ok(begin()?)
            }
            made => Ok(made?),
        }
    }

    fn directory(&mut self, dir: impl AsFd, name: &[u8], path: &Path) -> io::Result<()> {
        self.found.implicit.remove(path);
        match fs::mkdirat(&dir, name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        let there = fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(there.st_mode).is_dir() {
            return Ok(());
        }
        self.make(&dir, name, || fs::mkdirat(&dir, name, Mode::RWXU))?;
        // The layer deletes it first and then creates it again, so the old content is hidden.
        if is_whiteout(&there) { set_opaque(dir.as_fd(), name) } else { Ok(()) }
    }

    fn hard_link(&mut self, link: &[u8], dir: impl AsFd, name: &[u8], attributes: &Attributes) -> io::Result<()> {
        let target = clean(link);
        let (parent, target_name) = self.place(&target, 0)?;
        let linked =
            self.make(&dir, name, || fs::linkat(parent.as_fd(), target_name.as_slice(), &dir, name, AtFlags::empty()));
        linked.map_err(|source| {
            let text = format!("cannot link to `{}` of the same layer: {source}", target.display());
            io::Error::new(source.kind(), text)
        })?;
        let kind = FileType::from_raw_mode(fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
        attributes.apply(dir.as_fd(), name, kind.is_symlink())
    }

    fn node(&mut self, header: &tar::Header, dir: impl AsFd, name: &[u8], attributes: &Attributes) -> io::Result<()> {
        let kind = match header.entry_type() {
            EntryType::Char => FileType::CharacterDevice,
            EntryType::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        // An empty field is 0, as in engines; a pipe has no numbers, whatever the fields contain.
        let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or_default();
        let device = if kind == FileType::Fifo {
            0
        } else {
            fs::makedev(number(header.device_major()), number(header.device_minor()))
        };
        match self.make(&dir, name, || fs::mknodat(&dir, name, kind, Mode::RUSR | Mode::WUSR, device)) {
            // A user namespace allows no devices; images are expected to work without them.
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied && kind != FileType::Fifo => Ok(()),
            made => made.and_then(|()| attributes.apply(dir.as_fd(), name, false)),
        }
    }

    /// Deletes a file of the layers below, or the content of a directory.
    fn mark(&mut self, path: &Path, name: &[u8], taken: &[u8]) -> io::Result<()> {
        if name == OPAQUE {
            let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
                // The root of a layer: the layers below are hidden as well.
                return set_opaque(self.root.as_fd(), b".");
            };
            self.open(directory, 0)?;
            let (parent, name) = self.place(directory, 0)?;
            return set_opaque(parent.as_fd(), &name);
        }
        if name.starts_with(MARK) || taken.is_empty() || taken == b"." || taken == b".." {
            return Ok(());
        }
        let (parent, _) = self.place(path, 0)?;
        match fs::mknodat(parent.as_fd(), taken, FileType::CharacterDevice, Mode::empty(), 0) {
            // This layer has it again; of a directory, only the new content may be visible.
            Err(Errno::EXIST) => {
                let there = fs::statat(parent.as_fd(), taken, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_dir = FileType::from_raw_mode(there.st_mode).is_dir();
                if is_dir { set_opaque(parent.as_fd(), taken) } else { Ok(()) }
            }
            made => Ok(made?),
        }
    }

    /// The parent directory of a path, and its name there.
    fn place(&mut self, path: &Path, links: u8) -> io::Result<(Rc<OwnedFd>, Vec<u8>)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidData)?.as_bytes().to_vec();
        let parent = self.open(path.parent().unwrap_or(Path::new("")), links)?;
        Ok((parent, name))
    }

    /// Opens a directory, and creates it if the layer does not describe it.
    fn open(&mut self, path: &Path, links: u8) -> io::Result<Rc<OwnedFd>> {
        if path.as_os_str().is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((_, directory)) = self.last.as_ref().filter(|(last, _)| last == path) {
            return Ok(Rc::clone(directory));
        }
        let directory = match self.resolve(path) {
            Err(Errno::NOENT) => {
                self.make_implicit(path, links)?;
                self.resolve(path)?
            }
            resolved => resolved?,
        };
        let directory = Rc::new(directory);
        self.last = Some((path.to_owned(), Rc::clone(&directory)));
        Ok(directory)
    }

    fn resolve(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let below = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        fs::openat2(self.root.as_fd(), path, flags, Mode::empty(), below)
    }

    fn make_implicit(&mut self, path: &Path, links: u8) -> io::Result<()> {
        let (parent, name) = self.place(path, links)?;
        match fs::mkdirat(parent.as_fd(), name.as_slice(), Mode::from_raw_mode(0o755)) {
            // A symbolic link to a directory that does not exist yet.
            Err(Errno::EXIST) if links < MAX_LINKS => {
                let target = fs::readlinkat(parent.as_fd(), name.as_slice(), Vec::new())?;
                let base = path.parent().unwrap_or(Path::new(""));
                let target = base.join(OsStr::from_bytes(target.as_bytes()));
                self.open(&clean(target.as_os_str().as_bytes()), links + 1).map(drop)
            }
            made => {
                made?;
                // A parent with the set-group-ID bit passes on the bit and its group; in engines, only the bit.
                let there = fs::statat(parent.as_fd(), name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
                if Mode::from_raw_mode(there.st_mode).contains(Mode::SGID) {
                    fs::chownat(&parent, name.as_slice(), None, Some(Gid::ROOT), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                self.found.implicit.insert(path.to_owned());
                Ok(())
            }
        }
    }
}

/// The path from the layer's root, without `.` and `..`.
fn clean(path: &[u8]) -> PathBuf {
    let mut parts = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(path)).components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts
}

fn is_whiteout(stat: &fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Hides the content of a directory in the layers below.
fn set_opaque(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    let path = below(dir.as_fd().as_raw_fd(), name);
    match fs::lsetxattr(&path, "trusted.overlay.opaque", b"y", XattrFlags::empty()) {
        // In a user namespace, the kernel uses the other name.
        Err(Errno::PERM) => Ok(fs::lsetxattr(&path, "user.overlay.opaque", b"y", XattrFlags::empty())?),
        set => Ok(set?),
    }
}

/// A path to a file in an open directory, for calls that accept only paths.
pub(super) fn below(dir: i32, name: &[u8]) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.to_string()).join(OsStr::from_bytes(name))
}

fn remove(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    match fs::unlinkat(&dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => std::fs::remove_dir_all(below(dir.as_fd().as_raw_fd(), name)),
        removed => Ok(removed?),
    }
}

/// The IDs of an owner.
pub(super) fn owner(uid: u64, gid: u64) -> io::Result<(Uid, Gid)> {
    let number = |id: u64| u32::try_from(id).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    Ok((Uid::from_raw(number(uid)?), Gid::from_raw(number(gid)?)))
}
