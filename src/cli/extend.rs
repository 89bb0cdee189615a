//! `coracle extend`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use time::OffsetDateTime;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, PositionalName};
use crate::cluster;
use crate::cluster::lifecycle::lifetime;
use crate::config::Period;
use crate::error::Result;
use crate::ui::Format;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  coracle extend dev --ttl 2h    it lives until two hours from now\n  coracle extend dev --ttl none  it lives until it is deleted"
)]
pub(crate) struct Extend {
    #[command(flatten)]
    name: PositionalName,
    /// How long the cluster lives from now on, such as `2h`; `none` keeps it until it is deleted
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    ttl: Limit,
    #[command(flatten)]
    output: JsonOption,
}

/// A period, or no limit.
#[derive(Debug, Clone, Copy)]
struct Limit(Option<Period>);

fn limit(text: &str) -> std::result::Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    match text.parse::<Period>()? {
        period if period.seconds() == 0 => Err("the duration must not be zero; `none` lifts the limit".to_owned()),
        period => Ok(Limit(Some(period))),
    }
}

impl Run for Extend {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let name = self.name.get()?;
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &name).await?;
        let now = OffsetDateTime::now_utc();
        let work = async |engine| {
            let engine: crate::engine::SharedEngine = engine;
            lifetime::extend(&*engine, &cluster, self.ttl.0, now).await
        };
        let expiry = context.run_to_end(&engine, work).await?;
        let until = expiry.map_or_else(|| "until it is deleted".to_owned(), |expiry| format!("until {expiry}"));
        context.ui.note(format!("Cluster `{name}` lives {until}"));
        if cluster.running().next().is_none() {
            context.ui.hint(format!("its nodes are stopped; `coracle start {name}` starts them"));
        }
        context.ui.result(&json!({"name": name, "expires": expiry.map(|expiry| expiry.to_string())}));
        Ok(ExitCode::SUCCESS)
    }

    /// A cluster that is over can still be rescued.
    fn sweeps(&self) -> bool {
        false
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
