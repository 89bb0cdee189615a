//! `coracle status`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::sleep;

use crate::cli::age;
use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::NameOption;
use crate::cli::output::{Printed, Table, TableOption};
use crate::cli::watch::Watch;
use crate::cluster;
use crate::cluster::health::status;
use crate::cluster::lifecycle::lifetime;
use crate::config::ClusterName;
use crate::engine::Engine;
use crate::engine::spec::State;
use crate::error::Result;

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    name: NameOption,
    /// Look again and again, until Ctrl-C; where the output is no terminal, print what changes
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    output: TableOption,
}

impl Run for Status {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let name = self.name.get()?;
        if self.watch {
            return self.watch(context, &*engine, &name).await;
        }
        let (status, value, end) = look(&*engine, &name).await?;
        let printed = Printed { value, names: vec![&status.name], text: &|_| text(&status, &end) };
        context.ui.data(&printed.render(self.output.output)?)?;
        let is = |state| status.parts().any(|part| part.container == state);
        if is(State::Paused) {
            context.ui.hint(format!("`coracle unpause {}` resumes what is paused", status.name));
        }
        if is(State::Exited) || is(State::Created) {
            context.ui.hint(format!("`coracle start {}` starts what is stopped", status.name));
        }
        // Scripts expect 0 only if everything is healthy.
        Ok(if status.is_healthy() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

impl Status {
    /// Shows the health until the command is interrupted, the cluster is gone, or nobody reads any more.
    async fn watch(&self, context: &Context, engine: &dyn Engine, name: &ClusterName) -> Result<ExitCode> {
        let (mut watch, mut before) = (Watch::new(&context.ui), Value::Null);
        loop {
            let (status, value, end) = look(engine, name).await?;
            let is_known = self.output.output.is_some() && value == before;
            let text = |_| text(&status, &end);
            let printed = Printed { value: value.clone(), names: vec![&status.name], text: &text };
            if !is_known && !watch.print(&printed, self.output.output)? {
                return Ok(ExitCode::SUCCESS);
            }
            before = value;
            sleep(INTERVAL).await;
        }
    }
}

/// The health of a cluster, also as JSON has it, and a line about its end.
async fn look(engine: &dyn Engine, name: &ClusterName) -> Result<(status::Status, Value, String)> {
    let cluster = cluster::get(engine, name).await?;
    let limit = lifetime::limit(engine, &cluster).await;
    let status = status::status(engine, &cluster).await;
    let mut value = json!(status);
    value["expires"] = json!(age::expires(&limit));
    value["idleStop"] = json!(cluster.idle_stop);
    let end = age::sentence(&limit, cluster.idle_stop.as_deref(), OffsetDateTime::now_utc());
    Ok((status, value, end))
}

fn text(status: &status::Status, end: &str) -> String {
    let mut table = Table::new(&["NODE", "ROLE", "CONTAINER", "READY", "CAUSE"]);
    for part in status.parts() {
        let ready = match part.ready {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        let cause = part.cause.clone().unwrap_or_default();
        table.row(vec![part.name.clone(), part.role.clone(), part.container.to_string(), ready.to_owned(), cause]);
    }
    let api = match &status.api_cause {
        None => format!("API server answers at {}", status.endpoint),
        Some(cause) => format!("API server is not ready at {}: {cause}", status.endpoint),
    };
    format!("Cluster {}, Kubernetes {}, {api}\n{end}\n{table}", status.name, status.version)
}
