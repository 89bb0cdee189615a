//! `coracle config convert`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::input::{self, Source};
use crate::config::{self, Overrides};
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// Configuration file of kind or k3d, or `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Run for Convert {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let Source { written, base_directory } = input::configuration(&self.file).await?;
        let overrides = Overrides { base_directory, ..Overrides::default() };
        let converted = config::convert(&written.text, &written.file, &overrides)?;
        for note in &converted.notes {
            context.ui.warn(note);
        }
        for host in &converted.logins {
            context.ui.warn(format!(
                "the password for `{host}` is left out: run `docker login {host}`, and nodes get it from there"
            ));
        }
        context.ui.data(&converted.text)?;
        if let Some(directory) = overrides.base_directory.filter(|_| converted.has_relative_paths) {
            context.ui.note(format!(
                "Paths of mounts start at the directory of the file: keep the new one in {}",
                directory.display()
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self) -> bool {
        false
    }
}
