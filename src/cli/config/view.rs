//! `coracle config view`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::create::{self, ClusterFlags};
use crate::cli::output;
use crate::config::{self, Overrides};
use crate::error::Result;
use crate::yaml;

#[derive(Debug, Args)]
pub(crate) struct View {
    /// Configuration file, or `-` for standard input; without it, the default cluster is printed
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Name of the cluster; overrides the configuration
    #[arg(long, short, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    flags: ClusterFlags,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", value_parser = ["yaml", "json"], default_value = "yaml")]
    output: String,
}

impl Run for View {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let overrides = Overrides { name: self.name.clone(), ..Overrides::default() };
        let (cluster, _) = create::read(None, self.file.as_deref(), &self.flags, overrides).await?;
        for warning in config::warnings(&cluster) {
            context.ui.warn(warning);
        }
        let value = cluster.effective()?;
        let text = if self.output == "json" { output::json(&value)? } else { yaml::to_string(&value)? };
        context.ui.data(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self) -> bool {
        false
    }
}
