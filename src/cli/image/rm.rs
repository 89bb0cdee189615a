//! `coracle image rm`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::image::selection::NodesOption;
use crate::cli::options::JsonOption;
use crate::cli::output::size;
use crate::error::Result;
use crate::image::{self, ImageRemoval};
use crate::ui::Format;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Images, by name or ID
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    nodes: NodesOption,
    /// Also remove images that pods use
    #[arg(long, short)]
    force: bool,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Rm {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let selection = self.nodes.select(context).await?;
        let removed = image::remove(&*selection.engine, &selection.nodes, &self.images, self.force).await?;
        describe(context, &removed, false);
        context.ui.result(&json!({"nodes": removed}));
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

/// A line for each node: what was removed, or would be, and how much space that frees.
pub(super) fn describe(context: &Context, nodes: &[ImageRemoval], dry_run: bool) {
    for node in nodes {
        let titles = node.images.iter().map(image::RemovedImage::title).collect::<Vec<_>>().join(", ");
        let mut parts = Vec::new();
        if dry_run && !node.images.is_empty() {
            let sum = node.images.iter().map(|image| image.size).sum();
            parts.push(format!("would remove {titles} (up to {})", size(sum)));
        } else if !node.images.is_empty() {
            parts.push(format!("removed {titles}"));
        }
        if !node.untagged.is_empty() {
            let names: Vec<String> = node.untagged.iter().map(|name| image::familiar(name)).collect();
            parts.push(format!("removed the names {}", names.join(", ")));
        }
        if !parts.is_empty() {
            let freed =
                if node.images.is_empty() || dry_run { String::new() } else { format!("; freed {}", size(node.freed)) };
            context.ui.note(format!("{}: {}{freed}", node.node, parts.join(", ")));
        }
    }
}
