//! `coracle delete`.

use clap::{Args, Subcommand};

use crate::cli::Context;
use crate::cli::options::{KubeconfigOption, NameOption, parse_name};
use crate::cluster;
use crate::cluster::lifecycle::delete::{Scope, remove};
use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::error::{Code, Error, Result};
use crate::kubeconfig::{self, Location};

#[derive(Debug, Subcommand)]
pub(crate) enum Delete {
    /// Delete a cluster: containers, volumes, network and kubeconfig entries
    Cluster(DeleteCluster),
    /// Delete several clusters
    Clusters(DeleteClusters),
}

#[derive(Debug, Args)]
pub(crate) struct DeleteCluster {
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    kubeconfig: KubeconfigOption,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteClusters {
    /// Names of clusters
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Delete every cluster
    #[arg(long, short = 'A', conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    kubeconfig: KubeconfigOption,
}

pub(crate) async fn run(context: &Context, delete: Delete) -> Result<()> {
    match delete {
        Delete::Cluster(arguments) => {
            let name = arguments.name.get()?;
            let location = arguments.kubeconfig.location()?;
            let (engine, _) = context.engine().await?;
            one(context, &engine, &name, &location).await
        }
        Delete::Clusters(arguments) => several(context, &arguments).await,
    }
}

async fn several(context: &Context, arguments: &DeleteClusters) -> Result<()> {
    if arguments.names.is_empty() && !arguments.all {
        return Err(Error::new(Code::UsageInvalid, "no cluster is named").hint("name clusters, or use `--all`"));
    }
    let mut names = arguments.names.iter().map(|name| parse_name(name)).collect::<Result<Vec<_>>>()?;
    let location = arguments.kubeconfig.location()?;
    let (engine, _) = context.engine().await?;
    if arguments.all {
        let clusters = cluster::list(&*engine).await?;
        names = clusters.into_iter().map(|cluster| cluster.name).collect();
    }
    let mut first = Ok(());
    for name in names {
        // One that fails does not keep the others.
        let result = one(context, &engine, &name, &location).await;
        if first.is_ok() {
            first = result;
        }
    }
    first
}

async fn one(context: &Context, engine: &SharedEngine, name: &ClusterName, location: &Location) -> Result<()> {
    let step = context.ui.step(format!("Deleting cluster `{name}`"));
    let removed = remove(engine, &Scope::Cluster(name.clone())).await?;
    let entry = kubeconfig::remove(location, &name.context()).await?;
    step.finish();
    for container in &removed.disconnected {
        context.ui.note(format!(
            "`{container}` was connected to the cluster's network, which is gone; the container is as it was"
        ));
    }
    if removed.is_empty() && !entry {
        context.ui.note(format!("There was no cluster `{name}`"));
    }
    Ok(())
}
