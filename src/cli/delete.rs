//! `coracle delete`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::command::{Run, commands};
use crate::cli::context::Context;
use crate::cli::options::{KubeconfigOption, PositionalName, parse_name};
use crate::cluster;
use crate::cluster::lifecycle::delete::{self, Scope};
use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::error::{Code, Error, Result};
use crate::kubeconfig::{self, Location};

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
    #[arg(value_name = "NAME")]
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
                return Err(Error::new(Code::UsageInvalid, "`--all` and a name are given")
                    .hint("leave out `--all` to delete one cluster"));
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
            return Err(Error::new(Code::UsageInvalid, "no cluster is named").hint("name clusters, or use `--all`"));
        }
        let mut names = self.names.iter().map(|name| parse_name(name)).collect::<Result<Vec<_>>>()?;
        let location = self.kubeconfig.location()?;
        let (engine, _) = context.engine().await?;
        if self.all {
            let clusters = cluster::list(&*engine).await?;
            names = clusters.into_iter().map(|cluster| cluster.name).collect();
        }
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
    let step = context.ui.step(format!("Deleting cluster `{name}`"));
    let removed = delete::delete(engine, &Scope::Cluster(name.clone())).await?;
    let entry = kubeconfig::remove(location, &name.context()).await?;
    step.finish();
    for container in &removed.disconnected {
        context.ui.note(format!(
            "`{container}` was connected to the cluster's network, which no longer exists; the container itself is unchanged"
        ));
    }
    if removed.is_empty() && !entry {
        context.ui.note(format!("Cluster `{name}` did not exist"));
    }
    Ok(())
}
