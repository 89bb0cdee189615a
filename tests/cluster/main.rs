//! The acceptance test: what a user does, on real clusters, with the real binary, the local engine and kubectl.
//!
//! It takes minutes and needs a Docker engine and the node image, so it runs only when asked to:
//! `CORACLE_TEST_CLUSTER=1 cargo test --test cluster [-- FILTER…]`, where a filter is a part of `group/scenario`. Two processes
//! with `--part=1` and `--part=2` run nearly all of them side by side, and `--part=3` is what has to be alone.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::exit, clippy::doc_markdown, clippy::similar_names)]
#![allow(unreachable_pub)]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

mod harness;
mod scenarios;

use harness::cluster::Cluster;
use harness::{SKIPPED, cleanup};

/// A check of a cluster, with what is wrong as text.
type Scenario = fn(&Cluster) -> Result<(), String>;

/// Scenarios that share a cluster, in their order; the first one creates it.
struct Group {
    name: &'static str,
    /// Variables of every coracle command.
    environment: &'static [(&'static str, &'static str)],
    create: Scenario,
    /// Scenarios that leave each other alone: several run at once, each with a home directory of its own.
    together: &'static [(&'static str, Scenario)],
    /// The other scenarios, one after the other.
    scenarios: &'static [(&'static str, Scenario)],
}

impl Group {
    fn all(&self) -> impl Iterator<Item = &'static (&'static str, Scenario)> {
        self.together.iter().chain(self.scenarios)
    }
}

/// How many scenarios run at once: they wait more than they work.
const MAX_PARALLEL: usize = 4;

/// The parts that run side by side, each of about the same length; the first one has every other group. What uses the shared
/// registry, or images of the same names, is in the same part. Three parts took longer than two on two processors.
///
/// The third part runs alone, afterwards: clusters whose time is over are removed by the next command of anyone, and what clients
/// wait for while control planes come and go says little on a machine that does other things.
const PARTS: [&[&str]; 3] = [
    &[],
    &[
        "explain",
        "kind-files",
        "published",
        "course",
        "setup",
        "older",
        "releases",
        "previous",
        "readme",
        "addons",
        "storage",
        "contents",
        "registry",
        "unreliable",
        "kind-link",
    ],
    &["lifetime", "grow"],
];

/// The number of the part that a group belongs to, from 1.
fn part_of(group: &str) -> usize {
    PARTS.iter().position(|groups| groups.contains(&group)).unwrap_or_default() + 1
}

#[derive(Default)]
struct Tally {
    passed: usize,
    /// What each failed scenario said, to be told once more at the end, where a reader of a long log looks first.
    failed: Vec<String>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let mut groups = scenarios::groups();
    if let Some(part) = arguments.iter().find_map(|argument| argument.strip_prefix("--part=")) {
        groups.retain(|group| part_of(group.name).to_string() == part);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        for (group, (name, _)) in groups.iter().flat_map(|group| group.all().map(move |one| (group, one))) {
            println!("{}/{name}: test", group.name);
        }
        return;
    }
    if std::env::var("CORACLE_TEST_CLUSTER").as_deref() != Ok("1") {
        println!("skipped: it creates real clusters and takes minutes");
        println!("run it with `CORACLE_TEST_CLUSTER=1 cargo test --test cluster [-- FILTER…]`");
        return;
    }
    cleanup::on_signals();
    if let Err(error) = cleanup::leftovers() {
        println!("leftovers of earlier runs: {error}");
    }
    let began = Instant::now();
    let mut tally = Tally::default();
    for group in &groups {
        group_of(group, &wanted, &mut tally);
    }
    cleanup::all();
    println!("\nafter {:.0} s", began.elapsed().as_secs_f64());
    for failed in &tally.failed {
        println!("failed: {failed}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed.len());
    std::process::exit(i32::from(!tally.failed.is_empty()));
}

fn group_of(group: &Group, wanted: &dyn Fn(&str) -> bool, tally: &mut Tally) {
    let full = |name: &str| format!("{}/{name}", group.name);
    let chosen = |all: &'static [(&'static str, Scenario)]| all.iter().filter(|(name, _)| wanted(&full(name)));
    if group.all().all(|(name, _)| !wanted(&full(name))) && !wanted(&full("create")) {
        return;
    }
    let mut cluster = match Cluster::new(group.name) {
        Ok(cluster) => cluster,
        Err(error) => return tally.add(&full("create"), 0.0, &Err(error)),
    };
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    cluster.environment = group.environment.iter().map(owned).collect();
    let (seconds, created) = timed(|| (group.create)(&cluster));
    if let Some(reason) = created.as_ref().err().filter(|error| error.starts_with(SKIPPED)) {
        println!("        {reason}: {}", group.name);
        return cleanup::cluster(&cluster.name);
    }
    tally.add(&full("create"), seconds, &created);
    if created.is_ok() {
        at_once(group.name, chosen(group.together).collect(), &cluster, tally);
        for (name, scenario) in chosen(group.scenarios) {
            let (seconds, result) = timed(|| scenario(&cluster));
            tally.add(&full(name), seconds, &result);
        }
    } else {
        for (name, _) in chosen(group.together).chain(chosen(group.scenarios)) {
            tally.add(&full(name), 0.0, &Err("there is no cluster".to_owned()));
        }
    }
    cleanup::cluster(&cluster.name);
}

/// How long it took, and its result; a panic is a failure like any other.
fn timed(scenario: impl FnOnce() -> Result<(), String>) -> (f64, Result<(), String>) {
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(scenario)).unwrap_or_else(|_| Err("it panicked".to_owned()));
    (began.elapsed().as_secs_f64(), result)
}

/// Runs scenarios several at once, each in a namespace of its name.
fn at_once(group: &str, scenarios: Vec<&(&'static str, Scenario)>, cluster: &Cluster, tally: &mut Tally) {
    let with_cluster = |(name, scenario): &(&'static str, Scenario)| (*name, *scenario, cluster.beside(name));
    let queue: Mutex<VecDeque<_>> = Mutex::new(scenarios.into_iter().map(with_cluster).collect());
    let tally = Mutex::new(tally);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..MAX_PARALLEL {
            scope.spawn(|| {
                while let Some((name, scenario, cluster)) = next() {
                    let (seconds, result) = timed(|| cluster.and_then(|cluster| scenario(&cluster)));
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.add(&format!("{group}/{name}"), seconds, &result);
                }
            });
        }
    });
}

impl Tally {
    fn add(&mut self, name: &str, seconds: f64, result: &Result<(), String>) {
        match result {
            Ok(()) => {
                println!("ok      {seconds:6.1} s  {name}");
                self.passed += 1;
            }
            Err(error) => {
                let told = format!("{name}\n        {}", error.replace('\n', "\n        "));
                println!("FAILED  {seconds:6.1} s  {told}");
                self.failed.push(told);
            }
        }
    }
}
