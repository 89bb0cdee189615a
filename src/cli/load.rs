//! `coracle load`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Context;
use crate::cli::options::{JsonOption, NameOption};
use crate::cli::output::size;
use crate::cli::restart::{self, RestartOption};
use crate::cluster;
use crate::cluster::found::Cluster;
use crate::config::ClusterName;
use crate::error::Result;
use crate::image::{self, ArchiveInput, LoadReport};
use crate::ui::Step;

#[derive(Debug, Subcommand)]
pub(crate) enum Load {
    /// Load images of the local engine into the nodes
    DockerImage(LoadDockerImage),
    /// Load images of an archive into the nodes
    ImageArchive(LoadImageArchive),
}

#[derive(Debug, Args)]
pub(crate) struct Target {
    #[command(flatten)]
    name: NameOption,
    /// Only into these nodes
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    nodes: Vec<String>,
    #[command(flatten)]
    restart: RestartOption,
    #[command(flatten)]
    output: JsonOption,
}

impl Target {
    pub(crate) fn is_json(&self) -> bool {
        self.output.is_json()
    }

    /// The name of the cluster.
    pub(crate) fn cluster(&self) -> Result<ClusterName> {
        self.name.get()
    }

    /// The nodes that are meant.
    pub(crate) fn select(&self, cluster: &Cluster) -> Result<Vec<String>> {
        image::select_nodes(&cluster.node_names(), &self.nodes)
    }
}

#[derive(Debug, Args)]
pub(crate) struct LoadDockerImage {
    /// Images, by name or ID
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct LoadImageArchive {
    /// Archive of `docker save` or of OCI's layout, also compressed, or a directory in OCI's layout; `-` for standard input
    #[arg(value_name = "FILE")]
    archive: PathBuf,
    #[command(flatten)]
    target: Target,
}

impl Load {
    /// Loads images of the engine.
    pub(crate) fn docker_images(images: Vec<String>, target: Target) -> Self {
        Self::DockerImage(LoadDockerImage { images, target })
    }

    /// Loads an archive.
    pub(crate) fn archive(archive: PathBuf, target: Target) -> Self {
        Self::ImageArchive(LoadImageArchive { archive, target })
    }

    pub(crate) fn is_json(&self) -> bool {
        match self {
            Self::DockerImage(arguments) => arguments.target.is_json(),
            Self::ImageArchive(arguments) => arguments.target.is_json(),
        }
    }
}

pub(crate) async fn run(context: &Context, load: Load) -> Result<()> {
    let target = match &load {
        Load::DockerImage(arguments) => &arguments.target,
        Load::ImageArchive(arguments) => &arguments.target,
    };
    let (engine, _) = context.engine().await?;
    let cluster = cluster::find(&*engine, &target.cluster()?).await?;
    let nodes = target.select(&cluster)?;
    let work = async {
        match &load {
            Load::DockerImage(arguments) => {
                let step = context.ui.step(format!("Loading {}", arguments.images.join(", ")));
                let report = image::load_docker_images(&engine, &nodes, &arguments.images, &progress(&step)).await?;
                step.finish();
                Ok::<LoadReport, crate::error::Error>(report)
            }
            Load::ImageArchive(arguments) => {
                let step = context.ui.step(format!("Loading {}", arguments.archive.display()));
                let stdin = arguments.archive.as_os_str() == "-";
                let input = if stdin { ArchiveInput::Stdin } else { ArchiveInput::File(arguments.archive.clone()) };
                let report = image::load_archive(&*engine, &nodes, &input, &progress(&step)).await?;
                step.finish();
                Ok(report)
            }
        }
    };
    let report = tokio::select! {
        report = work => report,
        () = context.stop.cancelled() => Err(crate::engine::finishing::interrupted()),
    };
    crate::engine::helper::settle().await;
    let report = report?;
    tell(context, &report);
    let rest = restart::after_load(context, &*engine, &cluster, &report, &target.restart);
    let restarted = tokio::select! {
        restarted = rest => restarted?,
        () = context.stop.cancelled() => return Err(crate::engine::finishing::interrupted()),
    };
    let mut result = json!({"source": report.source, "images": report.images, "nodes": report.nodes});
    if let (Some(result), Some(more)) = (result.as_object_mut(), restarted.as_object()) {
        result.extend(more.clone());
    }
    context.ui.result(&result);
    Ok(())
}

fn progress(step: &Step) -> impl Fn(&str, u64, u64) + Send + Sync + '_ {
    move |node, done, total| {
        step.detail(node, &format!("{} of {} MiB", done >> 20, total >> 20));
        step.bytes(done, total);
    }
}

fn tell(context: &Context, report: &LoadReport) {
    for node in &report.nodes {
        let mut said = Vec::new();
        if !node.sent.is_empty() {
            let layers =
                if node.layers_sent == 1 { "1 layer".to_owned() } else { format!("{} layers", node.layers_sent) };
            let mut got = format!("got {}: {layers}, {}", node.sent.join(", "), size(node.bytes));
            if let Some(source) = report.source {
                got = format!("{got}, {}", source.words());
            }
            said.push(got);
            match node.layers_present {
                0 => {}
                1 => said.push("had 1 layer of it".to_owned()),
                count => said.push(format!("had {count} layers of it")),
            }
        }
        if !node.named.is_empty() {
            said.push(format!("had the image, named it {}", node.named.join(", ")));
        }
        if !node.present.is_empty() {
            said.push(format!("had {}", node.present.join(", ")));
        }
        context.ui.note(format!("{}: {}", node.node, said.join("; ")));
    }
}
