//! The `coracle` command.

use std::process::ExitCode;

use coracle::cli::{complete, run};

fn main() -> std::io::Result<ExitCode> {
    // Ends the process, if a shell asks what can follow.
    complete();
    let runtime = tokio::runtime::Runtime::new()?;
    let code = runtime.block_on(run(std::env::args_os()));
    // A thread that reads an input which does not end must not keep a command that was interrupted.
    runtime.shutdown_background();
    Ok(code)
}
