//! `coracle node stop`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::clusters::resumable;
use crate::cli::command::Run;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, parse_name};
use crate::cli::output::joined;
use crate::cli::stop::stop_parts;
use crate::cluster::lifecycle::parts::Parts;
use crate::engine::Engine;
use crate::error::Result;
use crate::ui::Format;

/// Which nodes.
#[derive(Debug, Clone, Args)]
pub(super) struct NodesOption {
    /// Nodes of one cluster, such as `dev-worker2`
    #[arg(value_name = "NODE", required = true, add = complete::nodes())]
    pub(super) nodes: Vec<String>,
    /// Name of their cluster [default: the one that has nodes of these names]
    #[arg(long, short, value_name = "NAME", add = complete::clusters())]
    name: Option<String>,
}

impl NodesOption {
    /// The containers of the nodes.
    pub(super) async fn parts(&self, engine: &dyn Engine) -> Result<Parts> {
        let name = self.name.as_deref().map(parse_name).transpose()?;
        Parts::of_nodes(engine, name.as_ref(), &self.nodes).await
    }

    /// The nodes in a message.
    pub(super) fn in_words(&self) -> String {
        let noun = if self.nodes.len() == 1 { "node" } else { "nodes" };
        let quoted: Vec<String> = self.nodes.iter().map(|node| format!("`{node}`")).collect();
        format!("{noun} {}", joined(&quoted))
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  coracle node stop dev-worker2   stop a worker, to see how the cluster reacts")]
pub(crate) struct Stop {
    #[command(flatten)]
    nodes: NodesOption,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Stop {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let (parts, what, names) =
            (self.nodes.parts(&*engine).await?, self.nodes.in_words(), self.nodes.nodes.join(" "));
        let stopped = stop_parts(context, &engine, &parts, &what).await;
        let stopped = stopped.map_err(|error| resumable(error, &format!("coracle node stop {names}")))?;
        if stopped.is_empty() {
            context.ui.note("Nothing was running there");
        } else {
            context.ui.hint(format!("`coracle node start {names}` brings back what is stopped"));
        }
        context.ui.result(&json!({ "cluster": parts.cluster.name, "stopped": stopped }));
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
