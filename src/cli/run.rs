//! `coracle run`: a cluster for one command.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cli::ci::{CiOptions, Steps};
use crate::cli::command;
use crate::cli::context::Context;
use crate::cli::create::{self, ClusterOptions};
use crate::cli::kubectl;
use crate::cli::options::{duration, parse_name};
use crate::cluster::lifecycle::create::{Options, create};
use crate::cluster::lifecycle::delete::{self, Scope};
use crate::cluster::logs::export_logs;
use crate::cluster::{self, found::Cluster};
use crate::config::{ClusterConfig, Durability, Overrides};
use crate::engine::SharedEngine;
use crate::engine::finishing::interrupted;
use crate::error::{Code, Error, Result};
use crate::host;
use crate::kubeconfig::Location;

/// How long a command may take to end after a signal; a runner that gives up on its job waits little longer.
const GRACE: Duration = Duration::from_secs(5);
/// What shells add to the number of the signal that ended a command.
const BY_SIGNAL: i32 = 128;
/// The exit code of what no code is known of.
const UNKNOWN: u8 = 1;

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    cluster: ClusterOptions,
    /// Name of the cluster [default: `run-` and a random suffix]
    #[arg(long, short, value_name = "NAME")]
    name: Option<String>,
    /// Load this image from the local engine; may be repeated
    #[arg(long, value_name = "IMAGE")]
    load: Vec<String>,
    /// Apply this file or directory of manifests and wait for its workloads; may be repeated
    #[arg(long, value_name = "FILE")]
    apply: Vec<PathBuf>,
    /// How long to wait until the cluster is usable, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    wait: Duration,
    /// Maximum lifetime of the cluster, in case this command is killed and cannot delete it
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    ttl: String,
    /// Write the logs of the nodes to this directory if the command or the cluster fails
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    #[command(flatten)]
    ci: CiOptions,
    /// Command to run, with its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl command::Run for Run {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        // What can never succeed is told before a cluster is made for it.
        let program = self.command.first().map(OsString::as_os_str).unwrap_or_default();
        require_program(program, std::env::var_os("PATH").as_deref())?;
        let steps = Steps::new(&self.ci, |name| std::env::var(name).ok())?;
        let directory = tempfile::tempdir().map_err(|source| {
            Error::new(Code::FileFailed, "cannot create a temporary directory").with_cause(&source)
        })?;
        let kubeconfig = directory.path().join("kubeconfig");
        let (cluster, written) = self.cluster.read(context, self.overrides()?).await?;
        let (engine, options) =
            create::prepare(context, &cluster, Location::new(Some(&kubeconfig), None, None)?).await?;
        let options = Options { wait: self.wait, logs: self.logs.clone(), written, ..options };
        // It has an end of its own for an interruption: the cluster is removed, whatever happens.
        context.clean_up_after(Box::pin(self.within(context, &engine, cluster, &options, steps, &kubeconfig))).await
    }
}

impl Run {
    fn overrides(&self) -> Result<Overrides> {
        let absolute = |path: &PathBuf| {
            let broken = |source: std::io::Error| {
                Error::new(Code::FileFailed, format!("cannot find `{}`", path.display())).with_cause(&source)
            };
            std::path::absolute(path).map(|path| path.display().to_string()).map_err(broken)
        };
        let generated = self.cluster.generated_name(self.name.is_some())?;
        let name = match generated.or_else(|| self.name.clone()) {
            Some(name) => parse_name(&name)?.to_string(),
            None => create::name_from("run"),
        };
        Ok(Overrides {
            name: Some(name),
            ttl: Some(self.ttl.clone()),
            images: self.load.clone(),
            manifests: self.apply.iter().map(absolute).collect::<Result<_>>()?,
            // No one will miss what is in a cluster that ends with its command.
            usual_durability: Some(Durability::Ephemeral),
            ..Overrides::default()
        })
    }

    /// Creates the cluster, runs the command and removes the cluster.
    async fn within(
        &self,
        context: &Context,
        engine: &SharedEngine,
        config: ClusterConfig,
        options: &Options,
        mut steps: Steps,
        kubeconfig: &Path,
    ) -> Result<ExitCode> {
        let (ui, name) = (&context.ui, config.name.clone());
        steps.begin(ui, format!("Create cluster `{name}`"), true);
        ui.note(format!("Creating cluster `{name}`"));
        let created = create(engine, config, options, ui, &context.stop).await;
        steps.end(ui, created.as_ref().err().map(ToString::to_string));
        if let Err(error) = created {
            steps.write(ui);
            return Err(error);
        }
        let command: Vec<_> = self.command.iter().map(|word| word.to_string_lossy()).collect();
        steps.begin(ui, format!("Run `{}`", command.join(" ")), false);
        let cluster = cluster::get(&**engine, &name).await;
        let ended = self.work(context, engine, &cluster, kubeconfig).await;
        steps.end(ui, failure(&ended));
        steps.begin(ui, format!("Delete cluster `{name}`"), true);
        let step = ui.step(format!("Deleting cluster `{name}`"));
        let deleted = delete::delete(engine, &Scope::Cluster(name.clone())).await;
        ui.warn_of(host::kubectl::remove_kubeconfig(name.as_str()));
        if deleted.is_ok() {
            step.finish();
        }
        steps.end(ui, deleted.as_ref().err().map(ToString::to_string));
        steps.write(ui);
        match deleted {
            // The command's own failure counts more.
            Err(error) if failure(&ended).is_some() => ui.error(&error),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        ended.map(ExitCode::from)
    }

    /// Runs the command, and keeps the logs if it fails.
    async fn work(
        &self,
        context: &Context,
        engine: &SharedEngine,
        cluster: &Result<Cluster>,
        kubeconfig: &Path,
    ) -> Result<u8> {
        let cluster = cluster.as_ref().map_err(Clone::clone)?;
        let mut child = self.start(context, engine, cluster, kubeconfig).await?;
        let status = tokio::select! {
            status = child.wait() => status,
            () = context.stop.cancelled() => end(&mut child).await,
        };
        let status =
            status.map_err(|source| Error::new(Code::StepFailed, "cannot wait for the command").with_cause(&source))?;
        if let Some(directory) = self.logs.as_deref().filter(|_| !status.success()) {
            match export_logs(&**engine, cluster, directory).await {
                Ok(_) => context.ui.note(format!("The logs of the nodes are in {}", directory.display())),
                Err(error) => context.ui.error(&error),
            }
        }
        if context.stop.is_cancelled() { Err(interrupted()) } else { Ok(exit_code(status)) }
    }

    async fn start(
        &self,
        context: &Context,
        engine: &SharedEngine,
        cluster: &Cluster,
        kubeconfig: &Path,
    ) -> Result<Child> {
        let (program, arguments) = self.command.split_first().ok_or_else(interrupted)?;
        let path = std::env::var_os("PATH");
        let mut command = Command::new(program);
        command.args(arguments).env("KUBECONFIG", kubeconfig).env("CORACLE_CLUSTER_NAME", cluster.name.as_str());
        if found("kubectl".as_ref(), path.as_deref()).is_none() {
            command.env("PATH", kubectl::path_with(path.as_deref(), &**engine, cluster, context).await?);
        }
        command.kill_on_drop(true).spawn().map_err(|source| {
            Error::new(Code::UsageInvalid, format!("cannot run `{}`", program.display())).with_cause(&source)
        })
    }
}

/// Why a command failed, if it did.
fn failure(ended: &Result<u8>) -> Option<String> {
    match ended {
        Ok(0) => None,
        Ok(code) => Some(format!("the command ended with exit code {code}")),
        Err(error) => Some(error.to_string()),
    }
}

/// Ends a command, with force if it does not end by itself.
async fn end(child: &mut Child) -> std::io::Result<ExitStatus> {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) {
        // It may have ended just now.
        let _ = kill_process(pid, Signal::TERM);
    }
    if let Ok(status) = timeout(GRACE, child.wait()).await {
        return status;
    }
    child.start_kill()?;
    child.wait().await
}

/// The exit code of a command, as a shell has it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| BY_SIGNAL + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(UNKNOWN)
}

/// Fails if there is no such program.
fn require_program(program: &OsStr, path: Option<&OsStr>) -> Result<()> {
    if found(program, path).is_some() {
        return Ok(());
    }
    let name = program.display();
    Err(Error::new(Code::UsageInvalid, format!("there is no program `{name}`"))
        .hint("write the command after `--`; for shell built-ins, use `-- sh -c 'COMMANDS'`"))
}

/// Where a program is, as a shell looks for it.
fn found(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if program.is_empty() {
        return None;
    }
    if Path::new(program).components().count() > 1 || program.as_encoded_bytes().starts_with(b"/") {
        return Some(PathBuf::from(program)).filter(is_program);
    }
    std::env::split_paths(path?).map(|directory| directory.join(program)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        let path = Some(OsStr::new("/nowhere:/bin:/usr/bin"));
        assert!(found("sh".as_ref(), path).is_some() && found("/bin/sh".as_ref(), None).is_some());
        for missing in ["", "/bin", "/nowhere/sh", "./sh", "there-is-no-such-program"] {
            assert_eq!(found(missing.as_ref(), path), None, "{missing}");
        }
        let error = require_program("kubectl get".as_ref(), path).unwrap_err();
        assert_eq!(error.code(), Code::UsageInvalid);
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
    }
}
