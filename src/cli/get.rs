//! `coracle get` and `coracle status`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::options::{NameOption, OutputFormat};
use crate::cli::output::{Table, structured};
use crate::cluster::found::Cluster;
use crate::cluster::health::status;
use crate::cluster::{self, access};
use crate::error::Result;
use crate::kubeconfig;

#[derive(Debug, Subcommand)]
pub(crate) enum Get {
    /// List clusters
    Clusters(Output),
    /// List nodes of a cluster
    Nodes(GetNodes),
    /// Print a kubeconfig of a cluster
    Kubeconfig(GetKubeconfig),
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// How to print
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<OutputFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct GetNodes {
    #[command(flatten)]
    name: NameOption,
    /// Nodes of all clusters
    #[arg(long, short = 'A')]
    all_clusters: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct GetKubeconfig {
    #[command(flatten)]
    name: NameOption,
    /// With the address that other containers of the cluster's network use
    #[arg(long)]
    internal: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(context: &Context, get: Get) -> Result<()> {
    let (engine, _) = context.engine().await?;
    match get {
        Get::Clusters(arguments) => {
            let clusters = cluster::list(&*engine).await?;
            if clusters.is_empty() && arguments.output.is_none() {
                context.ui.note("There are no clusters");
                return Ok(());
            }
            context.ui.data(&clusters_text(&clusters, arguments.output)?)
        }
        Get::Nodes(arguments) => {
            let clusters = if arguments.all_clusters {
                cluster::list(&*engine).await?
            } else {
                vec![cluster::find(&*engine, &arguments.name.get()?).await?]
            };
            context.ui.data(&nodes_text(&clusters, arguments.output.output)?)
        }
        Get::Kubeconfig(arguments) => {
            let cluster = cluster::find(&*engine, &arguments.name.get()?).await?;
            let entry = access::entry(&*engine, &cluster, arguments.internal).await?;
            context.ui.data(&kubeconfig::render(&entry)?)
        }
    }
}

fn running(cluster: &Cluster) -> usize {
    cluster.nodes.iter().filter(|node| node.is_running()).count()
}

fn clusters_text(clusters: &[Cluster], output: Option<OutputFormat>) -> Result<String> {
    let wide = output == Some(OutputFormat::Wide);
    let mut table = Table::new(if wide {
        &["NAME", "VERSION", "NODES", "RUNNING", "API SERVER"]
    } else {
        &["NAME", "VERSION", "NODES"]
    });
    let mut values = Vec::new();
    for cluster in clusters {
        let (count, running) = (cluster.nodes.len().to_string(), running(cluster));
        let mut row = vec![cluster.name.clone(), cluster.version().to_owned(), count];
        if wide {
            row.extend([running.to_string(), cluster.endpoint().to_owned()]);
        }
        table.row(row);
        values.push(json!({
            "name": cluster.name,
            "kubernetesVersion": cluster.version(),
            "apiServer": cluster.endpoint(),
            "nodes": cluster.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
            "running": running,
        }));
    }
    print(output, &table, values)
}

fn nodes_text(clusters: &[Cluster], output: Option<OutputFormat>) -> Result<String> {
    let wide = output == Some(OutputFormat::Wide);
    let mut table = Table::new(if wide {
        &["NAME", "ROLE", "STATE", "ADDRESS", "VERSION", "CLUSTER", "IMAGE"]
    } else {
        &["NAME", "ROLE", "STATE", "ADDRESS"]
    });
    let mut values = Vec::new();
    for cluster in clusters {
        for node in status::nodes(cluster) {
            values.push(json!({
                "name": node.name, "cluster": cluster.name, "role": node.role, "state": node.container,
                "address": node.address, "kubernetesVersion": node.version, "image": node.image,
            }));
            let mut row = vec![node.name, node.role, node.container.to_string(), node.address];
            if wide {
                row.extend([node.version, cluster.name.clone(), node.image]);
            }
            table.row(row);
        }
    }
    print(output, &table, values)
}

/// A table, names, or the values as JSON or YAML.
fn print(output: Option<OutputFormat>, table: &Table, values: Vec<Value>) -> Result<String> {
    match output {
        None | Some(OutputFormat::Wide) => Ok(table.to_string()),
        Some(OutputFormat::Name) => {
            Ok(values.iter().filter_map(|value| value["name"].as_str()).flat_map(|name| [name, "\n"]).collect())
        }
        Some(format) => structured(format, &Value::Array(values)),
    }
}

pub(crate) async fn status(context: &Context, arguments: StatusArguments) -> Result<ExitCode> {
    let (engine, _) = context.engine().await?;
    let cluster = cluster::find(&*engine, &arguments.name.get()?).await?;
    let status = status::status(&*engine, &cluster).await;
    let text = match arguments.output.output {
        Some(format @ (OutputFormat::Json | OutputFormat::Yaml)) => structured(format, &json!(status))?,
        Some(OutputFormat::Name) => format!("{}\n", status.name),
        _ => status_text(&status),
    };
    context.ui.data(&text)?;
    // As scripts expect: 0 only when everything is well.
    Ok(if status.is_healthy() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn status_text(status: &status::Status) -> String {
    let mut table = Table::new(&["NODE", "ROLE", "CONTAINER", "READY", "CAUSE"]);
    for node in &status.nodes {
        let ready = if node.ready { "yes" } else { "no" };
        let cause = node.cause.clone().unwrap_or_default();
        table.row(vec![node.name.clone(), node.role.clone(), node.container.to_string(), ready.to_owned(), cause]);
    }
    let api = if status.api_alive { "answers" } else { "does not answer" };
    format!(
        "Cluster {}, Kubernetes {}, API server {api} at {}\n\n{table}",
        status.name, status.version, status.endpoint
    )
}
