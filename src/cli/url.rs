//! `coracle url`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{NameOption, NamespaceOption};
use crate::cli::output::{Printed, ValueOption};
use crate::cluster;
use crate::cluster::reach::urls;
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Url {
    /// Name of the Service
    #[arg(value_name = "SERVICE")]
    service: String,
    #[command(flatten)]
    namespace: NamespaceOption,
    #[command(flatten)]
    name: NameOption,
    /// Print every URL instead of the best one of each port
    #[arg(long)]
    all: bool,
    /// Print only URLs that need no route to the nodes, as if the engine ran in a virtual machine
    #[arg(long, hide = true)]
    no_nodes: bool,
    #[command(flatten)]
    output: ValueOption,
}

impl Run for Url {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, local) = context.engine().await?;
        let name = self.name.get()?;
        let cluster = cluster::get(&*engine, &name).await?;
        let reaches_nodes = !self.no_nodes && urls::reaches_nodes(&engine.info().await?, local);
        let namespace = self.namespace.get(&name);
        let mut urls = urls::urls(&*engine, &cluster, &namespace, &self.service, reaches_nodes).await?;
        if !self.all {
            // The first one of each port is the best one.
            urls.dedup_by(|next, kept| next.port == kept.port);
        }
        let names: Vec<&str> = urls.iter().map(|service| service.url.as_str()).collect();
        let text = |_| names.iter().flat_map(|name| [name, "\n"]).collect::<String>();
        let printed = Printed { value: json!(urls), names: names.clone(), text: &text };
        context.ui.data(&printed.render(self.output.output)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
