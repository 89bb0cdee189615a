//! `coracle delete`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::command::{Run, commands};
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::expired;
use crate::cli::options::{KubeconfigOption, PositionalName, parse_name};
use crate::cluster;
use crate::cluster::leads::{self, Leads};
use crate::cluster::lifecycle::delete::{self, Scope};
use crate::config::ClusterName;
use crate::engine::{SharedEngine, helper};
use crate::error::{Code, Error, Result};
use crate::host;
use crate::kubeconfig::{self, Foreign, Location};

commands! {
    pub(crate) enum Delete {
        /// Delete a cluster: its containers, volumes, network and kubeconfig entries
        Cluster(DeleteCluster),
        /// Delete several clusters
        Clusters(DeleteClusters),
    }
}

#[derive(Debug, Args)]
pub(crate) struct DeleteCluster {
    #[command(flatten)]
    name: PositionalName,
    /// Delete every cluster, as `delete clusters --all`
    #[arg(long, short = 'A')]
    all: bool,
    #[command(flatten)]
    kubeconfig: KubeconfigOption,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteClusters {
    /// Names of clusters
    #[arg(value_name = "NAME", add = complete::clusters())]
    names: Vec<String>,
    /// Delete every cluster
    #[arg(long, short = 'A', conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    kubeconfig: KubeconfigOption,
}

impl Run for DeleteCluster {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        if self.all {
            if self.name.is_typed() {
                return Err(Error::new(Code::UsageInvalid, "`--all` cannot be combined with a name")
                    .hint("omit `--all` to delete one cluster"));
            }
            return DeleteClusters { names: Vec::new(), all: true, kubeconfig: self.kubeconfig }.run(context).await;
        }
        let name = self.name.get()?;
        let location = self.kubeconfig.location()?;
        let (engine, _) = context.engine().await?;
        delete(context, &engine, &name, &location).await?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Run for DeleteClusters {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        if self.names.is_empty() && !self.all {
            return Err(Error::new(Code::UsageInvalid, "no cluster name given").hint("name clusters, or use `--all`"));
        }
        let mut names = self.names.iter().map(|name| parse_name(name)).collect::<Result<Vec<_>>>()?;
        let location = self.kubeconfig.location()?;
        let (engine, _) = context.engine().await?;
        if self.all {
            names = delete::names(&engine).await?.into_iter().collect();
            if names.is_empty() {
                context.ui.note("There is no cluster, so nothing was deleted");
            }
        }
        helper::sweep_all(&*engine).await;
        let mut first = Ok(ExitCode::SUCCESS);
        for name in names {
            // A failure does not keep the other clusters from being deleted.
            let result = delete(context, &engine, &name, &location).await;
            if let (Ok(_), Err(error)) = (&first, result) {
                first = Err(error);
            }
        }
        first
    }
}

async fn delete(context: &Context, engine: &SharedEngine, name: &ClusterName, location: &Location) -> Result<()> {
    let scope = Scope::Cluster(name.clone());
    if delete::is_absent(engine, &scope).await? {
        let entry = remove_entry(context, name, None, location).await?;
        let also = if entry { "; its entry in the kubeconfig is removed" } else { ", so nothing was deleted" };
        context.ui.note(format!("There is no cluster `{name}`{also}"));
        return Ok(());
    }
    let step = context.ui.step(format!("Deleting cluster `{name}`"));
    let leads = leads::find(&**engine, name).await;
    let removed = delete::delete(engine, &scope).await;
    // An entry leads nowhere once the containers are gone, also if a volume could not be removed.
    if removed.is_ok() || cluster::get(&**engine, name).await.is_err_and(|error| error.code() == Code::ClusterNotFound)
    {
        let forgotten = remove_entry(context, name, leads.as_ref(), location).await;
        removed.as_ref().map_err(Clone::clone)?;
        forgotten?;
    }
    let removed = removed?;
    step.finish();
    for container in &removed.disconnected {
        context.ui.note(format!(
            "`{container}` was connected to the cluster's network, which no longer exists; the container itself is unchanged"
        ));
    }
    Ok(())
}

/// Removes what leads to a cluster; returns whether the kubeconfig had an entry.
async fn remove_entry(
    context: &Context,
    name: &ClusterName,
    leads: Option<&Leads>,
    location: &Location,
) -> Result<bool> {
    context.ui.warn_of(host::kubectl::remove_kubeconfig(name.as_str()));
    let entry = kubeconfig::remove(location, &name.context()).await?;
    if let Some(Foreign { file, sign }) = kubeconfig::foreign(location, &name.context()) {
        let (file, entry) = (file.display(), name.context());
        context.ui.note(format!("The entry `{entry}` in `{file}` stays, because coracle did not make it: {sign}"));
    }
    expired::clear(&context.ui, name, leads).await;
    Ok(entry)
}
