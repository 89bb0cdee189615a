//! `coracle addon enable`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::site::site;
use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{NameOption, duration};
use crate::cluster::lifecycle::provision::{Calls, interrupted};
use crate::cluster::{self, access, addon};
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Enable {
    /// Add-ons
    #[arg(required = true, value_name = "ADDON")]
    addons: Vec<String>,
    #[command(flatten)]
    name: NameOption,
    /// How long to wait until they are ready, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    wait: Duration,
}

impl Run for Enable {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::find(&*engine, &self.name.get()?).await?;
        let client = access::client(&*engine, &cluster).await?;
        let calls = Calls::new(engine);
        for node in cluster.nodes.iter().filter(|node| !node.is_running()) {
            let name = &node.name;
            context
                .ui
                .note(format!("Node {name} is not running and gets no images; enable the add-ons again when it is"));
        }
        let work = async {
            let addons = addon::prepare(&calls, &self.addons, None, &context.ui).await?;
            let site = site(&calls, &client, &cluster);
            addon::enable(&site, &addons, &self.addons, self.wait, &context.ui).await
        };
        let result = tokio::select! {
            result = work => result,
            () = context.stop.cancelled() => Err(interrupted()),
        };
        calls.settle().await;
        result.map(|()| ExitCode::SUCCESS)
    }

    fn cleans_up(&self) -> bool {
        true
    }
}
