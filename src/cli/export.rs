//! `coracle export`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::Context;
use crate::cli::options::{KubeconfigOption, NameOption};
use crate::cluster::{self, access};
use crate::error::{Code, Error, Result};
use crate::kubeconfig;

#[derive(Debug, Subcommand)]
pub(crate) enum Export {
    /// Write a cluster's entry into the kubeconfig and make it the current one
    Kubeconfig(ExportKubeconfig),
    /// Write the logs of all nodes into a folder
    Logs(ExportLogs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportKubeconfig {
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    kubeconfig: KubeconfigOption,
    /// With the address that other containers of the cluster's network use
    #[arg(long)]
    internal: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportLogs {
    #[command(flatten)]
    name: NameOption,
    /// Folder, made if it is not there; a new one below the temporary folder without it
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, export: Export) -> Result<()> {
    match export {
        Export::Kubeconfig(arguments) => {
            let (engine, _) = context.engine().await?;
            let cluster = cluster::find(&*engine, &arguments.name.get()?).await?;
            let entry = access::entry(&*engine, &cluster, arguments.internal).await?;
            let location = arguments.kubeconfig.location()?;
            let file = kubeconfig::merge(&location, &entry, true).await?;
            context.ui.note(format!("Context `{}` is the current one in {}", entry.name, file.display()));
            Ok(())
        }
        Export::Logs(arguments) => logs(context, &arguments).await,
    }
}

async fn logs(context: &Context, arguments: &ExportLogs) -> Result<()> {
    let (engine, _) = context.engine().await?;
    let cluster = cluster::find(&*engine, &arguments.name.get()?).await?;
    let directory = match &arguments.directory {
        Some(directory) => directory.clone(),
        None => new_folder(cluster.name.as_str())?,
    };
    let export = tokio::select! {
        export = cluster::logs::export_logs(&*engine, &cluster, &directory) => export?,
        () = context.stop.cancelled() => return Err(crate::engine::finishing::interrupted()),
    };
    for problem in &export.problems {
        context.ui.warn(problem.clone());
    }
    context.ui.note(format!("Wrote {} files, {} KiB", export.files, export.bytes >> 10));
    context.ui.data(&format!("{}\n", export.directory.display()))
}

/// A new folder below the temporary one.
fn new_folder(cluster: &str) -> Result<PathBuf> {
    let made = tempfile::Builder::new().prefix(&format!("coracle-logs-{cluster}-")).tempdir();
    made.map(tempfile::TempDir::keep).map_err(|source| {
        Error::new(Code::FileFailed, "cannot make a temporary folder")
            .cause(&source)
            .hint("name one: `coracle export logs DIR`")
    })
}
