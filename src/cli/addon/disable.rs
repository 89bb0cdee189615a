//! `coracle addon disable`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::options::{NameOption, duration};
use crate::cluster::addon::{self, Disabled, Target};
use crate::cluster::{self, access, run};
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Disable {
    /// Add-ons
    #[arg(required = true, value_name = "ADDON", add = complete::addons())]
    addons: Vec<String>,
    #[command(flatten)]
    name: NameOption,
    /// Also delete objects of the add-ons' kinds that users created
    #[arg(long)]
    force: bool,
    /// How long to wait until they are gone, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    wait: Duration,
}

impl Run for Disable {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let client = access::client(&*engine, &cluster).await?.patient();
        let run = run::Run::new(&engine, &context.ui, run::new_id(), self.wait);
        for disabled in addon::disable(&Target::new(&run, &client, &cluster), &self.addons, self.force).await? {
            match disabled {
                Disabled::Removed(_) => {}
                Disabled::Absent(name) => context.ui.note(format!("Add-on {name} was not enabled")),
                Disabled::Kept(name) => {
                    context.ui.note(format!("Add-on {name} stays, because objects of its kinds exist"));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
