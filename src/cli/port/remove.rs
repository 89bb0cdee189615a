//! `coracle port remove`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, NameOption};
use crate::cli::port::add::host;
use crate::cluster::{self, port};
use crate::engine::SharedEngine;
use crate::error::Result;
use crate::ui::Format;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  coracle port remove 8080\n  coracle port remove 127.0.0.1:53/udp\n  coracle port remove --all"
)]
pub(crate) struct Remove {
    /// Ports on this host: [ADDRESS:]PORT, of both protocols or with /tcp or /udp
    #[arg(value_name = "PORT", required_unless_present = "all")]
    ports: Vec<String>,
    /// Remove every port that was added
    #[arg(long, conflicts_with = "ports")]
    all: bool,
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Remove {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let work = async |engine: SharedEngine| port::remove(&*engine, &cluster, &self.ports, self.all).await;
        let removal = context.run_to_end(&engine, work).await?;
        for port in &removal.removed {
            let host = host(&port.host_address, port.host_port);
            context.ui.note(format!("{host}/{} no longer leads to {}", port.protocol, port.target));
        }
        for port in &removal.absent {
            context.ui.note(format!("No port `{port}` leads into cluster `{}`, so nothing was removed", cluster.name));
        }
        if self.all && removal.removed.is_empty() {
            context.ui.note(format!("No port was added to cluster `{}`", cluster.name));
        }
        context.ui.result(&json!({
            "cluster": cluster.name, "removed": removal.removed, "absent": removal.absent,
        }));
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
