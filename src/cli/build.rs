//! `coracle build`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use crate::cluster;
use crate::error::Result;
use crate::node_image::{self, BuildOptions};

#[derive(Debug, Subcommand)]
pub(super) enum Build {
    /// Build the image that nodes run, from sources, and put it into the engine
    NodeImage(BuildNodeImage),
}

#[derive(Debug, Args)]
pub(super) struct BuildNodeImage {
    /// Kubernetes version, such as 1.36 or v1.36.3; the newest known one if not given
    #[arg(long, value_name = "VERSION")]
    kubernetes_version: Option<String>,
    /// Name of the image; coracle/node:VERSION if not given
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Print events and the result as JSON
    #[arg(long, short, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

impl Build {
    pub(super) fn is_json(&self) -> bool {
        let Self::NodeImage(arguments) = self;
        arguments.output.is_some()
    }
}

pub(super) async fn run(context: &Context, command: Build) -> Result<()> {
    let Build::NodeImage(BuildNodeImage { kubernetes_version, image, .. }) = command;
    let (engine, _) = context.engine().await?;
    let options = BuildOptions { kubernetes_version, image, ..BuildOptions::default() };
    let step = context.ui.step("Building the node image");
    let progress = |thing: &str, text: &str| step.detail(thing, text);
    let built = tokio::select! {
        built = node_image::build(&*engine, &options, &progress) => built?,
        () = context.stop.cancelled() => {
            node_image::clean_up(&*engine).await?;
            return Err(cluster::provision::interrupted());
        }
    };
    step.finish();
    let node_image::Built { image, kubernetes_version, unchanged } = built;
    context.ui.result(&json!({
        "image": image, "kubernetesVersion": kubernetes_version, "unchanged": unchanged,
    }));
    context.ui.note(if unchanged {
        format!("{image} is up to date (Kubernetes {kubernetes_version})")
    } else {
        format!("{image} is ready (Kubernetes {kubernetes_version})")
    });
    Ok(())
}
