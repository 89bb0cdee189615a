//! `coracle events`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::age;
use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{NameOption, NamespaceOption};
use crate::cli::output::{OutputFormat, Printed, Table, ValueOption};
use crate::cluster;
use crate::cluster::events::{Event, Events as Source};
use crate::error::Result;

/// How often new events are looked for.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  coracle events --all-namespaces    what happened in the cluster, newest last; `!` marks warnings
  coracle events -A --watch          and keep printing new events")]
pub(crate) struct Events {
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    namespace: NamespaceOption,
    /// Events of all namespaces
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Keep printing new events as they occur
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    output: ValueOption,
}

impl Run for Events {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let name = self.name.get()?;
        let cluster = cluster::get(&*engine, &name).await?;
        let namespace = (!self.all_namespaces).then(|| self.namespace.get(&cluster));
        let source = Source::of(&*engine, &cluster, namespace.as_deref()).await?;
        let events = source.list().await?;
        if !self.watch {
            let printed = Printed {
                value: json!(events),
                names: Vec::new(),
                text: &|_| table(&events, self.all_namespaces, OffsetDateTime::now_utc()).to_string(),
            };
            context.ui.data(&printed.render(self.output.output)?)?;
            if events.is_empty() && self.output.output.is_none() {
                context.ui.note(format!("There are no events in {}", words(namespace.as_deref())));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut seen = BTreeMap::new();
        let mut events = events;
        loop {
            for event in events {
                let (id, version) = event.version.clone();
                if seen.insert(id, version.clone()).is_some_and(|before| before == version) {
                    continue;
                }
                let line = match self.output.output {
                    None => line(&event, self.all_namespaces),
                    // Objects in one line each, and documents.
                    Some(OutputFormat::Json) => format!("{}\n", json!(event)),
                    Some(_) => format!("---\n{}", crate::yaml::to_string(&json!(event))?),
                };
                if !context.ui.bytes(line.as_bytes())? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            tokio::time::sleep(INTERVAL).await;
            // An API server that is being restarted answers again.
            events = source.list().await.unwrap_or_else(|error| {
                context.ui.detail(error.to_string());
                Vec::new()
            });
        }
    }

    fn sweeps(&self) -> bool {
        false
    }
}

fn words(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "the cluster".to_owned(), |namespace| format!("namespace `{namespace}`"))
}

/// The object of an event, as kubectl names it.
fn of(event: &Event, with_namespace: bool) -> String {
    let name = format!("{}/{}", event.kind.to_lowercase(), event.name);
    if with_namespace && !event.namespace.is_empty() { format!("{} {name}", event.namespace) } else { name }
}

fn mark(event: &Event) -> &'static str {
    if event.warning { "!" } else { "" }
}

fn message(event: &Event) -> String {
    let times = if event.count > 1 { format!(" (x{})", event.count) } else { String::new() };
    format!("{}{times}", event.message)
}

fn table(events: &[Event], with_namespace: bool, now: OffsetDateTime) -> Table {
    let mut titles = vec!["", "LAST SEEN", "REASON", "OBJECT", "MESSAGE"];
    if with_namespace {
        titles.insert(2, "NAMESPACE");
    }
    let mut table = Table::new(&titles);
    for event in events {
        let age = age::of(event.time.map(OffsetDateTime::unix_timestamp), now);
        let mut row = vec![mark(event).to_owned(), age, event.reason.clone(), of(event, false), message(event)];
        if with_namespace {
            row.insert(2, event.namespace.clone());
        }
        table.row(row);
    }
    table
}

/// An event in a line of its own, with the time instead of an age.
fn line(event: &Event, with_namespace: bool) -> String {
    let time = event.time.and_then(|time| time.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()).unwrap_or_default();
    let mark = if event.warning { "!" } else { " " };
    format!("{mark} {time} {} {}: {}\n", event.reason, of(event, with_namespace), message(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(warning: bool) -> Event {
        Event {
            time: OffsetDateTime::from_unix_timestamp(1_767_225_600).ok(),
            namespace: "n".to_owned(),
            kind: "Pod".to_owned(),
            name: "p".to_owned(),
            warning,
            reason: "BackOff".to_owned(),
            message: "again".to_owned(),
            count: if warning { 3 } else { 1 },
            version: (String::new(), String::new()),
        }
    }

    #[test]
    fn warnings_are_marked() {
        let now = OffsetDateTime::from_unix_timestamp(1_767_225_660).unwrap();
        let text = table(&[event(false), event(true)], true, now).to_string();
        assert_eq!(
            text,
            "    LAST SEEN   NAMESPACE   REASON    OBJECT   MESSAGE\n    60s         n           BackOff   pod/p    again\n\
             !   60s         n           BackOff   pod/p    again (x3)\n"
        );
        assert_eq!(line(&event(true), true), "! 2026-01-01T00:00:00Z BackOff n pod/p: again (x3)\n");
        assert_eq!(line(&event(false), false), "  2026-01-01T00:00:00Z BackOff pod/p: again\n");
    }
}
