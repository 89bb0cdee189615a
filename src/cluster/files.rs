//! Files of containers, also of those that are stopped.

use std::io::Read;

use futures_util::TryStreamExt;

use crate::engine::Engine;
use crate::error::{Code, Error, Result};

/// Bytes of a header in a tar archive.
const TAR_BLOCK: usize = 512;

/// A file of a container.
pub async fn read(engine: &dyn Engine, container: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let failed = |source: &dyn std::error::Error| {
        Error::new(Code::EngineFailed, format!("cannot read `{path}`")).on_node(container).cause(source)
    };
    let Some(mut stream) = engine.download(container, path).await? else { return Ok(None) };
    let mut tar = Vec::new();
    while let Some(chunk) = stream.try_next().await.map_err(|source| failed(&source))? {
        tar.extend_from_slice(&chunk);
    }
    let mut archive = tar::Archive::new(&tar[..]);
    for entry in archive.entries().map_err(|source| failed(&source))? {
        let mut entry = entry.map_err(|source| failed(&source))?;
        if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(|source| failed(&source))?;
            return Ok(Some(content));
        }
    }
    Ok(None)
}

/// The size of a file, of whose archive only the beginning is read.
pub async fn size(engine: &dyn Engine, container: &str, path: &str) -> Result<Option<u64>> {
    let failed = |source: &dyn std::error::Error| {
        Error::new(Code::EngineFailed, format!("cannot read `{path}` in container `{container}`")).cause(source)
    };
    let Some(mut stream) = engine.download(container, path).await? else { return Ok(None) };
    let mut head = Vec::new();
    while head.len() < TAR_BLOCK {
        let Some(chunk) = stream.try_next().await.map_err(|source| failed(&source))? else { return Ok(None) };
        head.extend_from_slice(&chunk);
    }
    let header = tar::Header::from_byte_slice(&head[..TAR_BLOCK]);
    header.entry_size().map(Some).map_err(|source| failed(&source))
}
