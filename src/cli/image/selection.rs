//! Which nodes of which cluster a command is about.

use clap::Args;

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::options::NameOption;
use crate::cluster;
use crate::cluster::found::Cluster;
use crate::engine::SharedEngine;
use crate::error::Result;
use crate::image;

/// The cluster, and some of its nodes or all.
#[derive(Debug, Args)]
pub(super) struct NodesOption {
    #[command(flatten)]
    name: NameOption,
    /// Limit the command to these nodes (comma-separated)
    #[arg(long, alias = "node", value_name = "NODE", value_delimiter = ',', add = complete::nodes())]
    nodes: Vec<String>,
}

/// A cluster, its running nodes, and those that were selected.
pub(super) struct Selection {
    pub(super) engine: SharedEngine,
    pub(super) cluster: Cluster,
    pub(super) running: Vec<String>,
    pub(super) nodes: Vec<String>,
}

impl NodesOption {
    /// Finds the cluster and its nodes; without `--nodes` those that run, with a warning about the others.
    pub(super) async fn select(&self, context: &Context) -> Result<Selection> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let running = cluster.nodes.iter().filter(|node| node.is_running());
        let running: Vec<String> = running.map(|node| node.name.clone()).collect();
        let nodes = if self.nodes.is_empty() {
            context.warn_of_stopped(&cluster);
            running.clone()
        } else {
            image::select_nodes(&cluster.node_names(), &self.nodes)?
        };
        Ok(Selection { engine, cluster, running, nodes })
    }
}
