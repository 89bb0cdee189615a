//! `coracle registry prune`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, RegistryNameOption};
use crate::cli::output::size;
use crate::cluster::registry::{self, Pruned};
use crate::error::{Result, counted};
use crate::ui::Format;

#[derive(Debug, Args)]
pub(crate) struct Prune {
    #[command(flatten)]
    name: RegistryNameOption,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Prune {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let name = self.name.get()?;
        let (engine, _) = context.engine().await?;
        let step = context.ui.step(format!("Pruning registry `{name}`"));
        let pruned = registry::prune(&*engine, &name, self.dry_run).await?;
        step.finish();
        context.ui.note(describe(&pruned, self.dry_run));
        let Pruned { blobs, images, freed } = pruned;
        context
            .ui
            .result(&json!({"name": name, "images": images, "blobs": blobs, "freed": freed, "dryRun": self.dry_run}));
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self) -> bool {
        !self.dry_run
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

/// What was removed, or would be.
fn describe(Pruned { blobs, images, freed }: &Pruned, dry_run: bool) -> String {
    if *blobs == 0 && *images == 0 {
        return "There is nothing to remove: everything belongs to a tagged image".to_owned();
    }
    let what = format!("{} without a tag, {} in all", counted(*images, "image"), counted(*blobs, "blob"));
    let size = size(*freed);
    if dry_run { format!("Would remove {what}, and free {size}") } else { format!("Removed {what}; freed {size}") }
}
