//! `coracle addon enable`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::options::{NameOption, duration};
use crate::cluster::addon::{self, Target};
use crate::cluster::{self, access, run};
use crate::engine::SharedEngine;
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Enable {
    /// Add-ons
    #[arg(required = true, value_name = "ADDON", add = complete::addons())]
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
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let client = access::client(&*engine, &cluster).await?.patient();
        for node in cluster.nodes.iter().filter(|node| !node.is_running()) {
            let name = &node.name;
            context
                .ui
                .note(format!("Node {name} is not running and gets no images; enable the add-ons again when it is"));
        }
        let work = async |engine: SharedEngine| {
            let run = run::Run::new(&engine, &context.ui, run::new_id(), self.wait);
            let addons = addon::prepare(&run, &self.addons, None).await?;
            let run = run.within(self.wait);
            addon::enable(&Target::new(&run, &client, &cluster), &addons, &self.addons).await
        };
        context.run_to_end(&engine, work).await?;
        Ok(ExitCode::SUCCESS)
    }
}
