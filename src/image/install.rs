//! The program that takes images, put into nodes whose image does not have it.

use bytes::Bytes;

use super::session::RECEIVER;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};

/// Copies the agent into a node.
pub(super) async fn agent(engine: &dyn Engine, node: &str) -> Result<()> {
    let failed = |source: std::io::Error| {
        Error::new(Code::LoadFailed, "cannot copy the agent into a node").on_node(node).cause(&source)
    };
    let binary = crate::agent::BINARY;
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(binary.len() as u64);
    let mut tar = tar::Builder::new(Vec::with_capacity(binary.len() + (4 << 10)));
    tar.append_data(&mut header, RECEIVER.trim_start_matches('/'), binary).map_err(failed)?;
    engine.upload(node, Bytes::from(tar.into_inner().map_err(failed)?)).await
}
