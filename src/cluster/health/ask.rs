//! Questions to a node: commands that only look.

use crate::engine::Engine;
use crate::engine::files::run;
use crate::error::{Code, Error};

/// The output of a command in a node; `None` if it fails.
pub(super) async fn output(engine: &dyn Engine, node: &str, command: &[&str]) -> Option<String> {
    // The error is never shown: a question without an answer explains nothing.
    let output = run(engine, node, command, None, Error::new(Code::StepFailed, command.join(" "))).await.ok()?;
    Some(String::from_utf8_lossy(&output).into_owned())
}
