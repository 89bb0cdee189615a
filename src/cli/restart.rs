//! `coracle restart`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::clusters::{ClustersOption, resumable};
use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::JsonOption;
use crate::cli::start::{StartOptions, start_cluster};
use crate::cli::stop::stop_parts;
use crate::cluster::lifecycle::parts::Parts;
use crate::error::Result;
use crate::ui::Format;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  coracle restart dev     stop the cluster `dev`, start it and wait until it is usable")]
pub(crate) struct Restart {
    #[command(flatten)]
    clusters: ClustersOption,
    #[command(flatten)]
    starting: StartOptions,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Restart {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let restart = async |name: crate::config::ClusterName| {
            let parts = Parts::of_cluster(&*engine, &name).await?;
            let stopped = stop_parts(context, &engine, &parts, &format!("cluster `{name}`")).await;
            stopped.map_err(|error| resumable(error, &format!("coracle restart {name}")))?;
            start_cluster(context, &engine, name, &self.starting).await
        };
        self.clusters.each(context, &engine, restart).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
