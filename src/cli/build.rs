//! `coracle build`.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::catalog::Addon;
use crate::cli::Context;
use crate::cli::options::JsonOption;
use crate::cluster::addon;
use crate::engine::SharedEngine;
use crate::engine::finishing::run_to_end;
use crate::error::Result;
use crate::node_image::{self, BuildOptions};

#[derive(Debug, Subcommand)]
pub(crate) enum Build {
    /// Build the image that nodes run, from sources, and put it into the engine
    NodeImage(BuildNodeImage),
    /// Build the images of add-ons and of the local registry, from sources, and put them into the engine
    Addons(BuildAddons),
}

#[derive(Debug, Args)]
pub(crate) struct BuildAddons {
    /// Add-ons, or `registry`; all of them if none is named
    #[arg(value_name = "ADDON")]
    addons: Vec<String>,
    #[command(flatten)]
    output: JsonOption,
}

#[derive(Debug, Args)]
pub(crate) struct BuildNodeImage {
    /// Kubernetes version, such as 1.36 or v1.36.3; the newest known one if not given
    #[arg(long, value_name = "VERSION")]
    kubernetes_version: Option<String>,
    /// Name of the image; coracle/node:VERSION if not given
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    #[command(flatten)]
    output: JsonOption,
}

impl Build {
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Self::NodeImage(arguments) => arguments.output.is_json(),
            Self::Addons(arguments) => arguments.output.is_json(),
        }
    }
}

pub(crate) async fn run(context: &Context, command: Build) -> Result<()> {
    match command {
        Build::NodeImage(arguments) => node_image(context, arguments).await,
        Build::Addons(arguments) => addons(context, &arguments).await,
    }
}

async fn addons(context: &Context, arguments: &BuildAddons) -> Result<()> {
    let (engine, _) = context.engine().await?;
    let work = async |engine: SharedEngine| addon::build(&*engine, &arguments.addons, &context.ui).await;
    let built = run_to_end(&engine, &context.stop, work).await?;
    let told = |(addon, new): &(Addon, bool)| json!({"name": addon.name, "image": addon.image(), "unchanged": !new});
    context.ui.result(&json!({"addons": built.iter().map(told).collect::<Vec<_>>()}));
    for (addon, _) in built.iter().filter(|(_, new)| !new) {
        context.ui.note(format!("{} {} is up to date", addon.name, addon.about.version));
    }
    Ok(())
}

async fn node_image(context: &Context, arguments: BuildNodeImage) -> Result<()> {
    let BuildNodeImage { kubernetes_version, image, .. } = arguments;
    let (engine, _) = context.engine().await?;
    let options = BuildOptions { kubernetes_version, image, ..BuildOptions::default() };
    let step = context.ui.step("Building the node image");
    let progress = |thing: &str, text: &str| step.detail(thing, text);
    let work = async |engine: SharedEngine| node_image::build(&engine, &options, &progress).await;
    let built = run_to_end(&engine, &context.stop, work).await?;
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
