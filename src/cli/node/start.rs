//! `coracle node start` and `coracle node restart`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::clusters::resumable;
use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::node::stop::NodesOption;
use crate::cli::options::JsonOption;
use crate::cli::start::{StartOptions, start_parts};
use crate::cli::stop::stop_parts;
use crate::engine::SharedEngine;
use crate::error::Result;
use crate::ui::Format;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  coracle node start dev-worker2   start a worker and wait until it is Ready")]
pub(crate) struct Start {
    #[command(flatten)]
    work: Starting,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  coracle node restart dev-worker2   like a power failure, but orderly")]
pub(crate) struct Restart {
    #[command(flatten)]
    work: Starting,
}

#[derive(Debug, Args)]
struct Starting {
    #[command(flatten)]
    nodes: NodesOption,
    #[command(flatten)]
    options: StartOptions,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Start {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        self.work.start(context, &engine, "start").await
    }

    fn format(&self) -> Format {
        self.work.output.format()
    }
}

impl Run for Restart {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let nodes = &self.work.nodes;
        let parts = nodes.parts(&*engine).await?;
        let stopped = stop_parts(context, &engine, &parts, &nodes.in_words()).await;
        stopped.map_err(|error| resumable(error, &format!("coracle node restart {}", nodes.nodes.join(" "))))?;
        self.work.start(context, &engine, "restart").await
    }

    fn format(&self) -> Format {
        self.work.output.format()
    }
}

impl Starting {
    async fn start(&self, context: &Context, engine: &SharedEngine, verb: &str) -> Result<ExitCode> {
        let parts = self.nodes.parts(&**engine).await?;
        let started = start_parts(context, engine, &parts, &self.options, &self.nodes.in_words()).await;
        let again = format!("coracle node {verb} {}", self.nodes.nodes.join(" "));
        let (started, usable) = started.map_err(|error| resumable(error, &again))?;
        let name = &parts.cluster.name;
        if !usable {
            context.ui.note(format!("`coracle status --name {name}` shows when it is usable"));
        }
        context.ui.result(&json!({ "cluster": name, "started": started, "usable": usable }));
        Ok(ExitCode::SUCCESS)
    }
}
