//! `coracle doctor`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::create::configuration;
use crate::cli::expired;
use crate::cli::options::{KubeconfigOption, NameOption};
use crate::cli::output::{Printed, ValueOption};
use crate::cluster::doctor::{self, Finding, Fix, Request};
use crate::cluster::lifecycle::garbage::Fate;
use crate::engine::SharedEngine;
use crate::engine::address::{self, Environment};
use crate::error::{Code, Error, Result, closest, counted};
use crate::host;
use crate::host::checks::{Id, Severity};
use crate::host::proxy;
use crate::plan::ProxySettings;

/// How long an engine that is well may take to answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  coracle doctor                      print what is wrong, and the command that fixes it\n  coracle doctor --for cluster.yaml   check what this cluster needs as well\n  coracle doctor --fix                fix what is safe to fix, after asking"
)]
pub(crate) struct Doctor {
    /// Fix what can be fixed safely, after asking
    #[arg(long)]
    fix: bool,
    /// Answer every question of `--fix` with yes
    #[arg(long, short, requires = "fix")]
    yes: bool,
    /// Check what the cluster of this configuration needs as well; `-` is standard input
    #[arg(long, value_name = "FILE")]
    r#for: Option<PathBuf>,
    /// Run only the check with this ID; may be repeated
    #[arg(long = "check", value_name = "ID", value_parser = check_id)]
    checks: Vec<Id>,
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    kubeconfig: KubeconfigOption,
    #[command(flatten)]
    output: ValueOption,
}

impl Run for Doctor {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let request = self.request(context).await;
        let mut findings = self.examined(&request).await;
        let mut fixed = Vec::new();
        if self.fix {
            let is_json = self.output.output.is_some();
            if !is_json {
                context.ui.data(&text(&findings))?;
            }
            fixed = self.mend(context, &findings, request.engine.as_ref().ok()).await;
            if !fixed.is_empty() {
                findings = self.examined(&request).await;
                if !is_json {
                    context.ui.data(&format!("\nAfterwards:\n{}", text(&findings)))?;
                }
            }
        }
        if !self.fix || self.output.output.is_some() {
            let printed = Printed { value: value(&findings, &fixed), names: Vec::new(), text: &|_| text(&findings) };
            context.ui.data(&printed.render(self.output.output)?)?;
        }
        if !self.fix && findings.iter().any(|finding| finding.fix.is_some()) {
            context.ui.hint("`coracle doctor --fix` fixes what can be fixed safely");
        }
        // What `create` would end with.
        let first = findings.iter().find_map(|finding| finding.check.failure(Severity::Error));
        Ok(first.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.code().exit_code())))
    }

    /// It only looks, and clusters whose time is over are in its own list.
    fn sweeps(&self) -> bool {
        false
    }
}

/// A check by its ID.
fn check_id(text: &str) -> std::result::Result<Id, String> {
    let find = |text: &str| Id::ALL.iter().find(|id| id.row().id == text).copied();
    find(text).ok_or_else(|| match closest(text, Id::ALL.iter().map(|id| id.row().id)) {
        Some(meant) => format!("there is no such check; did you mean `{meant}`?"),
        None => "there is no such check; docs/reference/doctor.md lists them".to_owned(),
    })
}

impl Doctor {
    async fn examined(&self, request: &Request) -> Vec<Finding> {
        let mut findings = Box::pin(doctor::examine(request)).await;
        findings.retain(|finding| self.checks.is_empty() || self.checks.contains(&finding.check.id));
        findings
    }

    async fn request(&self, context: &Context) -> Request {
        let environment = Environment::from_process();
        let config = match &self.r#for {
            Some(file) => Some(configuration(file, self.name.given()).await),
            None => None,
        };
        let address = address::resolve(&environment);
        let proxy = address.map_or_else(|_| ProxySettings::default(), |found| proxy::settings(&environment, &found).0);
        Request {
            engine: connected(context, &environment).await,
            config,
            kubeconfig: self.kubeconfig.location(),
            docker_config: environment.docker_config,
            proxy,
        }
    }

    /// Mends what can be mended, and returns what was done.
    async fn mend(&self, context: &Context, findings: &[Finding], engine: Option<&SharedEngine>) -> Vec<String> {
        let mut fixes: Vec<&Fix> = findings.iter().filter_map(|finding| finding.fix.as_ref()).collect();
        // One limit can be what two checks are about.
        fixes.dedup_by_key(|fix| fix.describe());
        let ui = &context.ui;
        if fixes.is_empty() {
            ui.note("There is nothing that `--fix` can fix");
            return Vec::new();
        }
        if !self.yes && !ui.can_ask() {
            for fix in &fixes {
                ui.note(format!("{}: not done", fix.describe()));
            }
            ui.note("Nothing was changed: there is no terminal to ask on, and `--yes` is not given");
            return Vec::new();
        }
        let mut done = Vec::new();
        for fix in fixes {
            let what = fix.describe();
            let agreed = if self.yes { Ok(true) } else { ui.confirm(&format!("{what}?")) };
            match agreed {
                Ok(true) => {}
                Ok(false) => continue,
                Err(_) => break,
            }
            match apply(context, engine, fix).await {
                Ok(()) => {
                    ui.note(format!("{what}: done"));
                    done.push(what);
                }
                Err(error) => ui.warn(format!("{what}: {error}")),
            }
        }
        done
    }
}

/// The engine, if it answers in a moment.
async fn connected(context: &Context, environment: &Environment) -> Result<SharedEngine> {
    let silent = || {
        Error::new(Code::EngineUnreachable, "the Docker engine does not answer")
            .because(format!("it accepted a connection, but sent nothing for {} s", CONNECTION_TIMEOUT.as_secs()))
            .hint("on the engine's machine: `sudo systemctl restart docker`")
    };
    let connection = timeout(CONNECTION_TIMEOUT, context.connect(environment)).await.map_err(|_| silent())?;
    connection.map(|(engine, _)| engine)
}

async fn apply(context: &Context, engine: Option<&SharedEngine>, fix: &Fix) -> Result<()> {
    match (fix, engine) {
        (Fix::Collect(item), Some(engine)) => match &item.fate {
            Fate::Expire(over) => return expired::remove(&context.ui, engine, over).await.map(drop),
            _ => fix.apply(Some(engine)).await?,
        },
        (Fix::Forget { cluster, .. }, _) => {
            fix.apply(engine).await?;
            context.ui.warn_of(host::kubectl::remove_kubeconfig(cluster.as_str()));
        }
        _ => fix.apply(engine).await?,
    }
    Ok(())
}

fn failed(finding: &Finding) -> Option<&Error> {
    finding.check.result.as_ref().err()
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.check.failure(severity).is_some()).count()
}

/// A line for each problem, with what to do below it, and at the end how many checks passed.
fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Some(error) = failed(finding) else { continue };
        let row = finding.check.id.row();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {}: {}", row.severity.as_str(), row.id, error.in_words());
        for problem in error.problems() {
            let _ = writeln!(text, "  at {}: {}", problem.place, problem.message);
        }
        for help in finding.helps() {
            let _ = writeln!(text, "  do: {help}");
        }
    }
    let passed = findings.iter().filter(|finding| failed(finding).is_none()).count();
    let (errors, warnings) = (count(findings, Severity::Error), count(findings, Severity::Warning));
    let rest = match (errors, warnings) {
        (0, 0) => String::new(),
        (errors, 0) => format!("; {}", counted(errors, "error")),
        (0, warnings) => format!("; {}", counted(warnings, "warning")),
        (errors, warnings) => format!("; {}, {}", counted(errors, "error"), counted(warnings, "warning")),
    };
    let _ = writeln!(text, "{} passed{rest}", counted(passed, "check"));
    text
}

fn value(findings: &[Finding], fixed: &[String]) -> Value {
    let check = |finding: &Finding| {
        let row = finding.check.id.row();
        let Some(error) = failed(finding) else { return json!({"id": row.id, "result": "ok"}) };
        let problems: Vec<Value> = error
            .problems()
            .iter()
            .map(|problem| json!({"place": problem.place, "message": problem.message}))
            .collect();
        json!({
            "id": row.id,
            "result": row.severity.as_str(),
            "message": error.message(),
            "cause": error.cause(),
            "problems": problems,
            "help": finding.helps(),
            "command": finding.command(),
            "fix": finding.fix.as_ref().map(Fix::describe),
        })
    };
    json!({
        "checks": findings.iter().map(check).collect::<Vec<_>>(),
        "errors": count(findings, Severity::Error),
        "warnings": count(findings, Severity::Warning),
        "notes": count(findings, Severity::Note),
        "fixed": fixed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Problem;
    use crate::host::check::{Check, odd};

    #[test]
    fn each_problem_has_its_cause_and_its_command() {
        let problem = Problem { place: "c.yaml:3:1".to_owned(), message: "is gone".to_owned(), snippet: None };
        let missing = Error::new(Code::ConfigInvalid, "a path").with_problems(vec![problem]);
        let findings: Vec<Finding> = [
            Check::new(Id::DiskFull, Ok(())),
            Check::unless(Id::NoForwarding, odd("it ends here", "run `sudo sysctl a=1` now").because("it is off")),
            Check::unless(Id::MountMissing, missing),
        ]
        .map(Finding::from)
        .into();
        assert_eq!(
            text(&findings),
            "warning no-forwarding: it ends here: it is off\n  do: run `sudo sysctl a=1` now\nerror mount-missing: a path\n  \
             at c.yaml:3:1: is gone\n  do: make the directory, or correct the path\n1 check passed; 1 error, 1 warning\n"
        );
        let value = value(&findings, &[]);
        assert_eq!(value["checks"][0], json!({"id": "disk-full", "result": "ok"}));
        assert_eq!(value["checks"][1]["command"], "sudo sysctl a=1");
        assert_eq!(value["checks"][2]["command"], Value::Null);
        assert_eq!((&value["errors"], &value["warnings"]), (&json!(1), &json!(1)));
        assert_eq!(text(&findings[..1]), "1 check passed\n");
    }
}
