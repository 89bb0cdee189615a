//! `coracle url`.

use clap::Args;
use serde_json::json;

use crate::cli::Context;
use crate::cli::options::{NameOption, NamespaceOption, OutputFormat};
use crate::cli::output::structured;
use crate::cluster;
use crate::cluster::reach::urls;
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct UrlArguments {
    /// Name of the Service
    #[arg(value_name = "SERVICE")]
    service: String,
    #[command(flatten)]
    namespace: NamespaceOption,
    #[command(flatten)]
    name: NameOption,
    /// Print every URL, not only the best one of each port
    #[arg(long)]
    all: bool,
    /// Only URLs that need no route to the nodes, as where the engine runs in a virtual machine
    #[arg(long, hide = true)]
    no_nodes: bool,
    /// How to print
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<OutputFormat>,
}

pub(crate) async fn run(context: &Context, arguments: UrlArguments) -> Result<()> {
    let (engine, local) = context.engine().await?;
    let name = arguments.name.get()?;
    let cluster = cluster::find(&*engine, &name).await?;
    let reaches_nodes = !arguments.no_nodes && urls::reaches_nodes(&engine.info().await?, local);
    let namespace = arguments.namespace.get(&name);
    let mut urls = urls::urls(&*engine, &cluster, &namespace, &arguments.service, reaches_nodes).await?;
    if !arguments.all {
        // The first one of each port is the best one.
        urls.dedup_by(|next, kept| next.port == kept.port);
    }
    match arguments.output {
        Some(format @ (OutputFormat::Json | OutputFormat::Yaml)) => context.ui.data(&structured(format, &json!(urls))?),
        _ => context.ui.data(&urls.iter().flat_map(|service| [service.url.as_str(), "\n"]).collect::<String>()),
    }
}
