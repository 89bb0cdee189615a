//! `coracle node remove`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, NameOption, duration};
use crate::cluster::lifecycle::node::remove::{self, Options};
use crate::error::{Result, counted};
use crate::ui::Format;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  coracle node remove dev-worker2 --name dev --timeout 2m")]
pub(crate) struct Remove {
    /// Names of nodes
    #[arg(required = true, value_name = "NODE", add = complete::nodes())]
    nodes: Vec<String>,
    #[command(flatten)]
    name: NameOption,
    /// Remove the nodes without evicting their pods, ignoring disruption budgets
    #[arg(long, short)]
    force: bool,
    /// How long the pods may take to leave, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Remove {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let name = self.name.get()?;
        let (engine, _) = context.engine().await?;
        let options = Options { nodes: self.nodes, force: self.force, timeout: self.timeout };
        let work = Box::pin(remove::remove(&engine, &name, &options, &context.ui, &context.stop));
        let removed = context.clean_up_after(work).await?;
        let ui = &context.ui;
        if removed.with_data > 0 {
            let (pods, had) = (counted(removed.with_data, "pod"), if removed.with_data == 1 { "its" } else { "their" });
            ui.note(format!("{pods} had data in emptyDir volumes, which was lost with {had} node"));
        }
        for warning in &removed.warnings {
            ui.warn(warning);
        }
        let evicted =
            if removed.evicted == 0 { String::new() } else { format!("; evicted {}", counted(removed.evicted, "pod")) };
        ui.note(format!("Removed {}{evicted}", removed.nodes.join(", ")));
        ui.result(&json!({
            "cluster": name, "removed": removed.nodes, "evictedPods": removed.evicted, "warnings": removed.warnings,
        }));
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
