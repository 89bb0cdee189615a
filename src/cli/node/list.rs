//! `coracle node list`.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::NameOption;
use crate::cli::output::{Printed, Table, WideTableOption};
use crate::cluster;
use crate::cluster::lifecycle::node::list::{self, Listed};
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    output: WideTableOption,
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let nodes = list::list(&*engine, &cluster).await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let printed = Printed {
            value: nodes.iter().map(value).collect(),
            names: nodes.iter().map(|node| node.name.as_str()).collect(),
            text: &|wide| table(&nodes, now, wide).to_string(),
        };
        context.ui.data(&printed.render(self.output.output)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn value(node: &Listed) -> Value {
    json!({
        "name": node.name, "role": node.role, "state": node.state, "ready": node.ready,
        "schedulable": node.schedulable, "kubernetesVersion": node.version, "created": node.created,
        "addresses": node.addresses, "image": node.image, "taints": node.taints,
    })
}

fn table(nodes: &[Listed], now: u64, wide: bool) -> Table {
    let mut titles = vec!["NAME", "ROLE", "STATE", "READY", "VERSION", "AGE"];
    titles.extend(if wide { ["ADDRESS", "IMAGE", "TAINTS"].as_slice() } else { &[] });
    let mut table = Table::new(&titles);
    for node in nodes {
        let ready = match (node.ready, node.schedulable) {
            (Some(true), Some(false)) => "yes, but takes no new pods",
            (Some(true), _) => "yes",
            (Some(false), _) => "no",
            (None, _) => "unknown",
        };
        let created = u64::try_from(node.created).unwrap_or_default();
        let mut row = vec![
            node.name.clone(),
            node.role.as_str().to_owned(),
            node.state.to_string(),
            ready.to_owned(),
            node.version.clone().unwrap_or_default(),
            age(now.saturating_sub(created)),
        ];
        if wide {
            let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
            row.extend([addresses.join(","), node.image.clone(), node.taints.join(",")]);
        }
        table.row(row);
    }
    table
}

/// A duration as kubectl shows ages: its two largest units at most.
fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600, seconds / 60);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let ages = [5, 119, 125, 300, 3_600, 7_300, 20_000, 200_000].map(age);
        assert_eq!(ages, ["5s", "119s", "2m5s", "5m", "60m", "121m", "5h", "2d"]);
    }
}
