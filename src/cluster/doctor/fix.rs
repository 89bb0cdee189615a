//! What `doctor --fix` does: only what loses nothing that anyone needs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cluster::lifecycle::garbage::{self, Item};
use crate::cluster::{access, found};
use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::error::{Code, Error, Result};
use crate::host::limits::INOTIFY;
use crate::kubeconfig::{self, Location};

/// The permissions that a kubeconfig keeps: those of its owner and its group.
const NOT_OTHERS: u32 = 0o770;

/// Something that mends a finding.
#[derive(Debug)]
pub enum Fix {
    /// Removes what `gc` would remove.
    Collect(Box<Item>),
    /// Removes the entry of a cluster that does not exist.
    Forget { cluster: ClusterName, file: PathBuf },
    /// Writes the entry of a cluster that was made anew.
    Refresh { cluster: ClusterName, file: PathBuf },
    /// Removes a lock that a killed program has left.
    Unlock(PathBuf),
    /// Keeps other users from reading a file.
    Close(PathBuf),
    /// Raises the kernel's limit until the next boot.
    Inotify(usize),
    /// Starts a container.
    Start(String),
}

impl Fix {
    /// What it does, as a sentence without an end.
    pub fn describe(&self) -> String {
        match self {
            Self::Collect(item) => format!("Remove {} `{}`", item.kind, item.name),
            Self::Forget { cluster, file } => {
                format!("Remove the entry of cluster `{cluster}` from {}", file.display())
            }
            Self::Refresh { cluster, file } => {
                format!("Write the entry of cluster `{cluster}` to {} again", file.display())
            }
            Self::Unlock(lock) => format!("Remove the lock {}", lock.display()),
            Self::Close(file) => format!("Keep other users from reading {}", file.display()),
            Self::Inotify(limit) => format!("Allow {limit} inotify instances until the next boot"),
            Self::Start(container) => format!("Start the container `{container}`"),
        }
    }

    /// Does it. Clusters whose time is over are for the caller, who knows what leads to them.
    pub async fn apply(&self, engine: Option<&SharedEngine>) -> Result<()> {
        let there = || engine.ok_or_else(|| Error::new(Code::EngineUnreachable, "the engine does not answer"));
        match self {
            Self::Collect(item) => garbage::remove(there()?, item).await,
            Self::Forget { cluster, file } => kubeconfig::remove(&location(file)?, &cluster.context()).await.map(drop),
            Self::Refresh { cluster, file } => {
                let engine = there()?;
                let found = found::get(&**engine, cluster).await?;
                let entry = access::entry(&**engine, &found, false).await?;
                kubeconfig::merge(&location(file)?, &entry, false).await.map(drop)
            }
            Self::Unlock(lock) => done("remove", lock, std::fs::remove_file(lock)),
            Self::Close(file) => {
                let mode = std::fs::metadata(file).map(|found| found.permissions().mode() & NOT_OTHERS);
                let closed =
                    mode.and_then(|mode| std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)));
                done("change the mode of", file, closed)
            }
            Self::Inotify(limit) => {
                let file = Path::new(INOTIFY);
                done("write", file, std::fs::write(file, format!("{limit}\n")))
            }
            Self::Start(container) => there()?.start_container(container).await,
        }
    }
}

fn location(file: &Path) -> Result<Location> {
    Location::new(Some(file), None, None)
}

fn done(verb: &str, file: &Path, result: std::io::Result<()>) -> Result<()> {
    result.map_err(|source| {
        Error::new(Code::FileFailed, format!("cannot {verb} `{}`", file.display())).with_cause(&source)
    })
}
