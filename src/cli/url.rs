//! `coracle url`.

use clap::Args;
use serde_json::json;

use super::Context;
use super::options::NameOption;
use super::options::OutputFormat;
use super::output::structured;
use crate::cluster::{self, service};
use crate::error::Result;

#[derive(Debug, Args)]
pub(super) struct UrlArguments {
    /// Name of the Service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Name space of the Service
    #[arg(long, default_value = "default", value_name = "NAMESPACE")]
    namespace: String,
    #[command(flatten)]
    name: NameOption,
    /// Print every URL, not only the best one of each port
    #[arg(long)]
    all: bool,
    /// How to print
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<OutputFormat>,
}

pub(super) async fn run(context: &Context, arguments: UrlArguments) -> Result<()> {
    let (engine, _) = context.engine().await?;
    let cluster = cluster::find(&*engine, &arguments.name.get()?).await?;
    let mut urls = service::urls(&*engine, &cluster, &arguments.namespace, &arguments.service).await?;
    if !arguments.all {
        // The first one of each port is the best one.
        urls.dedup_by(|next, kept| next.port == kept.port);
    }
    match arguments.output {
        Some(format @ (OutputFormat::Json | OutputFormat::Yaml)) => context.ui.data(&structured(format, &json!(urls))?),
        _ => context.ui.data(&urls.iter().flat_map(|reach| [reach.url.as_str(), "\n"]).collect::<String>()),
    }
}
