//! `coracle build`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::catalog::Addon;
use crate::cli::command::{Run, commands};
use crate::cli::context::Context;
use crate::cli::options::JsonOption;
use crate::cluster::{addon, run};
use crate::engine::SharedEngine;
use crate::error::Result;
use crate::node_image::{self, BuildOptions, Origin};
use crate::ui::Format;

commands! {
    pub(crate) enum Build {
        /// Build the node image from source and store it in the engine
        NodeImage(BuildNodeImage),
        /// Build the images of add-ons and of the local registry from source and store them in the engine
        Addons(BuildAddons),
    }
}

#[derive(Debug, Args)]
pub(crate) struct BuildAddons {
    /// Add-ons, or `registry` [default: all of them]
    #[arg(value_name = "ADDON")]
    addons: Vec<String>,
    #[command(flatten)]
    output: JsonOption,
}

#[derive(Debug, Args)]
pub(crate) struct BuildNodeImage {
    /// Kubernetes version, as with `--kubernetes-version`
    #[arg(value_name = "VERSION", conflicts_with = "kubernetes_version")]
    version: Option<String>,
    /// Kubernetes version, such as 1.36 or v1.36.3 [default: the newest known one]
    #[arg(long, value_name = "VERSION")]
    kubernetes_version: Option<String>,
    /// Name of the image [default: coracle/node:VERSION]
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Where containerd, runc, crictl, CoreDNS and the CNI plugins come from: their projects' releases, or a build of their
    /// source [default: release if GitHub can be reached]
    #[arg(long, value_name = "ORIGIN", value_parser = ["release", "source"])]
    from: Option<String>,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for BuildAddons {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let work = async |engine: SharedEngine| {
            let run = run::Run::new(&engine, &context.ui, run::new_id(), Duration::ZERO);
            addon::build(&run, &self.addons).await
        };
        let built = context.run_to_end(&engine, work).await?;
        let value =
            |(addon, new): &(Addon, bool)| json!({"name": addon.name, "image": addon.image(), "unchanged": !new});
        context.ui.result(&json!({"addons": built.iter().map(value).collect::<Vec<_>>()}));
        for (addon, _) in built.iter().filter(|(_, new)| !new) {
            context.ui.note(format!("{} {} is up to date", addon.name, addon.about.version));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

impl Run for BuildNodeImage {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let kubernetes_version = self.kubernetes_version.or(self.version);
        let from = self.from.map(|from| if from == "release" { Origin::Release } else { Origin::Source });
        let options = BuildOptions { kubernetes_version, image: self.image, from, ..BuildOptions::default() };
        let step = context.ui.step("Building the node image");
        let progress = |thing: &str, text: &str| step.detail(thing, text);
        let work = async |engine: SharedEngine| node_image::build(&engine, &options, &progress).await;
        let built = context.run_to_end(&engine, work).await?;
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
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
