//! Runs coracle and kind in turns and prints how they compare: `cargo bench --bench kind -- --runs 5`.
//!
//! Both use the same node image. Times are taken from outside, in the same way for both: from the start of the command
//! until the API says that all nodes are Ready and CoreDNS is available. `kind` must be in the PATH.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coracle::cluster::access;
use coracle::kubernetes::Client;
use coracle::kubernetes::ready::Condition;

use machine::{median, number, option, usage};

mod machine;

/// How long a cluster may take.
const LIMIT: Duration = Duration::from_secs(180);
/// How long a new cluster rests before its memory is read.
const REST: Duration = Duration::from_secs(60);
/// How long its CPU time is counted.
const COUNT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq)]
enum Tool {
    Coracle,
    Kind,
}

/// What one run showed; seconds, MiB and percent of one core.
#[derive(Default, Clone, Copy)]
struct Run {
    ready: f64,
    dns: f64,
    delete: f64,
    memory: Option<f64>,
    cpu: Option<f64>,
}

struct Settings {
    /// Rounds with one node, and with two workers.
    runs: [usize; 2],
    /// Rounds in which memory and CPU are read too, which takes a minute and a half for each tool.
    rest_runs: usize,
    image: String,
    kind_config: Option<PathBuf>,
    kind_config_workers: Option<PathBuf>,
    home: tempfile::TempDir,
}

/// A figure of a run, if it was measured.
type Figure = fn(&Run) -> Option<f64>;

impl Tool {
    fn name(self) -> &'static str {
        if self == Self::Coracle { "coracle" } else { "kind" }
    }

    fn command(self, settings: &Settings) -> Command {
        let program = if self == Self::Coracle { env!("CARGO_BIN_EXE_coracle") } else { "kind" };
        let mut command = Command::new(program);
        command.env("KUBECONFIG", settings.home.path().join(self.name())).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn create(self, settings: &Settings, workers: usize) -> Command {
        let mut command = self.command(settings);
        command.args(["create", "cluster", "--name", "t-bench", "--image", &settings.image]);
        match self {
            Self::Coracle => drop(command.args(["--workers", &workers.to_string()])),
            Self::Kind => {
                let config = if workers == 0 { &settings.kind_config } else { &settings.kind_config_workers };
                if let Some(config) = config {
                    command.arg("--config").arg(config);
                }
            }
        }
        command
    }
}

fn kubeconfig(tool: Tool, settings: &Settings) -> Option<String> {
    let output =
        tool.command(settings).args(["get", "kubeconfig", "--name", "t-bench"]).stdout(Stdio::piped()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && text.contains("client-key-data")).then_some(text)
}

/// Creates a cluster, measures it and deletes it.
async fn run(tool: Tool, settings: &Settings, workers: usize, rest: bool) -> Result<Run, String> {
    let began = Instant::now();
    let mut child =
        tool.create(settings, workers).spawn().map_err(|error| format!("cannot run {}: {error}", tool.name()))?;
    let client = loop {
        if let Some(text) = kubeconfig(tool, settings) {
            let credentials = access::parse(text.as_bytes()).map_err(|error| error.to_string())?;
            break Client::connect(&credentials).map_err(|error| error.to_string())?;
        }
        late(tool, began)?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut result = Run::default();
    until(tool, began, &client, Condition::NodesReady(workers + 1)).await?;
    result.ready = began.elapsed().as_secs_f64();
    until(tool, began, &client, Condition::DnsAvailable).await?;
    result.dns = began.elapsed().as_secs_f64();
    let status = child.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("{} create failed", tool.name()));
    }
    if rest {
        tokio::time::sleep(REST).await;
        result.memory = Some(usage("memory"));
        let before = usage("cpu");
        tokio::time::sleep(COUNT).await;
        result.cpu = Some((usage("cpu") - before) / COUNT.as_secs_f64() * 100.0);
    }
    let began = Instant::now();
    let status = tool.command(settings).args(["delete", "cluster", "--name", "t-bench"]).status();
    result.delete = began.elapsed().as_secs_f64();
    if !status.is_ok_and(|status| status.success()) {
        return Err(format!("{} delete failed", tool.name()));
    }
    Ok(result)
}

fn late(tool: Tool, began: Instant) -> Result<(), String> {
    if began.elapsed() > LIMIT {
        Err(format!("{} took longer than {} s", tool.name(), LIMIT.as_secs()))
    } else {
        Ok(())
    }
}

async fn until(tool: Tool, began: Instant, client: &Client, condition: Condition) -> Result<(), String> {
    while !matches!(condition.check(client).await, Ok(None)) {
        late(tool, began)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn row(title: &str, coracle: &[f64], kind: &[f64]) {
    let (ours, theirs) = (median(coracle), median(kind));
    let list = |values: &[f64]| values.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(" ");
    println!("| {title} | {ours:.2} | {theirs:.2} | {:.2} | {} | {} |", ours / theirs, list(coracle), list(kind));
}

fn table(title: &str, coracle: &[Run], kind: &[Run]) {
    let pick = |runs: &[Run], field: Figure| runs.iter().filter_map(field).collect::<Vec<_>>();
    println!("\n## {title}\n\n| | coracle | kind | ratio | coracle's runs | kind's runs |\n|---|---|---|---|---|---|");
    let rows: [(&str, Figure); 5] = [
        ("create until all nodes Ready, s", |run| Some(run.ready)),
        ("create until CoreDNS available, s", |run| Some(run.dns)),
        ("delete, s", |run| Some(run.delete)),
        ("memory after 60 s, MiB", |run| run.memory),
        ("CPU when idle, % of a core", |run| run.cpu),
    ];
    for (title, field) in rows {
        let (ours, theirs) = (pick(coracle, field), pick(kind, field));
        if !ours.is_empty() {
            row(title, &ours, &theirs);
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), String> {
    let settings = Settings {
        runs: [number("--runs").unwrap_or(5), number("--runs-workers").or(number("--runs")).unwrap_or(5)],
        rest_runs: number("--rest-runs").unwrap_or(5),
        image: option("--image").unwrap_or_else(|| "coracle/node:v1.36.3".to_owned()),
        kind_config: option("--kind-config").map(PathBuf::from),
        kind_config_workers: option("--kind-config-workers").map(PathBuf::from),
        home: tempfile::tempdir().map_err(|error| error.to_string())?,
    };
    for (workers, runs) in [0, 2].into_iter().zip(settings.runs) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..runs {
            let rest = workers == 0 && round < settings.rest_runs;
            ours.push(run(Tool::Coracle, &settings, workers, rest).await?);
            theirs.push(run(Tool::Kind, &settings, workers, rest).await?);
            println!(
                "round {}: coracle {:.1} s, kind {:.1} s until DNS",
                round + 1,
                ours[round].dns,
                theirs[round].dns
            );
        }
        table(if workers == 0 { "1 node" } else { "1 control plane, 2 workers" }, &ours, &theirs);
    }
    Ok(())
}
