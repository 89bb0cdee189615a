//! `coracle node list`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::cli::age;
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
        let now = OffsetDateTime::now_utc();
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

fn table(nodes: &[Listed], now: OffsetDateTime, wide: bool) -> Table {
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
        let mut row = vec![
            node.name.clone(),
            node.role.as_str().to_owned(),
            node.state.to_string(),
            ready.to_owned(),
            node.version.clone().unwrap_or_default(),
            age::of(Some(node.created), now),
        ];
        if wide {
            let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
            row.extend([addresses.join(","), node.image.clone(), node.taints.join(",")]);
        }
        table.row(row);
    }
    table
}
