//! One log of a node, as far as it is written, or as it is written.

use std::sync::{Mutex, PoisonError};

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use time::OffsetDateTime;

use crate::cluster::logs::line::{Line, Lines};
use crate::cluster::logs::source::{ContainerLog, LIST, Source, Sources};
use crate::cluster::target::Target;
use crate::engine::files::run;
use crate::engine::inside::{OutputOptions, Session, SessionSpec};
use crate::engine::{Conversation, Engine, Said};
use crate::error::{Code, Error, Result};

/// The units that make a node one, whose journal says why one does not come up.
const UNITS: [&str; 2] = ["kubelet", "containerd"];

/// Runs `"$@"` until it ends or the input does: the engine leaves a command running whose reader has gone.
const WHILE_READ: &str = "exec 3<&0
\"$@\" </dev/null 3<&- &
child=$!
{ cat <&3; kill \"$child\"; } >/dev/null 2>&1 &
exec 3<&-
wait \"$child\"";

/// Prints the newest file in the directory `$1`, its last `$2` lines first, and goes on with the next one when there is one:
/// each start of a container has a file of its own.
const FOLLOW: &str = "trap 'kill \"$tail\" 2>/dev/null; exit' TERM
shown=
lines=$2
while :; do
  newest=$(cd \"$1\" 2>/dev/null && ls -1t -- *.log 2>/dev/null | head -n 1)
  if [ -n \"$newest\" ] && [ \"$newest\" != \"$shown\" ]; then
    [ -z \"$tail\" ] || kill \"$tail\" 2>/dev/null
    tail --lines=\"$lines\" --follow=name --retry \"$1/$newest\" 2>/dev/null &
    tail=$!
    shown=$newest
    lines=+1
  fi
  sleep 1
done";

/// Which part of a log is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Also what is written from now on.
    pub follow: bool,
    /// Only from the last so many seconds.
    pub since: Option<u64>,
    /// Only so many of the last lines.
    pub tail: Option<u64>,
    /// Of the container's previous start.
    pub previous: bool,
}

/// Shows bytes; the value is whether more are wanted.
pub type Show<'a> = &'a (dyn Fn(&[u8]) -> Result<bool> + Sync);

/// Shows a log of a node: the journal of its kubelet and containerd, or of the unit, pod or container of this name. Something
/// beside the nodes has one log.
pub async fn read(
    engine: &dyn Engine,
    target: &Target,
    word: Option<&str>,
    options: Options,
    show: Show<'_>,
) -> Result<()> {
    let node = &target.container.name;
    if !target.is_node {
        if word.is_some() {
            return Err(Error::new(Code::UsageInvalid, format!("`{node}` is not a node, and has one log only"))
                .hint(format!("`coracle logs {node}` shows it")));
        }
        return output(engine, node, options, show).await;
    }
    target.require_running()?;
    let Some(word) = word else {
        return journal(engine, node, &UNITS, options, show).await;
    };
    match sources(engine, node).await?.find(node, word)? {
        Source::Unit(_) if options.previous => {
            Err(Error::new(Code::UsageInvalid, format!("the journal of `{word}` covers all of its runs"))
                .hint("omit `--previous`, which is for pods and containers"))
        }
        Source::Unit(unit) => journal(engine, node, &[&unit], options, show).await,
        Source::Containers(logs) if options.follow => follow(engine, node, &logs, options, show).await,
        Source::Containers(logs) => written(engine, node, &logs, options, show).await,
    }
}

/// The units and containers that a node has logs of.
pub async fn names(engine: &dyn Engine, target: &Target) -> Result<Vec<String>> {
    target.require_running()?;
    Ok(sources(engine, &target.container.name).await?.names())
}

async fn sources(engine: &dyn Engine, node: &str) -> Result<Sources> {
    let failed = Error::new(Code::StepFailed, "cannot list the logs").on_node(node);
    let listed = run(engine, node, &["sh", "-c", LIST], None, failed).await?;
    Ok(Sources::read(&String::from_utf8_lossy(&listed)))
}

/// What a container beside the nodes has said.
async fn output(engine: &dyn Engine, container: &str, options: Options, show: Show<'_>) -> Result<()> {
    let options = OutputOptions {
        follow: options.follow,
        since: moment(options).map(OffsetDateTime::unix_timestamp),
        tail: options.tail,
    };
    let ends = engine.output(container, options).await?;
    // Both of its outputs are its log.
    pass(container, ends, show, show).await.map(drop)
}

async fn journal(engine: &dyn Engine, node: &str, units: &[&str], options: Options, show: Show<'_>) -> Result<()> {
    let mut command = vec!["journalctl".to_owned(), "--no-pager".to_owned()];
    command.extend(units.iter().map(|unit| format!("--unit={unit}")));
    command.extend(options.since.map(|seconds| format!("--since=-{seconds}s")));
    command.extend(options.tail.map(|lines| format!("--lines={lines}")));
    if options.follow {
        // By itself it begins with the last ten lines.
        command.extend(options.tail.is_none().then(|| "--no-tail".to_owned()));
        command.push("--follow".to_owned());
    }
    let session = start(engine, node, command, options.follow).await?;
    let said = Mutex::new(Vec::new());
    let keep = |bytes: &[u8]| {
        said.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(true)
    };
    let wants_more = pass(node, session.ends, show, &keep).await?;
    let code = if wants_more { engine.exit_code(&session.id).await? } else { 0 };
    if code == 0 {
        return Ok(());
    }
    let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
    let said = String::from_utf8_lossy(&said);
    let cause = said.lines().last().map_or_else(|| format!("exit code {code}"), |line| line.trim().to_owned());
    Err(Error::new(Code::StepFailed, "cannot read the journal").on_node(node).because(cause))
}

/// Starts a command in a node; one that follows ends when no one reads it any more.
async fn start(engine: &dyn Engine, node: &str, command: Vec<String>, follow: bool) -> Result<Session> {
    let guard = ["sh", "-c", WHILE_READ, "sh"].map(str::to_owned);
    let command = if follow { [guard.to_vec(), command].concat() } else { command };
    engine.open(node, &SessionSpec { command, input: follow, ..SessionSpec::default() }).await
}

/// Shows an output and what is said on standard error, as they come. The value is whether more is wanted.
async fn pass(container: &str, ends: Conversation, show: Show<'_>, show_error: Show<'_>) -> Result<bool> {
    let Conversation { input, mut output } = ends;
    while let Some(part) = output.try_next().await.map_err(|source| broken(container, &source))? {
        let wants_more = match part {
            Said::Output(bytes) => show(&bytes)?,
            Said::Error(bytes) => show_error(&bytes)?,
        };
        if !wants_more {
            return Ok(false);
        }
    }
    // Until now: the end of the input ends the command.
    drop(input);
    Ok(true)
}

fn broken(container: &str, source: &std::io::Error) -> Error {
    Error::new(Code::EngineFailed, "the log ended unexpectedly").on_node(container).with_cause(source)
}

/// Since when lines are wanted.
fn moment(options: Options) -> Option<OffsetDateTime> {
    let seconds = i64::try_from(options.since?).ok()?;
    Some(OffsetDateTime::now_utc() - time::Duration::seconds(seconds))
}

/// A line as it is shown: with the container's name if there are several.
fn shown(log: &ContainerLog, is_only: bool, line: &Line) -> Vec<u8> {
    if is_only { line.text.clone() } else { [format!("[{}] ", log.title()).as_bytes(), &line.text].concat() }
}

/// What containers have written so far, in the order of time.
async fn written(
    engine: &dyn Engine,
    node: &str,
    logs: &[ContainerLog],
    options: Options,
    show: Show<'_>,
) -> Result<()> {
    let since = moment(options);
    let mut all: Vec<(&ContainerLog, Line)> = Vec::new();
    for log in logs {
        let Some(file) = log.file(options.previous) else {
            return Err(Error::new(Code::NotFound, format!("`{}` has started only once", log.title()))
                .on_node(node)
                .hint("omit `--previous`"));
        };
        let failed = Error::new(Code::StepFailed, format!("cannot read `{file}`")).on_node(node);
        let text = run(engine, node, &["cat", "--", &file], None, failed).await?;
        let found: Vec<Line> = Lines::default().add(&text).into_iter().filter(|line| line.is_since(since)).collect();
        let tail = options.tail.map_or(usize::MAX, |lines| usize::try_from(lines).unwrap_or(usize::MAX));
        let skipped = found.len().saturating_sub(tail);
        all.extend(found.into_iter().skip(skipped).map(|line| (log, line)));
    }
    // Stable: the lines of one container stay in their order.
    all.sort_by_key(|(_, line)| line.time);
    let text: Vec<u8> = all.iter().flat_map(|(log, line)| shown(log, logs.len() == 1, line)).collect();
    show(&text).map(drop)
}

/// What containers write, until no one reads it any more.
async fn follow(
    engine: &dyn Engine,
    node: &str,
    logs: &[ContainerLog],
    options: Options,
    show: Show<'_>,
) -> Result<()> {
    let since = moment(options);
    let each = logs.iter().map(async |log| {
        let lines = options.tail.map_or_else(|| "+1".to_owned(), |lines| lines.to_string());
        let command = ["sh", "-c", FOLLOW, "sh", &log.directory(), &lines].map(str::to_owned).to_vec();
        let session = start(engine, node, command, true).await?;
        let Conversation { input, mut output } = session.ends;
        let mut parts = Lines::default();
        while let Some(part) = output.try_next().await.map_err(|source| broken(node, &source))? {
            let Said::Output(bytes) = part else { continue };
            let found = parts.add(&bytes);
            let wanted = found.iter().filter(|line| line.is_since(since));
            let text: Vec<u8> = wanted.flat_map(|line| shown(log, logs.len() == 1, line)).collect();
            if !text.is_empty() && !show(&text)? {
                // Ends the others too.
                return Err(Error::new(Code::Interrupted, "the reader of the log has gone"));
            }
        }
        drop(input);
        Ok(())
    });
    match try_join_all(each).await {
        Err(error) if error.code() == Code::Interrupted => Ok(()),
        result => result.map(drop),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
