//! `coracle version`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Print only the number
    #[arg(long, short)]
    short: bool,
}

impl Run for Version {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let number = env!("CARGO_PKG_VERSION");
        context.ui.data(&if self.short { number.to_owned() } else { format!("coracle {number}") })?;
        Ok(ExitCode::SUCCESS)
    }
}
