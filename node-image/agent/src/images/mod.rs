//! Images on their way into a node.

mod read;
#[allow(dead_code, reason = "what only the command uses")]
mod wire;

use std::process::ExitCode;

/// What the command of a user has this program do.
pub(crate) fn main(command: Option<&str>) -> ExitCode {
    if command == Some("read") { read::main() } else { ExitCode::from(2) }
}
