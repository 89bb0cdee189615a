//! The `coracle` command.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    coracle::cli::run(std::env::args_os()).await
}
