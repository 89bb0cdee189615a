//! Files for containers that exist.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::engine::Engine;
use crate::error::Result;
use crate::plan::FileTree;

/// Writes files into a container.
pub(super) async fn write_files(engine: &dyn Engine, container: &str, files: &FileTree) -> Result<()> {
    engine.upload(container, files.to_tar(now())?).await
}

/// Seconds since the epoch: when the files were made.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default()
}
