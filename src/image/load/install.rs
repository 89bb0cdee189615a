//! The program that takes images, copied into nodes whose image does not have it.

use crate::agent;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};

/// The program in nodes that takes images: the agent.
pub const RECEIVER: &str = coracle_shared::paths::AGENT;

/// Copies the agent into a node.
pub(crate) async fn agent(engine: &dyn Engine, node: &str) -> Result<()> {
    let tar = agent::tar(RECEIVER).map_err(|source| {
        Error::new(Code::LoadFailed, "cannot copy the agent into a node").on_node(node).with_cause(&source)
    })?;
    engine.upload(node, tar).await
}
