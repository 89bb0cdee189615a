//! Files and directories that are copied between this host and a container of a cluster.

mod local;
mod place;
mod remote;

use std::path::{Path, PathBuf};

use crate::cluster::copy::place::{Kind, destination, parts, plain};
use crate::cluster::copy::remote::Remote;
use crate::cluster::target::Target;
use crate::engine::{ByteStream, Engine};
use crate::error::{Code, Error, Result};

pub use local::Copied;
pub use place::Place;
pub use remote::Archive;

/// Copies a path of a container to this host. The path itself may be a link and is followed; links in it stay links.
pub async fn out(engine: &dyn Engine, (target, path): (&Target, &str), to: &Path) -> Result<Copied> {
    let remote = Remote::new(engine, target);
    let found = remote.require(&plain(path)).await?;
    let text = to.to_string_lossy();
    let (_, name) = parts(&plain(path));
    let end = destination((found.kind, &name, is_content(path)), &text, local::kind(to)?)
        .map_err(|cause| Error::new(Code::UsageInvalid, format!("cannot copy to `{text}`")).because(cause))?;
    let (_, base) = parts(&found.path);
    let Archive { stream, rest } = remote.read(&found).await?;
    let copied = local::unpack(stream, base, PathBuf::from(end)).await?;
    rest.check(engine).await.map(|()| copied)
}

/// A path of a container as an archive, in which the names begin with its last part.
pub async fn archive(engine: &dyn Engine, (target, path): (&Target, &str)) -> Result<Archive> {
    let remote = Remote::new(engine, target);
    let found = remote.require(&plain(path)).await?;
    remote.read(&found).await
}

/// Copies a path of this host into a container, where the copy belongs to root.
pub async fn into(engine: &dyn Engine, from: &Path, (target, path): (&Target, &str)) -> Result<Copied> {
    let remote = Remote::new(engine, target);
    let source = from.to_string_lossy();
    let Some(kind) = local::kind(from)? else {
        return Err(Error::new(Code::UsageInvalid, format!("there is no `{source}` on this host")));
    };
    let existing = remote.find(&plain(path)).await?.map(|found| found.kind);
    let is_content = is_content(&source);
    let end = destination((kind, &local::name(from)?, is_content), path, existing).map_err(|cause| {
        let error = Error::new(Code::UsageInvalid, format!("cannot copy to `{path}`"));
        error.on_node(&target.container.name).because(cause)
    })?;
    let (directory, name) = parts(&plain(&end));
    let directory = remote.require_directory(&directory).await?;
    // What exists keeps its owner and its mode.
    let with_top = !(is_content && existing == Some(Kind::Directory));
    let (stream, packing) = local::pack(from.to_owned(), name, with_top);
    let written = remote.write(&directory, stream).await;
    let packed = packing.await;
    let packed = packed
        .map_err(|source| Error::new(Code::StepFailed, "the copy task ended without a result").with_cause(&source))?;
    match packed {
        // Why the archive broke off, which is what the container then complains of.
        Err(error) if error.code() == Code::FileFailed => Err(error),
        Err(error) => Err(written.err().unwrap_or(error)),
        Ok(copied) => written.map(|()| copied),
    }
}

/// Unpacks an archive in a directory of a container.
pub async fn unpack(engine: &dyn Engine, archive: ByteStream, (target, path): (&Target, &str)) -> Result<()> {
    let remote = Remote::new(engine, target);
    let directory = remote.require_directory(&plain(path)).await?;
    remote.write(&directory, archive).await
}

/// Whether what is in a directory is meant, and not the directory.
fn is_content(path: &str) -> bool {
    path == "." || path.ends_with("/.") || plain(path) == "/"
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
