//! `coracle status`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::NameOption;
use crate::cli::output::{Printed, Table, TableOption};
use crate::cluster;
use crate::cluster::health::status;
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    output: TableOption,
}

impl Run for Status {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let status = status::status(&*engine, &cluster).await;
        let printed = Printed { value: json!(status), names: vec![&status.name], text: &|_| text(&status) };
        context.ui.data(&printed.render(self.output.output)?)?;
        // Scripts expect 0 only if everything is healthy.
        Ok(if status.is_healthy() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn text(status: &status::Status) -> String {
    let mut table = Table::new(&["NODE", "ROLE", "CONTAINER", "READY", "CAUSE"]);
    for node in &status.nodes {
        let ready = if node.ready { "yes" } else { "no" };
        let cause = node.cause.clone().unwrap_or_default();
        table.row(vec![node.name.clone(), node.role.clone(), node.container.to_string(), ready.to_owned(), cause]);
    }
    let api = if status.api_alive { "answers" } else { "does not answer" };
    format!(
        "Cluster {}, Kubernetes {}, API server {api} at {}\n\n{table}",
        status.name, status.version, status.endpoint
    )
}
