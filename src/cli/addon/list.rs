//! `coracle addon list`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::NameOption;
use crate::cli::output::{Printed, Table, TableOption};
use crate::cluster::addon::{self, Listed};
use crate::cluster::{self, access};
use crate::error::{Code, Result};

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    output: TableOption,
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let client = match cluster::get(&*engine, &self.name.get()?).await {
            Ok(cluster) => Some(access::client(&*engine, &cluster).await?),
            // The list is also for those who have no cluster yet.
            Err(error) if error.code() == Code::ClusterNotFound && self.name.given().is_none() => None,
            Err(error) => return Err(error),
        };
        let listed = addon::list(client.as_ref()).await?;
        let printed = Printed {
            value: json!(listed),
            names: listed.iter().map(|addon| addon.name.as_str()).collect(),
            text: &|_| table(&listed).to_string(),
        };
        context.ui.data(&printed.render(self.output.output)?)?;
        Ok(ExitCode::SUCCESS)
    }
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
