//! What registries change in nodes that exist.

use crate::cluster::found::Node;
use crate::cluster::upload;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::plan::FileTree;

/// Writes files into a node.
pub(super) async fn write_files(engine: &dyn Engine, node: &str, files: &FileTree) -> Result<()> {
    upload::write_files(engine, node, files).await.map_err(|error| error.on_node(node))
}

/// Why a node cannot be changed completely.
pub(super) fn stopped(node: &Node) -> Error {
    Error::new(Code::StepFailed, format!("node {} does not run", node.name))
}
