//! `coracle pause` and `coracle unpause`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::clusters::{ClustersOption, resumable};
use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, duration};
use crate::cluster::lifecycle::parts::Parts;
use crate::cluster::lifecycle::pause;
use crate::cluster::run;
use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::error::Result;
use crate::ui::Format;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  coracle pause dev       freeze the cluster `dev`: it keeps its memory and uses no CPU")]
pub(crate) struct Pause {
    #[command(flatten)]
    clusters: ClustersOption,
    #[command(flatten)]
    output: JsonOption,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  coracle unpause dev     resume the cluster `dev` and wait until its API answers")]
pub(crate) struct Unpause {
    #[command(flatten)]
    clusters: ClustersOption,
    /// How long to wait until the API answers, such as `90s`; `0s` does not wait
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    wait: Duration,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Pause {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        self.clusters.each(context, &engine, |name| pause_cluster(context, &engine, name)).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

impl Run for Unpause {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        self.clusters.each(context, &engine, |name| unpause_cluster(context, &engine, name, self.wait)).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

async fn pause_cluster(context: &Context, engine: &SharedEngine, name: ClusterName) -> Result<Value> {
    let parts = Parts::of_cluster(&**engine, &name).await?;
    let step = context.ui.step(format!("Pausing cluster `{name}`"));
    let work = async |engine: SharedEngine| pause::pause(&*engine, &parts, &step).await;
    let paused = context.run_to_end(engine, work).await;
    let paused = paused.map_err(|error| resumable(error, &format!("coracle pause {name}")))?;
    step.finish();
    if paused.is_empty() {
        context.ui.note(format!("Cluster `{name}` is already paused"));
    } else {
        context.ui.note(format!("Cluster `{name}` is paused; `coracle unpause {name}` resumes it"));
    }
    Ok(json!({ "name": name, "state": "paused", "paused": paused }))
}

async fn unpause_cluster(context: &Context, engine: &SharedEngine, name: ClusterName, wait: Duration) -> Result<Value> {
    let parts = Parts::of_cluster(&**engine, &name).await?;
    let step = context.ui.step(format!("Unpausing cluster `{name}`"));
    let work = async |engine: SharedEngine| {
        let unpaused = pause::unpause(&*engine, &parts, &step).await?;
        if !wait.is_zero() {
            let run = run::Run::new(&engine, &context.ui, run::new_id(), wait);
            pause::until_answers(&run, &parts, &step).await?;
        }
        Ok(unpaused)
    };
    let unpaused = Box::pin(context.run_to_end(engine, work)).await;
    let unpaused = unpaused.map_err(|error| resumable(error, &format!("coracle unpause {name}")))?;
    step.finish();
    let what = if unpaused.is_empty() { "is not paused" } else { "is running again" };
    context.ui.note(format!("Cluster `{name}` {what}"));
    Ok(json!({ "name": name, "state": "running", "unpaused": unpaused }))
}
