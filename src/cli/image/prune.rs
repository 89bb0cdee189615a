//! `coracle image prune`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::image::rm::describe;
use crate::cli::image::selection::NodesOption;
use crate::cli::options::JsonOption;
use crate::cluster::rollout;
use crate::error::Result;
use crate::image;
use crate::ui::Format;

#[derive(Debug, Args)]
pub(crate) struct Prune {
    #[command(flatten)]
    nodes: NodesOption,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Prune {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let selection = self.nodes.select(context).await?;
        let engine = &*selection.engine;
        let wanted: BTreeSet<String> = rollout::named_images(engine, &selection.cluster).await?;
        let pruned = image::prune(engine, &selection.running, &selection.nodes, &wanted, self.dry_run).await?;
        describe(context, &pruned, self.dry_run);
        if pruned.iter().all(|node| node.images.is_empty()) {
            context.ui.note("Every image is in use or came with the node image");
        }
        context.ui.result(&json!({"nodes": pruned, "dryRun": self.dry_run}));
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self) -> bool {
        !self.dry_run
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
