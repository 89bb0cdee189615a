//! `--restart`: new pods for what a load has changed.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::Context;
use crate::cli::create::duration;
use crate::cluster::found::Cluster;
use crate::cluster::rollout::{self, ImageNames};
use crate::engine::Engine;
use crate::error::Result;
use crate::image::LoadReport;

#[derive(Debug, Args)]
pub(crate) struct RestartOption {
    /// Restart the workloads whose pods run what an image's name meant before, and wait for the new pods
    #[arg(long)]
    restart: bool,
    /// How long `--restart` waits for the new pods, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    wait: Duration,
}

/// What the names of the images mean now.
fn meaning(report: &LoadReport) -> ImageNames {
    let names = report.images.iter().flat_map(|image| image.names.iter().map(|name| (name.clone(), image.id.clone())));
    let nodes = report.nodes.iter().map(|node| node.node.clone());
    ImageNames { nodes: nodes.collect(), names: names.collect::<BTreeMap<_, _>>() }
}

/// Restarts what runs old images if that is asked for, else says that something does. Returns what the result tells of it.
pub(crate) async fn after_load(
    context: &Context,
    engine: &dyn Engine,
    cluster: &Cluster,
    report: &LoadReport,
    option: &RestartOption,
) -> Result<Value> {
    let mut meaning = meaning(report);
    if option.restart {
        let deadline = Instant::now() + option.wait;
        let rolled = rollout::restart(engine, cluster, &meaning, deadline, &context.ui).await?;
        if rolled.workloads.is_empty() && rolled.pods.is_empty() {
            context.ui.note("Nothing runs an old image, so nothing was restarted");
        }
        if !rolled.pods.is_empty() {
            let pods = rolled.pods.join(", ");
            context.ui.warn(format!("no workload makes these pods anew, and they run the old image: {pods}"));
        }
        return Ok(json!({"restarted": rolled.workloads, "notRestarted": rolled.pods}));
    }
    let moved: Vec<&String> = report.nodes.iter().flat_map(|node| &node.moved).collect();
    meaning.names.retain(|name, _| moved.contains(&name));
    meaning.nodes.retain(|node| report.nodes.iter().any(|one| one.node == *node && !one.moved.is_empty()));
    if meaning.names.is_empty() {
        return Ok(json!({}));
    }
    // Only a hint: what the command was for is done.
    let outdated = rollout::outdated_pods(engine, &meaning).await.unwrap_or_default();
    if outdated > 0 {
        let pods = if outdated == 1 { "1 pod still runs".to_owned() } else { format!("{outdated} pods still run") };
        context.ui.hint(format!("{pods} the image of before; `--restart` makes new ones"));
    }
    Ok(json!({"outdatedPods": outdated}))
}
