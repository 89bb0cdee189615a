//! The programs of a node that know its image store.

use crate::engine::Engine;
use crate::engine::spec::ExecOutput;
use crate::error::{Code, Error, Reason, Result};

/// crictl with containerd's socket: neither its configuration nor its time limit of 2 s is relied on.
pub(crate) const CRICTL: [&str; 3] =
    ["crictl", "--runtime-endpoint=unix:///run/containerd/containerd.sock", "--timeout=60s"];
/// Exit codes of a shell or engine that did not find the program.
const NO_PROGRAM: [i64; 2] = [126, 127];
/// The largest number of lines of a failed command that are shown.
const MAX_LINES: usize = 5;

/// Runs crictl in a node; `purpose` completes "cannot …".
pub(crate) async fn crictl(engine: &dyn Engine, node: &str, purpose: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    run(engine, node, purpose, &[&CRICTL, arguments].concat()).await
}

/// Runs a command in a node and returns its standard output; `purpose` completes "cannot …".
pub(crate) async fn run(engine: &dyn Engine, node: &str, purpose: &str, command: &[&str]) -> Result<Vec<u8>> {
    let output = engine.exec(node, command, None).await.map_err(|error| unseen(error, node))?;
    if output.exit_code == 0 { Ok(output.stdout) } else { Err(failed(&format!("cannot {purpose}"), node, &output)) }
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
            .hint(format!("start it: `docker start {node}`, or leave it out with `--nodes`"));
    }
    error.on_node(node)
}

fn failed(what: &str, node: &str, output: &ExecOutput) -> Error {
    let streams = [output.stderr.as_slice(), output.stdout.as_slice()].map(String::from_utf8_lossy);
    let mut lines: Vec<&str> =
        streams.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.drain(..lines.len().saturating_sub(MAX_LINES));
    let error = Error::new(Code::StepFailed, what).on_node(node).lines(lines.iter().copied());
    if NO_PROGRAM.contains(&output.exit_code) {
        return error.because("its image has no `ctr` or `crictl`").hint("use a node image of coracle or of kind");
    }
    error.because(lines.last().map_or_else(|| format!("exit code {}", output.exit_code), |line| (*line).to_owned()))
}
