//! Reads kubeconfig files, and replaces them completely or not at all.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};
use crate::kubeconfig::change::Change;

/// More links than this are a loop.
const MAX_LINKS: usize = 40;
/// The mode of a new file: only the owner may read keys.
const FILE_MODE: u32 = 0o600;
/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o777;
/// The bits of a mode by which anyone may write.
const WRITABLE: u32 = 0o222;
const DIRECTORY_MODE: u32 = 0o700;
/// Opens a pipe only if someone reads it.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// The file that writes to `path` change: the end of its links, whether it exists or not.
pub(super) fn target_of(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => break,
        }
    }
    target
}

/// Whether `path` is a device or a pipe, such as `/dev/null`, which is written and never read.
pub(super) fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// Reads a kubeconfig; `None` if the file does not exist.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    if is_stream(path) {
        return Ok(None);
    }
    match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|source| {
            let line = source.as_bytes()[..source.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
            Error::new(Code::KubeconfigInvalid, format!("cannot understand kubeconfig `{}`", path.display()))
                .because(format!("line {line} is not UTF-8"))
                .hint("save the file as UTF-8, or use another one with `--kubeconfig FILE`")
        }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failure("read", path, &source)),
    }
}

/// Creates the directories that `path` needs; those that root creates are given to `owner`.
pub(super) fn create_directory_of(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let target = target_of(path);
    let missing: Vec<&Path> =
        target.ancestors().skip(1).take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    for directory in missing.into_iter().rev() {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
            Ok(()) => File::open(directory)
                .and_then(|opened| hand_over(&opened, owner))
                .map_err(|source| failure("create", directory, &source))?,
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failure("create", directory, &source)),
        }
    }
    Ok(())
}

/// Replaces the file at the end of `path`'s links; readers see the old text or the new one.
///
/// An existing file keeps its owner and its mode, as with kubectl. A new file that root writes is given to `owner`.
pub(super) fn write(path: &Path, text: &str, owner: Option<(u32, u32)>) -> Result<()> {
    let target = target_of(path);
    check_not_protected(path, &target)?;
    let old = fs::metadata(&target).ok();
    replace(&target, text, old.as_ref(), owner).map_err(|source| failure("write", path, &source))
}

fn replace(target: &Path, text: &str, old: Option<&Metadata>, owner: Option<(u32, u32)>) -> io::Result<()> {
    let directory = target.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().prefix(".kubeconfig-").tempfile_in(directory)?;
    new.write_all(text.as_bytes())?;
    let mode = old.map_or(FILE_MODE, |old| old.mode() & PERMISSIONS);
    let given = match old {
        Some(old) => give_to(new.as_file(), (old.uid(), old.gid())),
        None => hand_over(new.as_file(), owner),
    };
    if let (Some(old), Err(source)) = (old, given) {
        // The file belongs to another user, who lets this one write to it.
        return if old.uid() == new.as_file().metadata()?.uid() {
            // The new file has another group, which must not read what the old one might.
            finish(new, target, text, mode & FILE_MODE)
        } else if source.kind() == io::ErrorKind::PermissionDenied {
            overwrite(target, text)
        } else {
            Err(source)
        };
    }
    finish(new, target, text, mode)
}

fn finish(new: tempfile::NamedTempFile, target: &Path, text: &str, mode: u32) -> io::Result<()> {
    new.as_file().set_permissions(Permissions::from_mode(mode))?;
    new.as_file().sync_all()?;
    match new.persist(target) {
        Ok(_) => Ok(()),
        // A file that is itself a mount point, as in a container, cannot be replaced.
        Err(error) if error.error.kind() == io::ErrorKind::ResourceBusy => overwrite(target, text),
        Err(error) => Err(error.error),
    }
}

/// Writes in place, as kubectl does.
pub(super) fn overwrite(target: &Path, text: &str) -> io::Result<()> {
    // A pipe that no one reads would never be opened.
    let mut file = OpenOptions::new().write(true).truncate(true).custom_flags(NONBLOCK).open(target)?;
    file.write_all(text.as_bytes())
}

/// Gives a file or directory that root has just created to the user who called sudo.
fn hand_over(file: &File, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner {
        Some(owner) if file.metadata()?.uid() == 0 => give_to(file, owner),
        _ => Ok(()),
    }
}

fn give_to(file: &File, (user, group): (u32, u32)) -> io::Result<()> {
    let metadata = file.metadata()?;
    if (user, group) == (metadata.uid(), metadata.gid()) {
        return Ok(());
    }
    fchown(file, Some(user), Some(group))
}

/// Checks that a file can be created or replaced at `path`, and leaves nothing behind.
pub(super) fn check_writable(path: &Path) -> Result<()> {
    if is_stream(path) {
        let is_pipe = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        let opened = OpenOptions::new().write(true).custom_flags(NONBLOCK).open(path);
        return match opened {
            Err(_) if is_pipe => {
                let what = format!("cannot write kubeconfig `{}`", path.display());
                Err(Error::new(Code::FileFailed, what)
                    .because("it is a pipe without a reader")
                    .hint("use a file with `--kubeconfig FILE`"))
            }
            _ => Ok(()),
        };
    }
    let target = target_of(path);
    if target.is_dir() {
        return Err(Error::new(Code::FileFailed, format!("kubeconfig `{}` is a directory", path.display()))
            .hint("use a file with `--kubeconfig FILE`"));
    }
    check_not_protected(path, &target)?;
    let _change = Change::begin();
    let directory = target
        .ancestors()
        .skip(1)
        .map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path })
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    tempfile::Builder::new()
        .prefix(".kubeconfig-")
        .tempfile_in(directory)
        .map(drop)
        .map_err(|source| failure("write", path, &source))
}

/// Refuses a file that no one may write: it could be replaced, but its owner does not want it to change.
fn check_not_protected(path: &Path, target: &Path) -> Result<()> {
    if fs::metadata(target).is_ok_and(|old| old.is_file() && old.mode() & WRITABLE == 0) {
        return Err(Error::new(Code::FileFailed, format!("cannot write kubeconfig `{}`", path.display()))
            .because("it is protected from being written")
            .hint(format!("allow it with `chmod u+w '{}'`, or use `--kubeconfig FILE`", path.display())));
    }
    Ok(())
}

/// The error for a file that cannot be read or written.
pub(super) fn failure(verb: &str, path: &Path, source: &io::Error) -> Error {
    let error =
        Error::new(Code::FileFailed, format!("cannot {verb} kubeconfig `{}`", path.display())).with_cause(source);
    if source.kind() == io::ErrorKind::PermissionDenied {
        return error.hint(format!(
            "take ownership with `sudo chown -R \"$(id -u):$(id -g)\" '{}'`, or use `--kubeconfig FILE`",
            path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")).display()
        ));
    }
    error.hint("use another file with `--kubeconfig FILE`")
}
