//! `coracle top`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::NameOption;
use crate::cli::output::{Printed, Table, TableOption, size};
use crate::cli::watch::Watch;
use crate::cluster;
use crate::cluster::top::{self as measured, Usage};
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Top {
    #[command(flatten)]
    name: NameOption,
    /// Measure repeatedly until Ctrl-C
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    output: TableOption,
}

impl Run for Top {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let name = self.name.get()?;
        let mut watch = Watch::new(&context.ui);
        loop {
            let cluster = cluster::get(&*engine, &name).await?;
            let top = measured::top(&*engine, &cluster).await;
            let printed = Printed {
                value: json!(top),
                names: top.containers.iter().map(|usage| usage.name.as_str()).collect(),
                text: &|_| text(&top),
            };
            if !self.watch {
                context.ui.data(&printed.render(self.output.output)?)?;
                return Ok(ExitCode::SUCCESS);
            }
            if !watch.print(&printed, self.output.output)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    fn sweeps(&self) -> bool {
        false
    }
}

fn text(top: &measured::Top) -> String {
    let mut table = Table::new(&["NAME", "CPU", "MEMORY", "LIMIT", "USED"]);
    for usage in &top.containers {
        table.row(row(usage));
    }
    let sum = format!("{}m", top.milli_cpus);
    table.row(vec!["all".to_owned(), sum, size(top.memory), String::new(), String::new()]);
    table.to_string()
}

fn row(usage: &Usage) -> Vec<String> {
    let (Some(memory), Some(limit)) = (usage.memory, usage.memory_limit) else {
        return vec![usage.name.clone(), usage.state.to_string()];
    };
    let cpu = usage.milli_cpus.map_or_else(|| "-".to_owned(), |milli| format!("{milli}m"));
    let (limit, used) = match limit {
        0 => ("-".to_owned(), "-".to_owned()),
        limit => (size(limit), format!("{}%", u128::from(memory) * 100 / u128::from(limit))),
    };
    vec![usage.name.clone(), cpu, size(memory), limit, used]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::spec::State;

    #[test]
    fn what_does_not_run_has_its_state_instead_of_numbers() {
        let usage = |name: &str, state, memory: Option<u64>| Usage {
            name: name.to_owned(),
            state,
            milli_cpus: memory.map(|_| 250),
            memory,
            memory_limit: memory.map(|_| 2_000_000_000),
        };
        let containers = vec![usage("a", State::Running, Some(500_000_000)), usage("b", State::Exited, None)];
        let top = measured::Top { cluster: "dev".to_owned(), containers, milli_cpus: 250, memory: 500_000_000 };
        assert_eq!(
            text(&top),
            "NAME   CPU      MEMORY     LIMIT    USED\na      250m     500.0 MB   2.0 GB   25%\nb      exited\n\
             all    250m     500.0 MB\n"
        );
    }
}
