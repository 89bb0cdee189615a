//! `coracle completion`.

use std::process::ExitCode;

use clap::Args;
use clap_complete::env::Shells;

use crate::cli::command::Run;
use crate::cli::complete::VARIABLE;
use crate::cli::context::Context;
use crate::error::{Code, Error, Result};

#[derive(Debug, Args)]
#[command(after_help = "To complete in every new shell:
  echo 'source <(coracle completion bash)' >>~/.bashrc
  echo 'source <(coracle completion zsh)' >>~/.zshrc      after `compinit`
  echo 'coracle completion fish | source' >>~/.config/fish/config.fish")]
pub(crate) struct Completion {
    /// The shell
    shell: clap_complete::Shell,
}

impl Run for Completion {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let failed = || Error::new(Code::StepFailed, format!("cannot write a script for {}", self.shell));
        let shells = Shells::builtins();
        let shell = shells.completer(&self.shell.to_string()).ok_or_else(failed)?;
        let mut script = Vec::new();
        let program = context.program;
        shell
            .write_registration(VARIABLE, program, program, program, &mut script)
            .map_err(|source| failed().with_cause(&source))?;
        context.ui.data(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
