//! `coracle image pull`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::image::selection::NodesOption;
use crate::cli::options::JsonOption;
use crate::cli::output::size;
use crate::error::Result;
use crate::image::{self, Reference};
use crate::ui::Format;

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    nodes: NodesOption,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Pull {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let selection = self.nodes.select(context).await?;
        let images: Vec<Reference> = self.images.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        let names = images.iter().map(Reference::familiar).collect::<Vec<_>>().join(", ");
        let step = context.ui.step(format!("Pulling {names}"));
        let progress = |node: &str, done: u64, total: u64| {
            let verb = if done < total { "downloading" } else { "unpacking" };
            step.detail(node, &format!("{verb}, {} of {}", size(done), size(total)));
        };
        image::pull(&*selection.engine, &selection.nodes, &images, &progress).await?;
        step.finish();
        context.ui.result(&json!({
            "images": images.iter().map(ToString::to_string).collect::<Vec<_>>(), "nodes": selection.nodes,
        }));
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
