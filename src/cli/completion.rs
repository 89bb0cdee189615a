//! `coracle completion`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    shell: clap_complete::Shell,
}

impl Run for Completion {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut (context.grammar)(), "coracle", &mut script);
        context.ui.data(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
