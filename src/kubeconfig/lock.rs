//! kubectl's own lock: a file `FILE.lock` that exists while a program changes `FILE`.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Code, Error, Result};
use crate::kubeconfig::change::Change;

/// How long another program may hold a lock before it is reported; kubectl and coracle need milliseconds.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Locks that are held, released when dropped.
#[derive(Debug)]
pub(super) struct Locks {
    held: Vec<PathBuf>,
    /// Ends after the locks are released: a field is dropped after what contains it.
    _change: Change,
}

impl Locks {
    /// Locks all `files`, and waits for other programs that hold a lock.
    ///
    /// The target of a link is locked as well, for programs that name it. Files in directories where nothing can
    /// be created are left out: other programs cannot lock or replace them either.
    pub(super) fn take(files: &[PathBuf]) -> Result<Self> {
        Self::take_within(files, LOCK_TIMEOUT)
    }

    /// The same, with another patience.
    pub(super) fn take_within(files: &[PathBuf], patience: Duration) -> Result<Self> {
        let mut names: Vec<PathBuf> =
            files.iter().flat_map(|file| [name(file), name(&super::file::target_of(file))]).collect();
        // All use the same order, or two could wait for each other.
        names.sort();
        names.dedup();
        let start = Instant::now();
        loop {
            match Self::try_take(&names) {
                Ok(locks) => return Ok(locks),
                // No lock is held while this waits.
                Err((_, source)) if source.kind() == io::ErrorKind::AlreadyExists && start.elapsed() < patience => {
                    thread::sleep(RETRY_INTERVAL);
                }
                Err((lock, source)) => return Err(failure(&lock, &source, patience)),
            }
        }
    }

    fn try_take(names: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let mut locks = Self { held: Vec::new(), _change: Change::begin() };
        for lock in names {
            match OpenOptions::new().write(true).create_new(true).open(lock) {
                Ok(_) => locks.held.push(lock.clone()),
                Err(source) if cannot_be_created(&source) => {}
                Err(source) => return Err((lock.clone(), source)),
            }
        }
        Ok(locks)
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        for lock in &self.held {
            // It is fine if it is already gone; any other failure leaves a stale lock, which is reported with its name.
            let _ = fs::remove_file(lock);
        }
    }
}

/// The lock that other programs hold of one of these files, and for how long.
pub(super) fn held(files: &[PathBuf]) -> Option<(PathBuf, Duration)> {
    let names = files.iter().flat_map(|file| [name(file), name(&super::file::target_of(file))]);
    names.into_iter().find_map(|lock| {
        let age = fs::metadata(&lock).ok()?.modified().ok()?.elapsed().unwrap_or_default();
        Some((lock, age))
    })
}

fn cannot_be_created(source: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(source.kind(), NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem)
}

fn failure(lock: &Path, source: &io::Error, patience: Duration) -> Error {
    let lock_text = lock.display();
    if source.kind() != io::ErrorKind::AlreadyExists {
        return Error::new(Code::FileFailed, format!("cannot create kubeconfig lock `{lock_text}`")).with_cause(source);
    }
    let age = fs::metadata(lock).and_then(|lock| lock.modified()).ok().and_then(|time| time.elapsed().ok());
    let age = age.map_or_else(String::new, |age| format!("; it is {} s old", age.as_secs()));
    Error::new(Code::KubeconfigLocked, format!("the kubeconfig is locked by `{lock_text}`"))
        .because(format!("the lock was not released within {} s{age}", patience.as_secs_f32()))
        .hint(format!("if neither kubectl nor coracle is running, run `rm '{lock_text}'`"))
}

fn name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_lock_is_reported_with_the_command_that_removes_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        let held = Locks::take(std::slice::from_ref(&file)).unwrap();
        assert!(name(&file).exists());
        let start = Instant::now();
        let error = Locks::take(std::slice::from_ref(&file)).unwrap_err();
        assert!(start.elapsed() >= LOCK_TIMEOUT);
        assert_eq!(error.code(), Code::KubeconfigLocked);
        assert!(error.hints()[0].contains(&format!("rm '{}'", name(&file).display())));
        drop(held);
        assert!(!name(&file).exists());
        drop(Locks::take(std::slice::from_ref(&file)).unwrap());
    }

    #[test]
    fn a_lock_that_is_released_in_time_can_be_taken() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        let held = Locks::take(std::slice::from_ref(&file)).unwrap();
        let waiter = thread::spawn({
            let file = file.clone();
            move || Locks::take(&[file]).map(drop)
        });
        thread::sleep(Duration::from_millis(100));
        drop(held);
        waiter.join().unwrap().unwrap();
    }

    #[test]
    fn a_link_and_its_target_exclude_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("target"));
        std::os::unix::fs::symlink("target", &link).unwrap();
        let _held = Locks::take(&[link]).unwrap();
        assert!(name(&target).exists());
    }
}
