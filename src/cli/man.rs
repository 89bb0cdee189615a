//! `coracle man`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::error::{Code, Error, Result};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  coracle man | man -l -               read the page about the command itself
  coracle man ~/.local/share/man/man1  `man coracle-create-cluster` then finds every page")]
pub(crate) struct Man {
    /// Directory for the pages of all commands [default: print the page of coracle itself]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Run for Man {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let grammar = (context.grammar)();
        let Some(directory) = self.directory else {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(grammar).render(&mut page);
            rendered.map_err(|source| Error::new(Code::StepFailed, "cannot write the page").with_cause(&source))?;
            context.ui.data(&String::from_utf8_lossy(&page))?;
            return Ok(ExitCode::SUCCESS);
        };
        let written = std::fs::create_dir_all(&directory).and_then(|()| clap_mangen::generate_to(grammar, &directory));
        written.map_err(|source| {
            Error::new(Code::FileFailed, format!("cannot write pages into `{}`", directory.display()))
                .with_cause(&source)
        })?;
        context.ui.note(format!("Wrote the pages of all commands to {}", directory.display()));
        Ok(ExitCode::SUCCESS)
    }
}
