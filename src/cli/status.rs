//! `coracle status`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::FutureExt;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::cli::age;
use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::NameOption;
use crate::cli::output::{Printed, Table, ValueOption};
use crate::cli::watch::Watch;
use crate::cluster;
use crate::cluster::access;
use crate::cluster::health::status;
use crate::cluster::inventory::Inventory;
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
    /// Refresh until Ctrl-C; if the output is not a terminal, print only changes
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    output: ValueOption,
}

impl Run for Status {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let name = self.name.get()?;
        if self.watch {
            return self.watch(context, &*engine, &name).await;
        }
        let Overview { status, inventory, end, value } = look(&*engine, &name).await?;
        let printed = Printed { value, names: vec![&status.name], text: &|_| text(&status, &inventory, &end) };
        context.ui.data(&printed.render(self.output.output)?)?;
        let is = |state| status.parts().any(|part| part.container == state);
        if is(State::Paused) {
            context.ui.hint(format!("`coracle unpause {}` resumes what is paused", status.name));
        }
        if is(State::Exited) || is(State::Created) {
            context.ui.hint(format!("`coracle start {}` starts what is stopped", status.name));
        }
        for registry in inventory.registries.iter().flatten().filter(|registry| registry.state == State::Exited) {
            context.ui.hint(format!("`coracle registry create --name {}` starts the registry", registry.name));
        }
        for addon in inventory.addons.iter().flatten().filter(|addon| !addon.troubles.is_empty()) {
            context.ui.hint(format!("`coracle events` shows what keeps the pods of `{}` from working", addon.name));
        }
        // Scripts expect 0 only if everything is healthy.
        Ok(if status.is_healthy() && inventory.is_healthy() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

impl Status {
    /// Shows the health until the command is interrupted, the cluster is gone, or no one reads any more.
    async fn watch(&self, context: &Context, engine: &dyn Engine, name: &ClusterName) -> Result<ExitCode> {
        let (mut watch, mut before) = (Watch::new(&context.ui), Value::Null);
        loop {
            let Overview { status, inventory, end, value } = look(engine, name).await?;
            // Free space changes all the time.
            let mut lasting = value.clone();
            lasting["disk"] = Value::Null;
            let is_known = self.output.output.is_some() && lasting == before;
            let text = |_| text(&status, &inventory, &end);
            let printed = Printed { value: value.clone(), names: vec![&status.name], text: &text };
            if !is_known && !watch.print(&printed, self.output.output)? {
                return Ok(ExitCode::SUCCESS);
            }
            before = lasting;
            sleep(INTERVAL).await;
        }
    }
}

/// What is known of a cluster.
struct Overview {
    status: status::Status,
    inventory: Inventory,
    /// A line about its end.
    end: String,
    /// All of it, as JSON has it.
    value: Value,
}

async fn look(engine: &dyn Engine, name: &ClusterName) -> Result<Overview> {
    let cluster = cluster::get(engine, name).await?;
    let (tell, told) = oneshot::channel();
    let client = access::client_of(engine, &cluster, told).shared();
    let (limit, status, inventory) = tokio::join!(
        lifetime::limit(engine, &cluster),
        status::status(engine, &cluster, client.clone(), tell),
        Inventory::of(engine, &cluster, client)
    );
    let mut value = json!(status);
    value["expires"] = json!(age::expires(&limit));
    value["idleStop"] = json!(cluster.idle_stop);
    if let (Some(all), Value::Object(more)) = (value.as_object_mut(), json!(inventory)) {
        all.extend(more);
    }
    let end = age::sentence(&limit, cluster.idle_stop.as_deref(), OffsetDateTime::now_utc());
    Ok(Overview { status, inventory, end, value })
}

fn text(status: &status::Status, inventory: &Inventory, end: &str) -> String {
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
    let beside = beside(status, inventory);
    format!("Cluster {}, Kubernetes {}, {api}\n{end}\n{table}{beside}", status.name, status.version)
}

/// Lines about what the cluster has beside its nodes, as far as that is known.
fn beside(status: &status::Status, inventory: &Inventory) -> String {
    let mut lines = String::new();
    let mut line = |text: String| {
        lines.push('\n');
        lines.push_str(&text);
    };
    for addon in inventory.addons.iter().flatten() {
        let health = if addon.troubles.is_empty() { "works".to_owned() } else { addon.troubles.join("; ") };
        line(format!("Add-on {} {}: {health}", addon.name, addon.version));
    }
    for registry in inventory.registries.iter().flatten() {
        line(format!("Registry {} ({}): {}", registry.name, registry.host, registry.state));
    }
    if let Some(day) = status.certificates_expire.as_ref().and_then(|time| time.split('T').next()) {
        line(format!("Certificates: valid until {day}"));
    }
    if let Some(disk) = status.disk {
        line(format!("Disk: {} of {} GiB are free", disk.free >> 30, disk.size >> 30));
    }
    lines
}
