//! `coracle load`, and what the ways to load images share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::command::{Run, commands};
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, NameOption, duration};
use crate::cli::output::size;
use crate::cluster;
use crate::cluster::found::Cluster;
use crate::cluster::rollout::{self, ImageNames};
use crate::config::ClusterName;
use crate::engine::finishing::{interrupted, run_to_end};
use crate::engine::{Engine, SharedEngine};
use crate::error::{Result, counted};
use crate::image::{self, ArchiveInput, LoadReport};
use crate::ui::{Format, Step};

commands! {
    pub(crate) enum Load {
        /// Load images from the local engine into the nodes
        DockerImage(LoadDockerImage),
        /// Load the images of an archive into the nodes
        ImageArchive(LoadImageArchive),
    }
}

#[derive(Debug, Args)]
pub(crate) struct LoadDockerImage {
    /// Images, by name or ID
    #[arg(required = true, value_name = "IMAGE", add = complete::images())]
    images: Vec<String>,
    #[command(flatten)]
    options: LoadOptions,
}

#[derive(Debug, Args)]
pub(crate) struct LoadImageArchive {
    /// Archive from `docker save` or in OCI layout, compressed or not, or a directory in OCI layout; `-` for standard input
    #[arg(value_name = "FILE")]
    archive: PathBuf,
    #[command(flatten)]
    options: LoadOptions,
}

/// Where images are loaded, and what follows.
#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    #[command(flatten)]
    name: NameOption,
    /// Load only into these nodes (comma-separated)
    #[arg(long, value_name = "NODE", value_delimiter = ',', add = complete::nodes())]
    nodes: Vec<String>,
    /// Restart workloads whose pods run a previous version of a loaded image, and wait for the new pods
    #[arg(long)]
    restart: bool,
    /// How long `--restart` waits for the new pods, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    wait: Duration,
    #[command(flatten)]
    output: JsonOption,
}

/// Where the images come from.
pub(crate) enum Origin {
    /// The engine, by name or ID.
    Engine(Vec<String>),
    /// An archive; `-` is standard input.
    Archive(PathBuf),
}

impl Run for LoadDockerImage {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        load(context, Origin::Engine(self.images), &self.options).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.options.format()
    }
}

impl Run for LoadImageArchive {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        load(context, Origin::Archive(self.archive), &self.options).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.options.format()
    }
}

impl LoadOptions {
    pub(crate) fn format(&self) -> Format {
        self.output.format()
    }

    /// The name of the cluster.
    pub(crate) fn cluster(&self) -> Result<ClusterName> {
        self.name.get()
    }

    /// The nodes that get the images.
    pub(crate) fn select(&self, cluster: &Cluster) -> Result<Vec<String>> {
        image::select_nodes(&cluster.node_names(), &self.nodes)
    }
}

/// Loads images into nodes, reports what each node got, and restarts what runs old ones.
pub(crate) async fn load(context: &Context, origin: Origin, options: &LoadOptions) -> Result<()> {
    let (engine, _) = context.engine().await?;
    let cluster = cluster::get(&*engine, &options.cluster()?).await?;
    let nodes = options.select(&cluster)?;
    let work = async |engine: SharedEngine| match origin {
        Origin::Engine(images) => {
            let step = context.ui.step(format!("Loading {}", images.join(", ")));
            let report = image::load_docker_images(&engine, &nodes, &images, &progress(&step)).await?;
            step.finish();
            Ok(report)
        }
        Origin::Archive(archive) => {
            let step = context.ui.step(format!("Loading {}", archive.display()));
            let input = if archive.as_os_str() == "-" { ArchiveInput::Stdin } else { ArchiveInput::File(archive) };
            let report = image::load_archive(&*engine, &nodes, &input, &progress(&step)).await?;
            step.finish();
            Ok(report)
        }
    };
    let loading = run_to_end(&engine, &context.stop, work);
    let report: LoadReport = context.clean_up_after(loading).await?;
    describe(context, &report);
    if context.stop.is_cancelled() && options.restart {
        return Err(interrupted()
            .hint("the images are loaded; `kubectl rollout restart` restarts workloads that run old images"));
    }
    // An interruption that came while the nodes stored the images ends the command here.
    let restarted = if context.stop.is_cancelled() {
        json!({})
    } else {
        restart(context, &*engine, &cluster, &report, options).await?
    };
    let mut result = json!({"source": report.source, "images": report.images, "nodes": report.nodes});
    if !report.passed_over.is_empty() {
        let others = report.passed_over.iter().map(|(name, kind)| json!({"name": name, "type": kind}));
        result["passedOver"] = others.collect();
    }
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

/// A line for each node: what it got and what it had.
fn describe(context: &Context, report: &LoadReport) {
    for (name, kind) in &report.passed_over {
        context.ui.note(format!("{name} is {kind} and not an image, so it was skipped"));
    }
    for node in &report.nodes {
        let mut parts = Vec::new();
        if !node.sent.is_empty() {
            let layers = counted(node.layers_sent, "layer");
            let from = match (&node.linked_from, report.source) {
                (Some(other), _) => format!(", links to those of {other}"),
                (None, Some(source)) => format!(", {}, {}", size(node.bytes), source.words()),
                (None, None) => format!(", {}", size(node.bytes)),
            };
            parts.push(format!("got {}: {layers}{from}", node.sent.join(", ")));
            if node.layers_present > 0 {
                parts.push(format!("had {} of it", counted(node.layers_present, "layer")));
            }
        }
        if !node.named.is_empty() {
            parts.push(format!("had the image, named it {}", node.named.join(", ")));
        }
        if !node.present.is_empty() {
            parts.push(format!("had {}", node.present.join(", ")));
        }
        context.ui.note(format!("{}: {}", node.node, parts.join("; ")));
    }
}

/// What the names of the images mean now.
fn meaning(report: &LoadReport) -> ImageNames {
    let names = report.images.iter().flat_map(|image| image.names.iter().map(|name| (name.clone(), image.id.clone())));
    let nodes = report.nodes.iter().map(|node| node.node.clone());
    ImageNames { nodes: nodes.collect(), names: names.collect::<BTreeMap<_, _>>() }
}

/// Restarts what runs old images if `--restart` asks for it, else hints at it. Returns fields of the result.
async fn restart(
    context: &Context,
    engine: &dyn Engine,
    cluster: &Cluster,
    report: &LoadReport,
    options: &LoadOptions,
) -> Result<Value> {
    let mut meaning = meaning(report);
    if options.restart {
        let deadline = Instant::now() + options.wait;
        let rolled = rollout::restart(engine, cluster, &meaning, deadline, &context.ui).await?;
        if rolled.workloads.is_empty() && rolled.pods.is_empty() {
            context.ui.note("No pod runs an old image, so nothing was restarted");
        }
        if !rolled.pods.is_empty() {
            let pods = rolled.pods.join(", ");
            context.ui.warn(format!("these pods run the old image and have no controller to recreate them: {pods}"));
        }
        return Ok(json!({"restarted": rolled.workloads, "notRestarted": rolled.pods}));
    }
    let moved: Vec<&String> = report.nodes.iter().flat_map(|node| &node.moved).collect();
    meaning.names.retain(|name, _| moved.contains(&name));
    meaning.nodes.retain(|node| report.nodes.iter().any(|one| one.node == *node && !one.moved.is_empty()));
    if meaning.names.is_empty() {
        return Ok(json!({}));
    }
    // Only a hint: the command has already done what it is for.
    let outdated = rollout::outdated_pods(engine, &meaning).await.unwrap_or_default();
    if outdated > 0 {
        let (run, replace) = if outdated == 1 { ("runs", "it") } else { ("run", "them") };
        let pods = counted(outdated, "pod");
        context.ui.hint(format!("{pods} still {run} the previous image; add `--restart` to replace {replace}"));
    }
    Ok(json!({"outdatedPods": outdated}))
}
