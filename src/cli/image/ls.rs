//! `coracle image ls`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::image::selection::NodesOption;
use crate::cli::output::{OutputFormat, Printed, Table, WideTableOption, size};
use crate::error::{Result, counted};
use crate::image::{self, Listed};

/// Names of an image that a row shows, unless it is wide.
const MAX_NAMES: usize = 3;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    nodes: NodesOption,
    /// Also list the images that came with the node image
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    output: WideTableOption,
}

impl Run for Ls {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let selection = self.nodes.select(context).await?;
        let stores = image::inventory(&*selection.engine, &selection.nodes).await?;
        let (folded, shown): (Vec<Listed>, Vec<Listed>) =
            image::list(&stores).into_iter().partition(|image| image.preloaded && !self.all);
        let printed = Printed {
            value: json!(shown),
            names: shown.iter().flat_map(names).collect(),
            text: &|wide| table(&shown, &selection.nodes, wide).to_string(),
        };
        context.ui.data(&printed.render(self.output.output)?)?;
        if matches!(self.output.output, None | Some(OutputFormat::Wide)) && !folded.is_empty() {
            let (images, are) = (counted(folded.len(), "image"), if folded.len() == 1 { "is" } else { "are" });
            context.ui.note(format!("{images} of the node image {are} not shown; add `--all` to list everything"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The image's names, or its ID if it has none.
fn names(image: &Listed) -> Vec<&str> {
    if image.names.is_empty() { vec![&image.id] } else { image.names.iter().map(String::as_str).collect() }
}

/// The image's names as far as a row has room for them.
fn shortened(image: &Listed, wide: bool) -> String {
    match image.names.len() {
        0 => "<none>".to_owned(),
        count if count > MAX_NAMES && !wide => {
            format!("{} and {} more names", image.names[..MAX_NAMES].join(", "), count - MAX_NAMES)
        }
        _ => image.title(),
    }
}

fn table(images: &[Listed], nodes: &[String], wide: bool) -> Table {
    let mut table = Table::new(&["IMAGE", "ID", "SIZE", "NODES", "USED BY", "KEPT"]);
    for image in images {
        let id = if wide { &image.id } else { image::short(&image.id) };
        let title = shortened(image, wide);
        let everywhere = image.nodes.len() == nodes.len() && nodes.len() > 1 && !wide;
        let nodes = if everywhere { "all".to_owned() } else { image.nodes.join(", ") };
        let pods = match image.pods.len() {
            0 => "-".to_owned(),
            _ if wide => image.pods.join(", "),
            count => counted(count, "pod"),
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
