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
    #[arg(value_name = "FILE", required_unless_present = "command", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// Command line of minikube, after `--`: `-- minikube start --nodes 3`
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<String>,
}

impl Run for Convert {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let mut overrides = Overrides::default();
        let converted = if let Some(file) = &self.file {
            let Source { written, base_directory } = input::configuration(file).await?;
            overrides.base_directory = base_directory;
            config::convert(&written.text, &written.file, &overrides)?
        } else {
            config::convert_minikube(&self.command, &overrides)?
        };
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
                "Mount paths are relative to the file's directory: keep the new file in {}",
                directory.display()
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self) -> bool {
        false
    }
}
