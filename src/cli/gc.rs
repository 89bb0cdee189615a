//! `coracle gc`.

use std::process::ExitCode;

use clap::Args;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::expired;
use crate::cli::options::JsonOption;
use crate::cli::output::Table;
use crate::cluster::lifecycle::garbage::{self, Fate, Item};
use crate::engine::SharedEngine;
use crate::error::{Error, Result, counted};
use crate::node_image;
use crate::ui::Format;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  coracle gc --dry-run   print what would be removed\n  coracle gc             remove it"
)]
pub(crate) struct Gc {
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Gc {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let items = garbage::find(&engine, node_image::abandoned()).await?;
        let (going, staying): (Vec<Item>, Vec<Item>) = items.into_iter().partition(Item::goes);
        if self.output.format() == Format::Plain && !going.is_empty() {
            context.ui.data(&table(&going).to_string())?;
        }
        for item in &staying {
            context.ui.warn(format!("{} `{}` stays: {}", item.kind, item.name, item.why));
        }
        let mut failed = None;
        if !self.dry_run && !going.is_empty() {
            let step = context.ui.step(format!("Removing {}", counted(going.len(), "thing")));
            let removals = going.iter().map(async |item| (item, remove(context, &engine, item).await));
            for (item, result) in join_all(removals).await {
                if let Err(error) = result {
                    context.ui.warn(format!("{} `{}` was not removed: {error}", item.kind, item.name));
                    failed = failed.or(Some(error));
                }
            }
            if failed.is_none() {
                step.finish();
            }
        }
        context.ui.note(summary(going.len(), self.dry_run, failed.as_ref()));
        let values = |items: &[Item]| items.iter().map(value).collect::<Vec<_>>();
        context.ui.result(&json!({"removed": values(&going), "left": values(&staying), "dryRun": self.dry_run}));
        failed.map_or(Ok(ExitCode::SUCCESS), Err)
    }

    /// Clusters whose time is over are in its own list.
    fn sweeps(&self) -> bool {
        false
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

async fn remove(context: &Context, engine: &SharedEngine, item: &Item) -> Result<()> {
    match &item.fate {
        Fate::Expire(over) => expired::remove(&context.ui, engine, over).await.map(drop),
        _ => garbage::remove(engine, item).await,
    }
}

fn summary(count: usize, dry_run: bool, failed: Option<&Error>) -> String {
    match (count, dry_run, failed) {
        (0, ..) => "There is nothing to remove".to_owned(),
        (_, true, _) => format!("Would remove {}", counted(count, "thing")),
        (_, false, None) => format!("Removed {}", counted(count, "thing")),
        (_, false, Some(_)) => "Not everything was removed".to_owned(),
    }
}

fn value(item: &Item) -> Value {
    json!({"kind": item.kind, "name": item.name, "reason": item.why})
}

fn table(items: &[Item]) -> Table {
    let mut table = Table::new(&["KIND", "NAME", "REASON"]);
    for item in items {
        table.row(vec![item.kind.to_owned(), item.name.clone(), item.why.clone()]);
    }
    table
}
