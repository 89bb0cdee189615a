//! `coracle kind-link`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::error::{Code, Error, Result};

/// The name of the link.
const NAME: &str = "kind";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  coracle kind-link               make the link `kind` beside coracle itself
  coracle kind-link ~/bin         make it in another directory
  coracle kind-link --remove      remove it")]
pub(crate) struct KindLink {
    /// Directory for the link [default: the directory of coracle itself]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Remove the link instead
    #[arg(long)]
    remove: bool,
}

impl Run for KindLink {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let coracle = own_path()?;
        let beside = || coracle.parent().unwrap_or(Path::new("/")).to_path_buf();
        let directory = self.directory.clone().unwrap_or_else(beside);
        let link = directory.join(NAME);
        if self.remove {
            let removed = remove(&link, &coracle)?;
            let also = if removed { "is removed" } else { "does not exist, so nothing was removed" };
            context.ui.note(format!("`{}` {also}", link.display()));
            return Ok(ExitCode::SUCCESS);
        }
        create_link(&link, &coracle)?;
        context.ui.note(format!("`{}` is a link to coracle and behaves like kind", link.display()));
        let first = first_in_path(std::env::var_os("PATH").as_deref());
        if first.as_deref() != Some(link.as_path()) {
            context.ui.warn(match first {
                Some(other) => format!("`kind` still runs `{}`, which comes first in PATH", other.display()),
                None => format!("`{}` is not in PATH", directory.display()),
            });
            context.ui.hint(format!("put it first: `export PATH=\"{}:$PATH\"`", directory.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The file of this program, whichever link it was called by.
fn own_path() -> Result<PathBuf> {
    let unknown =
        |source: io::Error| Error::new(Code::FileFailed, "cannot find the file of coracle").with_cause(&source);
    std::env::current_exe().and_then(fs::canonicalize).map_err(unknown)
}

/// Makes the link, or leaves it if it is already there; an error if something else has its name.
fn create_link(link: &Path, coracle: &Path) -> Result<()> {
    let failed = |source: io::Error| {
        Error::new(Code::FileFailed, format!("cannot make the link `{}`", link.display()))
            .with_cause(&source)
            .hint("name a directory that you can write to: `coracle kind-link DIR`")
    };
    if is_ours(link, coracle)? {
        if leads_to(link, coracle) {
            return Ok(());
        }
        // It leads to a coracle that was moved or is another one.
        fs::remove_file(link).map_err(failed)?;
    }
    symlink(coracle, link).map_err(failed)
}

/// Removes the link; returns whether there was one.
fn remove(link: &Path, coracle: &Path) -> Result<bool> {
    let failed = |source: io::Error| {
        Error::new(Code::FileFailed, format!("cannot remove the link `{}`", link.display())).with_cause(&source)
    };
    let exists = is_ours(link, coracle)?;
    if exists {
        fs::remove_file(link).map_err(failed)?;
    }
    Ok(exists)
}

/// Whether there is a link to a coracle; an error if there is something else, which is not coracle's.
/// This coracle may have another name, such as the one that it was downloaded with.
fn is_ours(link: &Path, coracle: &Path) -> Result<bool> {
    match fs::symlink_metadata(link) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        _ if fs::read_link(link).is_ok_and(|target| target.file_name() == Some(OsStr::new("coracle"))) => Ok(true),
        Ok(found) if found.is_symlink() && leads_to(link, coracle) => Ok(true),
        _ => Err(Error::new(Code::FileFailed, format!("`{}` is not a link to coracle", link.display()))
            .because("it was not made by `coracle kind-link`, and is left as it is")
            .hint("name another directory, which comes earlier in PATH: `coracle kind-link DIR`")),
    }
}

fn leads_to(link: &Path, coracle: &Path) -> bool {
    fs::canonicalize(link).is_ok_and(|target| target == coracle)
}

/// What `kind` means in a shell with this PATH.
fn first_in_path(path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?).map(|directory| directory.join(NAME)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_to_coracle_is_replaced_or_removed() {
        let directory = tempfile::tempdir().unwrap();
        let (link, coracle) = (directory.path().join(NAME), directory.path().join("coracle"));
        fs::write(&coracle, "").unwrap();
        let coracle = fs::canonicalize(coracle).unwrap();
        assert!(!remove(&link, &coracle).unwrap());
        for _ in 0..2 {
            create_link(&link, &coracle).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), coracle);
        }
        assert!(remove(&link, &coracle).unwrap());
        // One of a coracle that is no longer there.
        symlink("/nowhere/coracle", &link).unwrap();
        create_link(&link, &coracle).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), coracle);
        assert!(remove(&link, &coracle).unwrap());
        // This one, by the name of its download.
        let download = coracle.with_file_name("coracle-linux-amd64");
        fs::write(&download, "").unwrap();
        for _ in 0..2 {
            create_link(&link, &download).unwrap();
        }
        assert!(create_link(&link, &coracle).is_err());
        assert!(remove(&link, &download).unwrap());

        symlink("/usr/bin/other", &link).unwrap();
        assert!(create_link(&link, &coracle).is_err() && remove(&link, &coracle).is_err());
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("/usr/bin/other"));
        fs::remove_file(&link).unwrap();
        fs::write(&link, "kind itself").unwrap();
        assert!(create_link(&link, &coracle).is_err() && remove(&link, &coracle).is_err());
        assert_eq!(fs::read_to_string(&link).unwrap(), "kind itself");
    }
}
