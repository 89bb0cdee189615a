//! `coracle get`.

use std::process::ExitCode;

use clap::Args;
use futures_util::future::join_all;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::cli::age;
use crate::cli::command::{Run, commands};
use crate::cli::context::Context;
use crate::cli::options::{InternalOption, NameOption};
use crate::cli::output::{self, Printed, Table, WideTableOption};
use crate::cli::port::List;
use crate::cluster::found::Cluster;
use crate::cluster::health::status;
use crate::cluster::lifecycle::lifetime::{self, Limit};
use crate::cluster::{self, access};
use crate::error::Result;
use crate::kubeconfig;
use crate::yaml;

commands! {
    pub(crate) enum Get {
        /// List clusters
        Clusters(GetClusters),
        /// List the nodes of a cluster
        Nodes(GetNodes),
        /// List the ports of this host that lead into a cluster
        Ports(List),
        /// Print the kubeconfig of a cluster
        Kubeconfig(GetKubeconfig),
        /// Print the configuration of a cluster, with the nodes that it has now
        Config(GetConfig),
    }
}

#[derive(Debug, Args)]
pub(crate) struct GetClusters {
    #[command(flatten)]
    output: WideTableOption,
}

#[derive(Debug, Args)]
pub(crate) struct GetNodes {
    #[command(flatten)]
    name: NameOption,
    /// List the nodes of all clusters
    #[arg(long, short = 'A')]
    all_clusters: bool,
    #[command(flatten)]
    output: WideTableOption,
}

#[derive(Debug, Args)]
pub(crate) struct GetKubeconfig {
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    address: InternalOption,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  coracle get config --name dev >dev.yaml
  coracle create cluster --name other --config dev.yaml")]
pub(crate) struct GetConfig {
    #[command(flatten)]
    name: NameOption,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", value_parser = ["yaml", "json"], default_value = "yaml")]
    output: String,
}

impl Run for GetClusters {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let clusters = cluster::list(&*engine).await?;
        let clusters = join_all(clusters.into_iter().map(async |cluster| {
            let limit = lifetime::limit(&*engine, &cluster).await;
            (cluster, limit)
        }))
        .await;
        let nothing = context.nothing.as_deref().or(self.output.output.is_none().then_some("There are no clusters"));
        if let Some(nothing) = nothing.filter(|_| clusters.is_empty()) {
            context.ui.note(nothing);
            return Ok(ExitCode::SUCCESS);
        }
        let printed = Printed {
            value: clusters.iter().map(|(cluster, limit)| cluster_value(cluster, limit)).collect(),
            names: clusters.iter().map(|(cluster, _)| cluster.name.as_str()).collect(),
            text: &|wide| clusters_table(&clusters, wide).to_string(),
        };
        context.ui.data(&printed.render(self.output.output)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Run for GetNodes {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let clusters = if self.all_clusters {
            cluster::list(&*engine).await?
        } else {
            vec![cluster::get(&*engine, &self.name.get()?).await?]
        };
        let nodes: Vec<(&Cluster, status::NodeStatus)> = clusters
            .iter()
            .flat_map(|cluster| {
                // As with kind, the load balancer is listed after the nodes.
                let parts = status::nodes(cluster).into_iter().chain(status::balancer(cluster));
                parts.map(move |part| (cluster, part))
            })
            .collect();
        if let Some(nothing) = context.nothing.as_deref().filter(|_| nodes.is_empty()) {
            context.ui.note(nothing);
        }
        let printed = Printed {
            value: nodes.iter().map(|(cluster, node)| node_value(cluster, node)).collect(),
            names: nodes.iter().map(|(_, node)| node.name.as_str()).collect(),
            text: &|wide| nodes_table(&nodes, wide).to_string(),
        };
        context.ui.data(&printed.render(self.output.output)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Run for GetKubeconfig {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let entry = access::entry(&*engine, &cluster, self.address.internal).await?;
        context.ui.data(&kubeconfig::render(&entry)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Run for GetConfig {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::get(&*engine, &self.name.get()?).await?;
        let value = cluster.require_configuration(&*engine).await?.effective()?;
        let text = if self.output == "json" { output::json(&value)? } else { yaml::to_string(&value)? };
        context.ui.data(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn running(cluster: &Cluster) -> usize {
    cluster.nodes.iter().filter(|node| node.is_running()).count()
}

fn cluster_value(cluster: &Cluster, limit: &Limit) -> Value {
    json!({
        "name": cluster.name,
        "kubernetesVersion": cluster.version.as_deref().unwrap_or_default(),
        "apiServer": cluster.endpoint.as_deref().unwrap_or_default(),
        "nodes": cluster.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
        "running": running(cluster),
        "state": cluster.state(),
        "created": cluster.created().and_then(age::moment),
        "expires": age::expires(limit),
        "idleStop": cluster.idle_stop,
    })
}

fn clusters_table(clusters: &[(Cluster, Limit)], wide: bool) -> Table {
    let mut titles = vec!["NAME", "VERSION", "NODES", "STATE", "AGE", "EXPIRES"];
    if wide {
        titles.extend(["RUNNING", "IDLE STOP", "API SERVER"]);
    }
    let mut table = Table::new(&titles);
    let now = OffsetDateTime::now_utc();
    for (cluster, limit) in clusters {
        let version = cluster.version.clone().unwrap_or_default();
        let mut row = vec![cluster.name.to_string(), version, cluster.nodes.len().to_string()];
        row.extend([cluster.state().to_string(), age::of(cluster.created(), now), age::left(limit, now)]);
        if wide {
            let endpoint = cluster.endpoint.clone().unwrap_or_default();
            row.extend([running(cluster).to_string(), cluster.idle_stop.clone().unwrap_or_default(), endpoint]);
        }
        table.row(row);
    }
    table
}

fn node_value(cluster: &Cluster, node: &status::NodeStatus) -> Value {
    json!({
        "name": node.name, "cluster": cluster.name, "role": node.role, "state": node.container,
        "address": node.address, "kubernetesVersion": node.version, "image": node.image,
    })
}

fn nodes_table(nodes: &[(&Cluster, status::NodeStatus)], wide: bool) -> Table {
    let titles: &[&str] = if wide {
        &["NAME", "ROLE", "STATE", "ADDRESS", "VERSION", "CLUSTER", "IMAGE"]
    } else {
        &["NAME", "ROLE", "STATE", "ADDRESS"]
    };
    let mut table = Table::new(titles);
    for (cluster, node) in nodes {
        let mut row = vec![node.name.clone(), node.role.clone(), node.container.to_string(), node.address.clone()];
        if wide {
            row.extend([node.version.clone(), cluster.name.to_string(), node.image.clone()]);
        }
        table.row(row);
    }
    table
}
