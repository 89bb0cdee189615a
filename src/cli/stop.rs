//! `coracle stop`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::clusters::{ClustersOption, resumable};
use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::JsonOption;
use crate::cluster::lifecycle::parts::Parts;
use crate::cluster::lifecycle::stop;
use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::error::Result;
use crate::ui::Format;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  coracle stop dev        stop the cluster `dev`; `coracle start dev` starts it again
  coracle stop --all      stop every cluster, for example before the battery runs out")]
pub(crate) struct Stop {
    #[command(flatten)]
    clusters: ClustersOption,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Stop {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        self.clusters.each(context, &engine, |name| stop_cluster(context, &engine, name)).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

async fn stop_cluster(context: &Context, engine: &SharedEngine, name: ClusterName) -> Result<Value> {
    let parts = Parts::of_cluster(&**engine, &name).await?;
    let stopped = stop_parts(context, engine, &parts, &format!("cluster `{name}`")).await;
    let stopped = stopped.map_err(|error| resumable(error, &format!("coracle stop {name}")))?;
    if stopped.is_empty() {
        context.ui.note(format!("Cluster `{name}` is already stopped"));
    } else {
        context.ui.note(format!("Cluster `{name}` is stopped; `coracle start {name}` starts it, with all its data"));
    }
    Ok(json!({ "name": name, "state": "stopped", "stopped": stopped }))
}

/// Stops what is alive of the parts, which are called `what`; returns the names of those containers.
pub(super) async fn stop_parts(
    context: &Context,
    engine: &SharedEngine,
    parts: &Parts,
    what: &str,
) -> Result<Vec<String>> {
    if parts.to_stop().flatten().next().is_none() {
        return Ok(Vec::new());
    }
    let step = context.ui.step(format!("Stopping {what}"));
    let work = async |engine: SharedEngine| stop::stop(&*engine, parts, &step, &context.ui).await;
    let stopped = context.run_to_end(engine, work).await?;
    stop::require_stopped(&**engine, parts).await?;
    step.finish();
    Ok(stopped)
}
