//! `coracle registry list`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::output::{OutputFormat, Printed, Table, TableOption, joined};
use crate::cluster::registry::{self, Found};
use crate::engine::spec::State;
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    output: TableOption,
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let format = self.output.output;
        let (engine, _) = context.engine().await?;
        let found = registry::list(&*engine).await?;
        if found.is_empty() && matches!(format, None | Some(OutputFormat::Wide)) {
            context.ui.note("There are no registries");
            context.ui.hint("`coracle registry create` creates one");
            return Ok(ExitCode::SUCCESS);
        }
        let printed = Printed {
            value: json!(found),
            names: found.iter().map(|found| found.registry.name.as_str()).collect(),
            text: &|_| table(&found).to_string(),
        };
        context.ui.data(&printed.render(format)?)?;
        for found in found.iter().filter(|found| found.state != State::Running && format.is_none()) {
            let name = &found.registry.name;
            let again = if found.state == State::Paused { "docker unpause" } else { "coracle registry create --name" };
            context.ui.hint(format!("`{again} {name}` starts it again"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(found: &[Found]) -> Table {
    let mut table = Table::new(&["NAME", "HOST", "STATE", "CLUSTERS"]);
    for one in found {
        table.row(vec![one.registry.name.clone(), one.host.clone(), one.state.to_string(), joined(&one.clusters)]);
    }
    table
}
