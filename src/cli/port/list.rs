//! `coracle port list` and `coracle get ports`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::NameOption;
use crate::cli::output::{OutputFormat, Printed, Table, TableOption};
use crate::cli::port::add::host;
use crate::cluster;
use crate::cluster::port::{Listed, Made, list};
use crate::engine::spec::State;
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    output: TableOption,
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let format = self.output.output;
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let ports = list(&cluster);
        if ports.is_empty() && matches!(format, None | Some(OutputFormat::Wide)) {
            context.ui.note(format!("No port of this host leads into cluster `{}`", cluster.name));
            context.ui.hint("`coracle port add 8080:svc/NAME:80` adds one");
            return Ok(ExitCode::SUCCESS);
        }
        let names: Vec<String> = ports.iter().map(name).collect();
        let printed = Printed {
            value: json!(ports),
            names: names.iter().map(String::as_str).collect(),
            text: &|_| table(&ports).to_string(),
        };
        context.ui.data(&printed.render(format)?)?;
        let is_stopped = |port: &&Listed| port.made == Made::Added && port.state == State::Exited;
        for port in ports.iter().filter(is_stopped).filter(|_| format.is_none()) {
            context.ui.hint(format!("`docker start {}` starts the one that is stopped", port.container));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A port, as `port remove` takes it.
fn name(port: &Listed) -> String {
    format!("{}/{}", host(&port.host_address, port.host_port), port.protocol)
}

fn table(ports: &[Listed]) -> Table {
    let mut table = Table::new(&["PORT", "LEADS TO", "MADE", "STATE"]);
    for port in ports {
        let made = if port.made == Made::Added { "added" } else { "with the cluster" };
        table.row(vec![name(port), port.target.clone(), made.to_owned(), port.state.to_string()]);
    }
    table
}
