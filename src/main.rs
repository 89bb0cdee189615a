//! The `coracle` command.

use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    let code = runtime.block_on(coracle::cli::run(std::env::args_os()));
    // A thread that reads an input which does not end must not keep a command that was interrupted.
    runtime.shutdown_background();
    Ok(code)
}
