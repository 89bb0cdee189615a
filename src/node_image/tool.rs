//! Programs of the host that a build runs.

use std::collections::VecDeque;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::error::{Code, Error, Result};

/// How many lines of a failed program's output an error shows.
const LINES: usize = 20;

/// Runs a program to its end and returns its standard output; `purpose` completes "cannot …".
pub(super) async fn run(command: Command, purpose: &str) -> Result<Vec<u8>> {
    watch(command, purpose, &mut |_| true).await
}

/// The same, and each line of standard error is shown to `keep`, which says whether it belongs into an error.
pub(super) async fn watch(
    mut command: Command,
    purpose: &str,
    keep: &mut (dyn FnMut(&str) -> bool + Send),
) -> Result<Vec<u8>> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |source: std::io::Error| {
        if source.kind() == std::io::ErrorKind::NotFound {
            missing(&program)
        } else {
            Error::new(Code::BuildFailed, format!("cannot run `{program}`")).with_cause(&source)
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let mut stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let printed = async {
        let mut bytes = Vec::new();
        if let Some(stdout) = &mut stdout {
            stdout.read_to_end(&mut bytes).await?;
        }
        Ok::<_, std::io::Error>(bytes)
    };
    let said = async {
        let mut last = VecDeque::new();
        let Some(stderr) = stderr else { return Ok(last) };
        let mut stderr = BufReader::new(stderr);
        let mut line = Vec::new();
        while stderr.read_until(b'\n', &mut line).await? > 0 {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if !text.starts_with("go: downloading") && keep(&text) {
                last.push_back(text);
                last.drain(..last.len().saturating_sub(LINES));
            }
            line.clear();
        }
        Ok::<_, std::io::Error>(last)
    };
    let (printed, said) = tokio::try_join!(printed, said).map_err(failed)?;
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(printed);
    }
    Err(Error::new(Code::BuildFailed, format!("cannot {purpose}"))
        .because(format!("`{program}` ended with {status}"))
        .with_lines(said))
}

/// Checks that the programs are there before minutes are spent.
pub(super) fn require(programs: &[&str]) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &&&str| std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    match programs.iter().find(|program| !there(program)) {
        Some(program) => Err(missing(program)),
        None => Ok(()),
    }
}

fn missing(program: &str) -> Error {
    let hint = match program {
        "go" => "install Go 1.26 or later from https://go.dev/dl",
        "gcc" => "runc and pause need a C compiler: `apt-get install gcc libc6-dev`",
        "mmdebstrap" => "the root file system is Debian's: `apt-get install mmdebstrap`",
        _ => "install it",
    };
    Error::new(Code::ToolMissing, format!("`{program}` is not installed")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_shows_the_last_lines() {
        let mut command = Command::new("sh");
        command.args(["-c", "for i in $(seq 50); do echo line $i >&2; done; exit 3"]);
        let error = run(command, "try").await.unwrap_err();
        assert_eq!(error.lines().len(), LINES);
        assert_eq!(error.lines().last().unwrap(), "line 50");
    }

    #[tokio::test]
    async fn lines_are_shown_as_they_come_and_those_that_are_progress_are_not_in_the_error() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo fmt >&2; echo out; echo net/http >&2; echo broken: here >&2; exit 1"]);
        let mut seen = Vec::new();
        let mut keep = |line: &str| {
            seen.push(line.to_owned());
            line.contains(':')
        };
        let error = watch(command, "try", &mut keep).await.unwrap_err();
        assert_eq!(error.lines(), ["broken: here"]);
        assert_eq!(seen, ["fmt", "net/http", "broken: here"]);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = require(&["sh", "no-such-program"]).unwrap_err();
        assert_eq!(error.code(), Code::ToolMissing);
        assert!(error.message().contains("no-such-program"));
    }
}
