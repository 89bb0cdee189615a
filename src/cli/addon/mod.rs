//! `coracle addon`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Context;
use crate::cli::create::duration;
use crate::cli::options::{NameOption, OutputFormat};
use crate::cli::output::{Table, structured};
use crate::cluster::addon::{self, Disabled, Listed, Site};
use crate::cluster::found::Cluster;
use crate::cluster::{self, access};
use crate::engine::SharedEngine;
use crate::engine::finishing::run_to_end;
use crate::error::{Code, Result};
use crate::kubernetes::Client;

#[derive(Debug, Subcommand)]
pub(crate) enum Addon {
    /// List the add-ons and those that a cluster has
    List(ListArguments),
    /// Enable add-ons in a cluster and wait until they work
    Enable(EnableArguments),
    /// Remove add-ons from a cluster
    Disable(DisableArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    name: NameOption,
    /// How to print
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<OutputFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct EnableArguments {
    /// Add-ons
    #[arg(required = true, value_name = "ADDON")]
    addons: Vec<String>,
    #[command(flatten)]
    name: NameOption,
    /// How long to wait until they work, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    wait: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct DisableArguments {
    /// Add-ons
    #[arg(required = true, value_name = "ADDON")]
    addons: Vec<String>,
    #[command(flatten)]
    name: NameOption,
    /// Also delete the objects that users made of the add-ons' kinds
    #[arg(long)]
    force: bool,
    /// How long to wait until they are gone, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    wait: Duration,
}

impl Addon {
    /// It makes things in the engine that it removes when it is interrupted.
    pub(crate) fn cleans_up(&self) -> bool {
        matches!(self, Self::Enable(_))
    }
}

pub(crate) async fn run(context: &Context, addon: Addon) -> Result<()> {
    match addon {
        Addon::List(arguments) => list(context, &arguments).await,
        Addon::Enable(arguments) => enable(context, &arguments).await,
        Addon::Disable(arguments) => disable(context, &arguments).await,
    }
}

async fn list(context: &Context, arguments: &ListArguments) -> Result<()> {
    let (engine, _) = context.engine().await?;
    let client = match cluster::find(&*engine, &arguments.name.get()?).await {
        Ok(cluster) => Some(access::client(&*engine, &cluster).await?),
        // Somebody who looks what there is before the first cluster.
        Err(error) if error.code() == Code::ClusterNotFound && arguments.name.name.is_none() => None,
        Err(error) => return Err(error),
    };
    let listed = addon::list(client.as_ref()).await?;
    let text = match arguments.output {
        Some(format @ (OutputFormat::Json | OutputFormat::Yaml)) => structured(format, &json!(listed))?,
        Some(OutputFormat::Name) => listed.iter().flat_map(|addon| [addon.name.as_str(), "\n"]).collect(),
        _ => table(&listed).to_string(),
    };
    context.ui.data(&text)
}

fn table(listed: &[Listed]) -> Table {
    let mut table = Table::new(&["NAME", "VERSION", "ENABLED", "WHAT IT IS"]);
    for addon in listed {
        let enabled = match &addon.enabled {
            None => "no".to_owned(),
            Some(version) if *version == addon.version => "yes".to_owned(),
            Some(version) => version.clone(),
        };
        table.row(vec![addon.name.clone(), addon.version.clone(), enabled, addon.description.clone()]);
    }
    table
}

/// The cluster for which add-ons are: the nodes that run, with their published ports.
fn site<'a>(engine: &'a SharedEngine, client: &'a Client, cluster: &Cluster) -> Site<'a> {
    let ports = |node: &cluster::Node| node.container.ports.iter().map(|port| port.container_port).collect();
    let running = cluster.nodes.iter().filter(|node| node.is_running());
    let nodes = running.map(|node| (node.name.clone(), ports(node))).collect();
    Site { engine, client, nodes, run: format!("addon-{}", std::process::id()) }
}

async fn enable(context: &Context, arguments: &EnableArguments) -> Result<()> {
    let (engine, _) = context.engine().await?;
    let cluster = cluster::find(&*engine, &arguments.name.get()?).await?;
    let client = access::client(&*engine, &cluster).await?;
    for node in cluster.nodes.iter().filter(|node| !node.is_running()) {
        context.ui.note(format!("Node {} does not run and gets no images: enable again when it does", node.name));
    }
    let work = async |engine: SharedEngine| {
        let addons = addon::prepare(&*engine, &arguments.addons, None, &context.ui).await?;
        let site = site(&engine, &client, &cluster);
        addon::enable(&site, &addons, &arguments.addons, arguments.wait, &context.ui).await
    };
    run_to_end(&engine, &context.stop, work).await
}

async fn disable(context: &Context, arguments: &DisableArguments) -> Result<()> {
    let (engine, _) = context.engine().await?;
    let cluster = cluster::find(&*engine, &arguments.name.get()?).await?;
    let client = access::client(&*engine, &cluster).await?;
    let site = site(&engine, &client, &cluster);
    let disabled = addon::disable(&site, &arguments.addons, arguments.force, arguments.wait, &context.ui).await?;
    for one in disabled {
        match one {
            Disabled::Removed(_) => {}
            Disabled::Absent(name) => context.ui.note(format!("Add-on {name} was not enabled")),
            Disabled::Kept(name) => {
                context.ui.note(format!("Add-on {name} stays, because there are objects of its kinds"));
            }
        }
    }
    Ok(())
}
