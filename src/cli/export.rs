//! `coracle export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::command::{Run, commands};
use crate::cli::context::Context;
use crate::cli::options::{InternalOption, KubeconfigOption, NameOption};
use crate::cluster::{self, access, leads};
use crate::error::{Code, Error, Result, counted};
use crate::kubeconfig;

commands! {
    pub(crate) enum Export {
        /// Add a cluster to the kubeconfig and make it the current context
        Kubeconfig(ExportKubeconfig),
        /// Write the logs of all nodes to a directory
        Logs(ExportLogs),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExportKubeconfig {
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    kubeconfig: KubeconfigOption,
    #[command(flatten)]
    address: InternalOption,
}

#[derive(Debug, Args)]
pub(crate) struct ExportLogs {
    #[command(flatten)]
    name: NameOption,
    /// Directory to write to, created if missing [default: a new temporary one]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Run for ExportKubeconfig {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let entry = access::entry(&*engine, &cluster, self.address.internal).await?;
        let location = self.kubeconfig.location()?;
        // First, so that the entry is found again even if this is interrupted.
        if let Err(error) = leads::note(&*engine, &cluster, &location).await {
            context.ui.warn(format!("`delete cluster` will not find this kubeconfig: {error}"));
        }
        let file = kubeconfig::merge(&location, &entry, true).await?;
        context.ui.note(format!("Context `{}` is the current one in {}", entry.name, file.display()));
        Ok(ExitCode::SUCCESS)
    }
}

impl Run for ExportLogs {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let directory = match self.directory {
            Some(directory) => directory,
            None => new_directory(cluster.name.as_str())?,
        };
        let export = cluster::logs::export_logs(&*engine, &cluster, &directory).await?;
        for problem in &export.problems {
            context.ui.warn(problem);
        }
        context.ui.note(format!("Wrote {}, {} KiB", counted(export.files, "file"), export.bytes >> 10));
        context.ui.data(&export.directory.display().to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A new directory below the temporary one.
fn new_directory(cluster: &str) -> Result<PathBuf> {
    let made = tempfile::Builder::new().prefix(&format!("coracle-logs-{cluster}-")).tempdir();
    made.map(tempfile::TempDir::keep).map_err(|source| {
        Error::new(Code::FileFailed, "cannot create a temporary directory")
            .with_cause(&source)
            .hint("name one: `coracle export logs DIR`")
    })
}
