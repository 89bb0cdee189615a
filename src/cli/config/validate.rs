//! `coracle config validate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::input::{self, Source};
use crate::cli::output;
use crate::cluster::lifecycle::upstream;
use crate::config::upstream::Written;
use crate::config::{self, ClusterConfig, Overrides};
use crate::error::{Code, Error, Problem, Result, counted};
use crate::host::mounts;

/// How long an engine may take to say what its node images know: a check of a file must not wait for it.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// Configuration files, or `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long, short, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

/// What is known about a file.
struct Checked {
    file: String,
    /// The cluster that it describes, as far as it can be read.
    cluster: Option<(ClusterConfig, Written)>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Run for Validate {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let mut all = Vec::new();
        for path in &self.files {
            all.push(checked(path).await);
        }
        against_images(context, &mut all).await;
        if self.output.is_some() {
            let is_valid = all.iter().all(|one| one.problems.is_empty());
            let files: Vec<Value> = all.iter().map(Checked::value).collect();
            context.ui.data(&output::json(&json!({"valid": is_valid, "files": files}))?)?;
        }
        for one in &all {
            let of_several = if all.len() > 1 { format!("{}: ", one.file) } else { String::new() };
            for warning in &one.warnings {
                context.ui.warn(format!("{of_several}{warning}"));
            }
            if let Some((cluster, _)) = one.cluster.as_ref().filter(|_| one.problems.is_empty()) {
                context.ui.note(format!("`{}` is valid: {}", one.file, summary(cluster)));
            }
        }
        failure(all).map_or(Ok(ExitCode::SUCCESS), Err)
    }

    fn sweeps(&self) -> bool {
        false
    }
}

/// Reads a file, and says what can be said without an engine.
async fn checked(path: &Path) -> Checked {
    let file = path.display().to_string();
    let mut one = Checked { file: file.clone(), cluster: None, problems: Vec::new(), warnings: Vec::new() };
    let Source { written, base_directory } = match input::configuration(path).await {
        Ok(source) => source,
        Err(error) => {
            one.problems.push(Problem { place: file, message: error.in_words(), snippet: None });
            return one;
        }
    };
    let overrides = Overrides { base_directory, ..Overrides::default() };
    let (cluster, problems) = config::load_partly(&written.text, &file, &overrides);
    one.problems = problems;
    one.warnings = config::warnings(&cluster);
    // The file may be for another machine, so that what this one lacks is no mistake in it.
    let missing = mounts::problems(&cluster).into_iter();
    one.warnings.extend(missing.map(|(_, problem)| format!("{}: {}", problem.place, problem.message)));
    one.cluster = Some((cluster, written));
    one
}

/// Checks settings of Kubernetes' components against the node images that are here, if there is an engine.
async fn against_images(context: &Context, all: &mut [Checked]) {
    let sets = |one: &Checked| one.cluster.as_ref().is_some_and(|(cluster, _)| !upstream::set(cluster).is_empty());
    if !all.iter().any(sets) {
        return;
    }
    let engine = match timeout(ENGINE_TIMEOUT, context.engine()).await {
        Ok(Ok((engine, _))) => Some(engine),
        _ => None,
    };
    for one in all.iter_mut().filter(|one| sets(one)) {
        let Some((cluster, written)) = &one.cluster else { continue };
        let found = match &engine {
            Some(engine) => timeout(ENGINE_TIMEOUT, upstream::look(&**engine, cluster, written)).await.ok(),
            None => None,
        };
        match found {
            Some(Ok((problems, warnings))) => {
                one.problems.extend(problems);
                one.warnings.extend(warnings);
            }
            Some(Err(error)) => one.warnings.push(upstream::unchecked(cluster, &error.in_words())),
            None => one.warnings.push(upstream::unchecked(cluster, "no engine answers")),
        }
    }
}

/// The error about all files that have problems.
fn failure(mut all: Vec<Checked>) -> Option<Error> {
    let count = all.len();
    all.retain(|one| !one.problems.is_empty());
    match all.as_mut_slice() {
        [] => None,
        [one] => Some(config::invalid(&one.file, std::mem::take(&mut one.problems))),
        several => {
            let problems: Vec<Problem> = several.iter_mut().flat_map(|one| std::mem::take(&mut one.problems)).collect();
            let found = counted(problems.len(), "problem");
            let message = format!("{} of {count} configurations have {found}", several.len());
            Some(Error::new(Code::ConfigInvalid, message).with_problems(problems))
        }
    }
}

fn summary(cluster: &ClusterConfig) -> String {
    let control_planes = cluster.control_planes();
    let workers = cluster.nodes.len() - control_planes;
    let nodes = format!("{}, {}", counted(control_planes, "control plane"), counted(workers, "worker"));
    format!("cluster `{}`, {nodes}", cluster.name)
}

impl Checked {
    fn value(&self) -> Value {
        let problem = |problem: &Problem| {
            let mut value = json!({"place": problem.place, "message": problem.message});
            if let Some(snippet) = &problem.snippet {
                value["line"] = json!(snippet.line);
                value["column"] = json!(snippet.column);
            }
            value
        };
        let cluster = self.cluster.as_ref().filter(|_| self.problems.is_empty()).map(|(cluster, _)| cluster);
        json!({
            "file": self.file,
            "valid": self.problems.is_empty(),
            "name": cluster.map(|cluster| cluster.name.as_str()),
            "controlPlanes": cluster.map(ClusterConfig::control_planes),
            "workers": cluster.map(|cluster| cluster.nodes.len() - cluster.control_planes()),
            "problems": self.problems.iter().map(problem).collect::<Vec<_>>(),
            "warnings": self.warnings,
        })
    }
}
