//! The programs of a node that know its image store.

use crate::engine::Engine;
use crate::engine::files;
use crate::error::{Code, Error, Reason, Result};

/// crictl with containerd's socket: neither its configuration nor its time limit of 2 s is relied on.
pub(crate) const CRICTL: [&str; 3] =
    ["crictl", "--runtime-endpoint=unix:///run/containerd/containerd.sock", "--timeout=60s"];

/// Runs crictl in a node; `purpose` completes "cannot …".
pub(crate) async fn crictl(engine: &dyn Engine, node: &str, purpose: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    run(engine, node, purpose, &[&CRICTL, arguments].concat()).await
}

/// Runs a command in a node and returns its standard output; `purpose` completes "cannot …".
pub(crate) async fn run(engine: &dyn Engine, node: &str, purpose: &str, command: &[&str]) -> Result<Vec<u8>> {
    let failure = Error::new(Code::StepFailed, format!("cannot {purpose}")).on_node(node);
    files::run(engine, node, command, None, failure).await.map_err(|error| match error.reason() {
        Some(Reason::ProgramMissing) => {
            error.because("its image has no `ctr` or `crictl`").hint("use a node image of coracle or of kind")
        }
        _ => unseen(error, node),
    })
}

/// The error for a node whose images cannot be listed or changed.
pub(crate) fn unseen(error: Error, node: &str) -> Error {
    stopped(error, node, Code::StepFailed, "cannot list or change images")
}

/// The error when the engine runs nothing in a node: that the node is not running, if that is the reason.
pub(crate) fn stopped(error: Error, node: &str, code: Code, what: &str) -> Error {
    if error.reason() == Some(Reason::NotRunning) {
        return Error::new(code, what)
            .on_node(node)
            .because("it is not running")
            .hint(format!("start it: `coracle node start {node}`, or leave it out with `--nodes`"));
    }
    error.on_node(node)
}
