//! Programs of the host that a build runs.

use std::process::Stdio;

use tokio::process::Command;

use crate::error::{Code, Error, Result};

/// How many lines of a failed program's output an error shows.
const LINES: usize = 20;

/// Runs a program to its end and returns its standard output; `purpose` completes "cannot …".
pub(super) async fn run(mut command: Command, purpose: &str) -> Result<Vec<u8>> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            missing(&program)
        } else {
            Error::new(Code::BuildFailed, format!("cannot run `{program}`")).with_cause(&source)
        }
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("go: downloading")).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    Err(Error::new(Code::BuildFailed, format!("cannot {purpose}"))
        .because(format!("`{program}` ended with {}", output.status))
        .with_lines(last.iter().copied()))
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

    #[test]
    fn a_missing_program_is_named() {
        let error = require(&["sh", "no-such-program"]).unwrap_err();
        assert_eq!(error.code(), Code::ToolMissing);
        assert!(error.message().contains("no-such-program"));
    }
}
