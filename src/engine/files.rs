//! Reads files of containers and runs commands in them.

use std::io::Read;

use futures_util::TryStreamExt;

use crate::engine::Engine;
use crate::engine::conversation::ByteStream;
use crate::engine::spec::ExecOutput;
use crate::error::{Code, Error, Reason, Result};

/// Bytes of a header in a tar archive.
const TAR_BLOCK: usize = 512;

/// A file of a container, also of one that is stopped.
pub async fn read_file(engine: &dyn Engine, container: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let failed = |source: &dyn std::error::Error| {
        Error::new(Code::EngineFailed, format!("cannot read `{path}`")).on_node(container).with_cause(source)
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

/// The size of a file of a container. Only the beginning of the archive is read.
pub async fn file_size(engine: &dyn Engine, container: &str, path: &str) -> Result<Option<u64>> {
    let failed = |source: &dyn std::error::Error| {
        Error::new(Code::EngineFailed, format!("cannot read `{path}` in container `{container}`")).with_cause(source)
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

/// Lines of a failed command that its error shows.
const MAX_LINES: usize = 10;
/// Exit codes of a shell or an engine for a program that does not exist.
const NO_PROGRAM: [i64; 2] = [126, 127];

/// Runs a command in a container and returns its standard output. When the command fails, the error is `failure` with
/// the command's last lines; `Reason::ProgramMissing` when the container has no such program.
pub async fn run(
    engine: &dyn Engine,
    container: &str,
    command: &[&str],
    input: Option<ByteStream>,
    failure: Error,
) -> Result<Vec<u8>> {
    succeeded(engine.exec(container, command, input).await?, failure)
}

/// The standard output of a command that succeeded, else `failure` with the command's last lines.
pub fn succeeded(output: ExecOutput, failure: Error) -> Result<Vec<u8>> {
    if output.exit_code == 0 {
        return Ok(output.stdout);
    }
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let mut lines: Vec<&str> =
        texts.iter().flat_map(|text| text.lines()).map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    lines.drain(..lines.len().saturating_sub(MAX_LINES));
    let cause = lines.last().map_or_else(|| format!("exit code {}", output.exit_code), |line| line.trim().to_owned());
    // A single line is already the cause.
    let lines = if lines.len() > 1 { lines } else { Vec::new() };
    let missing = NO_PROGRAM.contains(&output.exit_code).then_some(Reason::ProgramMissing);
    Err(failure.because(cause).with_lines(lines).with_reason(missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::ContainerSpec;

    #[tokio::test]
    async fn a_failed_command_is_reported_with_its_last_lines() {
        let engine = FakeEngine::new(&["node"]).on_exec(|_, command, _| match command[0] {
            "absent" => ExecOutput { exit_code: 127, stdout: Vec::new(), stderr: Vec::new() },
            "false" => ExecOutput { exit_code: 1, stdout: "one\n".into(), stderr: "two\n\n".into() },
            _ => ExecOutput { stdout: "fine".into(), ..ExecOutput::default() },
        });
        engine.create_container(&ContainerSpec::new("a", "node")).await.unwrap();
        engine.start_container("a").await.unwrap();
        let run = async |program: &str| {
            run(&engine, "a", &[program], None, Error::new(Code::StepFailed, "cannot do it")).await
        };
        assert_eq!(run("true").await.unwrap(), b"fine");
        let error = run("false").await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.lines().len()), ("cannot do it: two", 2));
        let error = run("absent").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot do it: exit code 127");
        assert_eq!(error.reason(), Some(Reason::ProgramMissing));
    }
}
