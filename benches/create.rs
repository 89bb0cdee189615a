//! Measures what it costs to make clusters, against another build of coracle if there is one, and writes JSON:
//! `cargo bench --bench create -- --runs 5 --against PROGRAM --many 100 --rest-runs 1 --json FILE`.
//!
//! The two take turns on the same engine with the same node image. A bar that needs what was not measured is left out.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use machine::{median, number, option, usage};
use serde_json::{Value, json};

mod machine;

const CLUSTER: &str = "t-bench";
/// How long a new cluster rests before its memory is read, and how long its CPU time is counted then.
const REST: Duration = Duration::from_secs(60);
const COUNT: Duration = Duration::from_secs(30);

const THREE_PLANES: &str = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes:\n- role: control-plane\n- role: control-plane\n- role: control-plane\n";
/// What clusters are made, by name: arguments of `create cluster`, and its configuration.
const LAYOUTS: [(&str, &[&str], &str); 3] =
    [("1 node", &[], ""), ("1+2 nodes", &["--workers", "2"], ""), ("3 control planes", &[], THREE_PLANES)];

/// What one run showed: seconds until usable and of the deletion, the share of the processors' time that was idle until
/// usable, requests to the API servers, and of a cluster that has rested MiB and percent of one core.
#[derive(Clone, Copy)]
struct Run {
    usable: f64,
    delete: f64,
    idle: f64,
    requests: f64,
    rested: Option<(f64, f64)>,
}

struct Bench {
    /// This build, and perhaps another one, by name.
    programs: Vec<(&'static str, String)>,
    image: String,
    home: tempfile::TempDir,
}

type Result<T> = std::result::Result<T, String>;

impl Bench {
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).args(["--name", CLUSTER]).env("KUBECONFIG", self.home.path().join("kubeconfig"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Creates a cluster, looks at it and deletes it.
    fn run(&self, program: &str, (name, arguments, configuration): (&str, &[&str], &str), rest: bool) -> Result<Run> {
        let mut create = self.command(program, &["create", "cluster", "--image", &self.image]);
        create.args(arguments);
        if !configuration.is_empty() {
            let file = self.home.path().join("cluster.yaml");
            std::fs::write(&file, configuration).map_err(|error| error.to_string())?;
            create.arg("--config").arg(file);
        }
        let (before, began) = (processors(), Instant::now());
        done(&mut create, &format!("create {name}"))?;
        let (usable, after) = (began.elapsed().as_secs_f64(), processors());
        let idle = (after.0 - before.0) / (after.1 - before.1) * 100.0;
        let metrics =
            self.command(program, &["kubectl"]).args(["get", "--raw=/metrics"]).stdout(Stdio::piped()).output();
        let metrics = String::from_utf8(metrics.map_err(|error| error.to_string())?.stdout).unwrap_or_default();
        let counters = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{"));
        let requests = counters.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        let rested = rest.then(|| {
            std::thread::sleep(REST);
            let (memory, before) = (usage("memory"), usage("cpu"));
            std::thread::sleep(COUNT);
            (memory, (usage("cpu") - before) / COUNT.as_secs_f64() * 100.0)
        });
        let began = Instant::now();
        done(&mut self.command(program, &["delete", "cluster"]), &format!("delete {name}"))?;
        Ok(Run { usable, delete: began.elapsed().as_secs_f64(), idle, requests, rested })
    }
}

fn done(command: &mut Command, what: &str) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cannot {what}: {status}")),
        Err(error) => Err(format!("cannot {what}: {error}")),
    }
}

/// The idle time of all processors, and all of their time, in ticks.
fn processors() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    let idle = ticks.iter().skip(3).take(2).sum();
    (idle, ticks.iter().sum())
}

/// The runs of one layout by program, in turns.
fn turns(bench: &Bench, layout: (&str, &[&str], &str), runs: usize, rest_runs: usize) -> Result<Vec<Vec<Run>>> {
    let mut all = vec![Vec::new(); bench.programs.len()];
    for round in 0..runs {
        for (index, (name, program)) in bench.programs.iter().enumerate() {
            let run = bench.run(program, layout, round < rest_runs)?;
            println!("{}, round {}: {name} usable after {:.2} s", layout.0, round + 1, run.usable);
            all[index].push(run);
        }
    }
    Ok(all)
}

fn of(runs: &[Run], figure: impl Fn(&Run) -> Option<f64>) -> Vec<f64> {
    runs.iter().filter_map(figure).collect()
}

fn usable(runs: &[Run]) -> f64 {
    median(&of(runs, |run| Some(run.usable)))
}

/// The bars: what, the figure, and what it is at most.
fn bars(layouts: &[Vec<Vec<Run>>], many: &[Run]) -> Vec<(&'static str, f64, f64)> {
    let ratio =
        |layout: usize| layouts[layout].get(1).map_or(f64::NAN, |other| usable(&layouts[layout][0]) / usable(other));
    let one = &layouts[0][0];
    let times = of(many, |run| Some(run.usable));
    let slowest = times.iter().copied().fold(f64::NAN, f64::max);
    let bars = vec![
        ("create → usable, 1 node, against the other build", ratio(0), 0.68),
        ("1+2 nodes → usable, against the other build", ratio(1), 0.70),
        ("3 control planes → usable, against 1 node", usable(&layouts[2][0]) / usable(one), 1.6),
        ("the slowest of many creates, against their median", slowest / median(&times), 1.3),
        ("idle share of the cores during create, 1 node, %", median(&of(one, |run| Some(run.idle))), 20.0),
    ];
    bars.into_iter().filter(|(_, figure, _)| figure.is_finite()).collect()
}

fn report(bench: &Bench, layouts: &[Vec<Vec<Run>>], many: &[Run]) -> (String, Value) {
    let mut text = "\n| | usable, s | delete, s | idle, % | requests | memory, MiB | CPU at rest, % |\n".to_owned();
    text.push_str("|---|---|---|---|---|---|---|\n");
    let mut measured = Vec::new();
    for ((layout, ..), programs) in LAYOUTS.iter().zip(layouts) {
        for ((name, _), runs) in bench.programs.iter().zip(programs) {
            let figures: [(&str, Vec<f64>); 6] = [
                ("usable", of(runs, |run| Some(run.usable))),
                ("delete", of(runs, |run| Some(run.delete))),
                ("idle", of(runs, |run| Some(run.idle))),
                ("requests", of(runs, |run| Some(run.requests))),
                ("memory", of(runs, |run| run.rested.map(|(memory, _)| memory))),
                ("cpu", of(runs, |run| run.rested.map(|(_, cpu)| cpu))),
            ];
            let cells: String = figures.iter().fold(String::new(), |mut cells, (_, values)| {
                let figure = if values.is_empty() { "–".to_owned() } else { format!("{:.2}", median(values)) };
                let _ = write!(cells, " {figure} |");
                cells
            });
            let _ = writeln!(text, "| {layout}, {name} |{cells}");
            let figures: serde_json::Map<_, _> =
                figures.into_iter().map(|(name, values)| (name.into(), json!(values))).collect();
            measured.push(json!({ "layout": layout, "program": name, "runs": figures }));
        }
    }
    text.push_str("\n| bar | figure | at most |\n|---|---|---|\n");
    let mut all = Vec::new();
    for (name, figure, most) in bars(layouts, many) {
        let _ = writeln!(text, "| {name} | {figure:.2} | {most} |");
        all.push(json!({ "bar": name, "figure": figure, "atMost": most, "met": figure <= most }));
    }
    let many = of(many, |run| Some(run.usable));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    (text, json!({ "cores": cores, "image": bench.image, "layouts": measured, "many": many, "bars": all }))
}

fn main() -> Result<()> {
    let mut programs = vec![("coracle", env!("CARGO_BIN_EXE_coracle").to_owned())];
    programs.extend(option("--against").map(|program| ("other", program)));
    let bench = Bench {
        programs,
        image: option("--image").unwrap_or_else(|| "coracle/node:v1.36.3".to_owned()),
        home: tempfile::tempdir().map_err(|error| error.to_string())?,
    };
    let (runs, rest_runs) = (number("--runs").unwrap_or(5), number("--rest-runs").unwrap_or(0));
    let mut layouts = Vec::new();
    for (index, layout) in LAYOUTS.into_iter().enumerate() {
        layouts.push(turns(&bench, layout, runs, if index == 0 { rest_runs } else { 0 })?);
    }
    let mut many = Vec::new();
    for _ in 0..number("--many").unwrap_or_default() {
        many.push(bench.run(&bench.programs[0].1, LAYOUTS[0], false)?);
    }
    let (text, value) = report(&bench, &layouts, &many);
    println!("{text}");
    let file = option("--json").unwrap_or_else(|| "target/bench-create.json".to_owned());
    std::fs::write(&file, format!("{value:#}\n")).map_err(|error| format!("cannot write `{file}`: {error}"))?;
    println!("written to {file}");
    Ok(())
}
