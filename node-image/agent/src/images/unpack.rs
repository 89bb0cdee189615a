//! Unpacks a layer into an empty directory, in the form that the kernel's overlay wants of a layer.
//!
//! What a layer takes away is a character device 0/0 or a mark on a directory. No path leads out of the directory:
//! the kernel resolves each below it, symbolic links of the layer included.

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

/// Marks what a layer takes away.
const WHITEOUT: &[u8] = b".wh.";
/// Begins the names of marks that are no files of the image.
const MARK: &[u8] = b".wh..wh.";
/// Marks a directory of which nothing below is seen.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Symbolic links that lead to directories which are to be made, one after another.
const MAX_LINKS: u8 = 16;

/// What was found while a layer was unpacked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Directories that the layer has files in and does not describe, parents first.
    pub implicit: BTreeSet<PathBuf>,
    /// It says who owns its root, and what it allows.
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
    // Deepest last in the archive: a parent's times come after its children's files.
    for (path, times) in std::mem::take(&mut target.directories).into_iter().rev() {
        let (parent, name) = target.place(&path, 0)?;
        let there = fs::statat(parent.as_fd(), name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        // A directory that something took the place of later has no times.
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
    /// The directory that was used last; a directory's files follow one another.
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

    /// Makes something; what is in its place goes.
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
        // It took away what was there before it made it anew: nothing of the former is seen.
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
        // A field that is empty is 0, as it is for the engine; a pipe has no numbers, whatever the fields say.
        let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or_default();
        let device = if kind == FileType::Fifo {
            0
        } else {
            fs::makedev(number(header.device_major()), number(header.device_minor()))
        };
        match self.make(&dir, name, || fs::mknodat(&dir, name, kind, Mode::RUSR | Mode::WUSR, device)) {
            // In a user namespace there are no devices; images are expected to work without theirs.
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied && kind != FileType::Fifo => Ok(()),
            made => made.and_then(|()| attributes.apply(dir.as_fd(), name, false)),
        }
    }

    /// Takes away a file of the layers below, or all of a directory's.
    fn mark(&mut self, path: &Path, name: &[u8], taken: &[u8]) -> io::Result<()> {
        if name == OPAQUE {
            let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
                // The root of a layer: of what is below it, nothing is seen either.
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
            // It is there again, in this layer; of a directory only what is new may be seen.
            Err(Errno::EXIST) => {
                let there = fs::statat(parent.as_fd(), taken, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_dir = FileType::from_raw_mode(there.st_mode).is_dir();
                if is_dir { set_opaque(parent.as_fd(), taken) } else { Ok(()) }
            }
            made => Ok(made?),
        }
    }

    /// The directory that a path is in, and its name there.
    fn place(&mut self, path: &Path, links: u8) -> io::Result<(Rc<OwnedFd>, Vec<u8>)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidData)?.as_bytes().to_vec();
        let parent = self.open(path.parent().unwrap_or(Path::new("")), links)?;
        Ok((parent, name))
    }

    /// Opens a directory, and makes it if the layer did not describe it.
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
            // A symbolic link to a directory that is not there yet.
            Err(Errno::EXIST) if links < MAX_LINKS => {
                let target = fs::readlinkat(parent.as_fd(), name.as_slice(), Vec::new())?;
                let base = path.parent().unwrap_or(Path::new(""));
                let target = base.join(OsStr::from_bytes(target.as_bytes()));
                self.open(&clean(target.as_os_str().as_bytes()), links + 1).map(drop)
            }
            made => {
                made?;
                // A directory above with the set-group-ID bit passes on that and its group; with engines the bit alone.
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

/// Hides what the layers below have in a directory.
fn set_opaque(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    let path = below(dir.as_fd().as_raw_fd(), name);
    match fs::lsetxattr(&path, "trusted.overlay.opaque", b"y", XattrFlags::empty()) {
        // In a user namespace the kernel takes the other name.
        Err(Errno::PERM) => Ok(fs::lsetxattr(&path, "user.overlay.opaque", b"y", XattrFlags::empty())?),
        set => Ok(set?),
    }
}

/// A path to something in an open directory, for calls that take nothing but paths.
pub(super) fn below(dir: i32, name: &[u8]) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.to_string()).join(OsStr::from_bytes(name))
}

fn remove(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    match fs::unlinkat(&dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => std::fs::remove_dir_all(below(dir.as_fd().as_raw_fd(), name)),
        removed => Ok(removed?),
    }
}

/// Numbers of an owner.
pub(super) fn owner(uid: u64, gid: u64) -> io::Result<(Uid, Gid)> {
    let number = |id: u64| u32::try_from(id).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    Ok((Uid::from_raw(number(uid)?), Gid::from_raw(number(gid)?)))
}
