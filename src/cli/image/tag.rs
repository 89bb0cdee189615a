//! `coracle image tag`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::image::selection::NodesOption;
use crate::cli::options::JsonOption;
use crate::error::Result;
use crate::image::{self, Reference};
use crate::ui::Format;

#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// Image, by name or ID
    source: String,
    /// Additional name for the image
    target: String,
    #[command(flatten)]
    nodes: NodesOption,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Tag {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let selection = self.nodes.select(context).await?;
        let target: Reference = self.target.parse()?;
        let nodes = image::tag(&*selection.engine, &selection.nodes, &self.source, &target).await?;
        context.ui.note(format!("{} is now also {} in {}", self.source, target.familiar(), nodes.join(", ")));
        context.ui.result(&json!({"image": target.to_string(), "nodes": nodes}));
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
