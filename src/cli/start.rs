//! `coracle start`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::clusters::{ClustersOption, resumable};
use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, duration};
use crate::cluster::lifecycle::moving::Moved;
use crate::cluster::lifecycle::parts::Parts;
use crate::cluster::lifecycle::start;
use crate::cluster::run;
use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::engine::address::Environment;
use crate::error::Result;
use crate::ui::Format;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  coracle start dev               start the cluster `dev` and wait until it is usable
  coracle start --all --wait 0s   start every cluster and wait for none
  coracle start dev --move-ports  start `dev` on other ports if its own are taken")]
pub(crate) struct Start {
    #[command(flatten)]
    clusters: ClustersOption,
    #[command(flatten)]
    starting: StartOptions,
    /// Use other ports of this host where the cluster's are now taken, and update the kubeconfigs
    #[arg(long)]
    move_ports: bool,
    #[command(flatten)]
    output: JsonOption,
}

/// How something is started.
#[derive(Debug, Clone, Args)]
pub(super) struct StartOptions {
    /// How long to wait until everything is usable, such as `90s` or `5m`; `0s` does not wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    wait: Duration,
}

impl Run for Start {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let start = async |name: ClusterName| {
            let moved = if self.move_ports { move_ports(context, &engine, &name).await? } else { Vec::new() };
            let mut result = start_cluster(context, &engine, name, &self.starting).await?;
            if self.move_ports {
                result["moved"] = json!(moved);
            }
            Ok(result)
        };
        self.clusters.each(context, &engine, start).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

/// Gives a cluster other ports in the place of those that someone has, and says so.
async fn move_ports(context: &Context, engine: &SharedEngine, name: &ClusterName) -> Result<Vec<Moved>> {
    let work = async |engine: SharedEngine| start::move_ports(&*engine, name).await;
    let (moved, left) = Box::pin(context.run_to_end(engine, work)).await?;
    for Moved { container, address, from, to, protocol, taken } in &moved {
        let at = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        context.ui.note(format!("`{container}` has {at}:{to}/{protocol} instead of port {from}: {taken}"));
    }
    for (file, error) in &left {
        context.ui.warn(format!("`{}` still has the old address of the cluster: {error}", file.display()));
        context.ui.hint(format!("`coracle export kubeconfig --name {name}` writes it again"));
    }
    Ok(moved)
}

/// Starts what does not run of a cluster, and says so.
pub(super) async fn start_cluster(
    context: &Context,
    engine: &SharedEngine,
    name: ClusterName,
    options: &StartOptions,
) -> Result<Value> {
    let parts = Parts::of_cluster(&**engine, &name).await?;
    let started = start_parts(context, engine, &parts, options, &format!("cluster `{name}`")).await;
    let (started, usable) = started.map_err(|error| resumable(error, &format!("coracle start {name}")))?;
    let state = if usable { "is ready" } else { "is starting; `coracle status` exits with 0 once it is usable" };
    let already = if started.is_empty() { "already runs and " } else { "" };
    context.ui.note(format!("Cluster `{name}` {already}{state}"));
    Ok(json!({ "name": name, "state": "running", "started": started, "usable": usable }))
}

/// Starts what does not run of the parts, which are called `what`; returns the names of those containers, and whether it was
/// seen that they are usable.
pub(super) async fn start_parts(
    context: &Context,
    engine: &SharedEngine,
    parts: &Parts,
    options: &StartOptions,
    what: &str,
) -> Result<(Vec<String>, bool)> {
    let work = async |engine: SharedEngine| {
        let mut started = Vec::new();
        if parts.to_start().next().is_some() {
            let step = context.ui.step(format!("Starting {what}"));
            started = start::start(&*engine, parts, &step).await?;
            step.finish();
            log_in(context, &engine, parts).await;
        }
        let run = run::Run::new(&engine, &context.ui, run::new_id(), options.wait);
        let usable = !options.wait.is_zero() && start::until_usable(&run, parts).await?;
        Ok((started, usable))
    };
    Box::pin(context.run_to_end(engine, work)).await
}

/// Gives the nodes their credentials for registries again. What cannot be given is told, and is no reason not to start.
async fn log_in(context: &Context, engine: &SharedEngine, parts: &Parts) {
    let environment = Environment::from_process();
    match start::log_in(&**engine, parts, environment.docker_config.as_deref()).await {
        Ok(logins) if logins.is_empty() => {}
        Ok(logins) => {
            let hosts: Vec<&str> = logins.iter().map(|login| login.host.as_str()).collect();
            context.ui.note(format!("Gave the nodes this host's credentials for {} again", hosts.join(", ")));
        }
        Err(error) => {
            context.ui.warn(format!("the nodes have no credentials for registries: {error}"));
            context.ui.hint(format!("`coracle registry login --cluster {}` pushes them later", parts.cluster.name));
        }
    }
}
