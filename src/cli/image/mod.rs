//! `coracle image`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Context;
mod build;

use self::build::BuildImage;
use crate::cli::load::{self, Load};
use crate::cli::options::{JsonOption, NameOption, OutputFormat};
use crate::cli::output::{Table, size, structured};
use crate::cluster::found::Cluster;
use crate::cluster::{self, rollout};
use crate::engine::SharedEngine;
use crate::error::{Code, Error, Result};
use crate::image::{self, ImageRemoval, Listed, Reference};

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// List the images that the nodes have
    #[command(visible_alias = "list")]
    Ls(ListImages),
    /// Load images of the local engine, or of archives, into the nodes
    #[command(visible_alias = "import")]
    Load(LoadImages),
    /// Build an image in the local engine and load it into the nodes
    Build(BuildImage),
    /// Pull images into the nodes, with the cluster's own mirrors and credentials
    Pull(PullImages),
    /// Give an image another name in the nodes
    Tag(TagImage),
    /// Remove images from the nodes
    #[command(visible_aliases = ["remove", "unload"])]
    Rm(RemoveImages),
    /// Remove the images that nothing uses from the nodes
    Prune(PruneImages),
}

#[derive(Debug, Args)]
pub(crate) struct Nodes {
    #[command(flatten)]
    name: NameOption,
    /// Only in these nodes
    #[arg(long, alias = "node", value_name = "NODE", value_delimiter = ',')]
    nodes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListImages {
    #[command(flatten)]
    nodes: Nodes,
    /// Also those that the node image brought
    #[arg(long, short)]
    all: bool,
    /// How to print
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<OutputFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct LoadImages {
    /// Images, by name or ID, or archives; `-` for an archive on standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    target: load::Target,
}

#[derive(Debug, Args)]
pub(crate) struct PullImages {
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    nodes: Nodes,
    #[command(flatten)]
    output: JsonOption,
}

#[derive(Debug, Args)]
pub(crate) struct TagImage {
    /// The image, by name or ID
    source: String,
    /// The name it gets
    target: String,
    #[command(flatten)]
    nodes: Nodes,
    #[command(flatten)]
    output: JsonOption,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveImages {
    /// Images, by name or ID
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    nodes: Nodes,
    /// Also images that pods use
    #[arg(long, short)]
    force: bool,
    #[command(flatten)]
    output: JsonOption,
}

#[derive(Debug, Args)]
pub(crate) struct PruneImages {
    #[command(flatten)]
    nodes: Nodes,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: JsonOption,
}

impl Image {
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Self::Ls(_) => false,
            Self::Load(arguments) => arguments.target.is_json(),
            Self::Build(arguments) => arguments.into.is_json(),
            Self::Pull(arguments) => arguments.output.is_json(),
            Self::Tag(arguments) => arguments.output.is_json(),
            Self::Rm(arguments) => arguments.output.is_json(),
            Self::Prune(arguments) => arguments.output.is_json(),
        }
    }

    /// It makes things that it removes when it is interrupted.
    pub(crate) fn cleans_up(&self) -> bool {
        matches!(self, Self::Load(_) | Self::Build(_))
    }
}

pub(crate) async fn run(context: &Context, command: Image) -> Result<()> {
    match command {
        Image::Ls(arguments) => list(context, &arguments).await,
        Image::Load(arguments) => load_images(context, arguments).await,
        Image::Build(arguments) => build::run(context, arguments).await,
        Image::Pull(arguments) => pull(context, &arguments).await,
        Image::Tag(arguments) => tag(context, &arguments).await,
        Image::Rm(arguments) => remove(context, &arguments).await,
        Image::Prune(arguments) => prune(context, &arguments).await,
    }
}

/// A cluster, its nodes that run, and those of them that are meant.
struct Site {
    engine: SharedEngine,
    cluster: Cluster,
    running: Vec<String>,
    nodes: Vec<String>,
}

impl Nodes {
    async fn site(&self, context: &Context) -> Result<Site> {
        let (engine, _) = context.engine().await?;
        let cluster = cluster::find(&*engine, &self.name.get()?).await?;
        let running = cluster.nodes.iter().filter(|node| node.is_running());
        let running: Vec<String> = running.map(|node| node.name.clone()).collect();
        let nodes = if self.nodes.is_empty() {
            context.warn_of_stopped(&cluster);
            running.clone()
        } else {
            image::select_nodes(&cluster.node_names(), &self.nodes)?
        };
        Ok(Site { engine, cluster, running, nodes })
    }
}

// ---- ls ----

async fn list(context: &Context, arguments: &ListImages) -> Result<()> {
    let site = arguments.nodes.site(context).await?;
    let stores = image::inventory(&*site.engine, &site.nodes).await?;
    let (folded, shown): (Vec<Listed>, Vec<Listed>) =
        image::list(&stores).into_iter().partition(|image| image.preloaded && !arguments.all);
    let text = match arguments.output {
        Some(format @ (OutputFormat::Json | OutputFormat::Yaml)) => structured(format, &json!(shown))?,
        Some(OutputFormat::Name) => {
            let names =
                |image: &Listed| if image.names.is_empty() { vec![image.id.clone()] } else { image.names.clone() };
            shown.iter().flat_map(names).flat_map(|name| [name, "\n".to_owned()]).collect()
        }
        format => table(&shown, &site.nodes, format.is_some()).to_string(),
    };
    context.ui.data(&text)?;
    if matches!(arguments.output, None | Some(OutputFormat::Wide)) && !folded.is_empty() {
        context.ui.note(format!("{} images of the node image are not shown; `--all` does", folded.len()));
    }
    Ok(())
}

fn table(images: &[Listed], nodes: &[String], wide: bool) -> Table {
    let mut table = Table::new(&["IMAGE", "ID", "SIZE", "NODES", "USED BY", "KEPT"]);
    for image in images {
        let id = if wide { &image.id } else { image::short(&image.id) };
        let title = if image.names.is_empty() { "<none>".to_owned() } else { image.title() };
        let everywhere = image.nodes.len() == nodes.len() && nodes.len() > 1 && !wide;
        let nodes = if everywhere { "all".to_owned() } else { image.nodes.join(", ") };
        let pods = match image.pods.len() {
            0 => "-".to_owned(),
            _ if wide => image.pods.join(", "),
            1 => "1 pod".to_owned(),
            count => format!("{count} pods"),
        };
        let kept = match (image.preloaded, image.pinned) {
            (true, _) => "node image",
            (false, true) => "pinned",
            (false, false) => "-",
        };
        table.row(vec![title, id.to_owned(), size(image.size), nodes, pods, kept.to_owned()]);
    }
    table
}

// ---- load ----

async fn load_images(context: &Context, arguments: LoadImages) -> Result<()> {
    let LoadImages { images, target } = arguments;
    // No image's name begins like a path.
    let is_archive = |text: &String| text == "-" || text.starts_with(['.', '/']) || Path::new(text).is_file();
    let (archives, names): (Vec<String>, Vec<String>) = images.into_iter().partition(is_archive);
    match (&archives[..], names.is_empty()) {
        ([], _) => load::run(context, Load::docker_images(names, target)).await,
        ([archive], true) => load::run(context, Load::archive(PathBuf::from(archive), target)).await,
        _ => Err(Error::new(Code::UsageInvalid, "one archive, or images of the engine, are loaded at a time")),
    }
}

// ---- pull, tag ----

async fn pull(context: &Context, arguments: &PullImages) -> Result<()> {
    let site = arguments.nodes.site(context).await?;
    let images: Vec<Reference> = arguments.images.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    let names = images.iter().map(Reference::familiar).collect::<Vec<_>>().join(", ");
    let step = context.ui.step(format!("Pulling {names}"));
    let progress = |node: &str, done: u64, total: u64| {
        let verb = if done < total { "downloading" } else { "unpacking" };
        step.detail(node, &format!("{verb}, {} of {}", size(done), size(total)));
    };
    image::pull(&*site.engine, &site.nodes, &images, &progress).await?;
    step.finish();
    context.ui.result(&json!({
        "images": images.iter().map(ToString::to_string).collect::<Vec<_>>(), "nodes": site.nodes,
    }));
    Ok(())
}

async fn tag(context: &Context, arguments: &TagImage) -> Result<()> {
    let site = arguments.nodes.site(context).await?;
    let target: Reference = arguments.target.parse()?;
    let nodes = image::tag(&*site.engine, &site.nodes, &arguments.source, &target).await?;
    context.ui.note(format!("{} is now also {} in {}", arguments.source, target.familiar(), nodes.join(", ")));
    context.ui.result(&json!({"image": target.to_string(), "nodes": nodes}));
    Ok(())
}

// ---- rm, prune ----

async fn remove(context: &Context, arguments: &RemoveImages) -> Result<()> {
    let site = arguments.nodes.site(context).await?;
    let removed = image::remove(&*site.engine, &site.nodes, &arguments.images, arguments.force).await?;
    tell(context, &removed, false);
    context.ui.result(&json!({"nodes": removed}));
    Ok(())
}

async fn prune(context: &Context, arguments: &PruneImages) -> Result<()> {
    let site = arguments.nodes.site(context).await?;
    let wanted: BTreeSet<String> = rollout::named_images(&*site.engine, &site.cluster).await?;
    let pruned = image::prune(&*site.engine, &site.running, &site.nodes, &wanted, arguments.dry_run).await?;
    tell(context, &pruned, arguments.dry_run);
    if pruned.iter().all(|node| node.images.is_empty()) {
        context.ui.note("Every image is used, or came with the node image");
    }
    context.ui.result(&json!({"nodes": pruned, "dryRun": arguments.dry_run}));
    Ok(())
}

/// Says for each node what went, or would go, and how much that frees.
fn tell(context: &Context, nodes: &[ImageRemoval], dry_run: bool) {
    for node in nodes {
        let titles = node.images.iter().map(image::RemovedImage::title).collect::<Vec<_>>().join(", ");
        let mut said = Vec::new();
        if dry_run && !node.images.is_empty() {
            let sum = node.images.iter().map(|image| image.size).sum();
            said.push(format!("would remove {titles} (up to {})", size(sum)));
        } else if !node.images.is_empty() {
            said.push(format!("removed {titles}"));
        }
        if !node.untagged.is_empty() {
            let names: Vec<String> = node.untagged.iter().map(|name| image::familiar(name)).collect();
            said.push(format!("removed the names {}", names.join(", ")));
        }
        if !said.is_empty() {
            let freed = if node.images.is_empty() || dry_run {
                String::new()
            } else {
                format!("; {} are free", size(node.freed))
            };
            context.ui.note(format!("{}: {}{freed}", node.node, said.join(", ")));
        }
    }
}
