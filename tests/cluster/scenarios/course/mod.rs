//! Everything that a Kubernetes course uses, as the pages of `docs/guides` tell it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Group;
use crate::harness::cluster::Cluster;
use crate::harness::guide::{follow, reads_pages};
use crate::harness::run::{Output, run};

mod helm;
mod setup;
mod start;

pub(crate) use setup::SETUP;

/// The cluster of the guides: one control plane and two workers.
pub(crate) const COURSE: Group = Group {
    name: "course",
    environment: &[],
    create,
    together: &[
        ("workloads", |cluster| follow(cluster, "workloads.md")),
        ("monitoring", monitoring),
        ("deployments", |cluster| follow(cluster, "deployments.md")),
        ("configuration", |cluster| follow(cluster, "config-maps-and-secrets.md")),
        ("services", |cluster| follow(cluster, "services.md")),
        ("pods", |cluster| follow(cluster, "pods.md")),
        ("extending", |cluster| follow(cluster, "extending.md")),
        ("gitops", |cluster| follow(cluster, "gitops.md")),
        ("helm", helm::chart),
        ("access", |cluster| follow(cluster, "access.md")),
        ("limits", |cluster| follow(cluster, "limits.md")),
        ("pod-security", |cluster| follow(cluster, "pod-security.md")),
        ("debugging", |cluster| follow(cluster, "debugging.md")),
        ("logging", |cluster| follow(cluster, "logging.md")),
    ],
    // These take nodes away, or want the machine for themselves.
    scenarios: &[
        ("start", start::time),
        ("runtimes", alone::runtimes),
        ("scheduling", alone::scheduling),
        ("disruptions", alone::disruptions),
        ("self-healing", alone::self_healing),
    ],
};

/// Pages that are followed in a namespace of their own, but not at the same time as others.
mod alone {
    use super::{Cluster, follow};

    pub(super) fn runtimes(cluster: &Cluster) -> Result<(), String> {
        follow(&cluster.in_namespace("runtimes")?, "runtimes.md")
    }

    pub(super) fn scheduling(cluster: &Cluster) -> Result<(), String> {
        follow(&cluster.in_namespace("scheduling")?, "scheduling.md")
    }

    pub(super) fn disruptions(cluster: &Cluster) -> Result<(), String> {
        follow(&cluster.in_namespace("disruptions")?, "disruptions.md")
    }

    pub(super) fn self_healing(cluster: &Cluster) -> Result<(), String> {
        follow(&cluster.in_namespace("self-healing")?, "self-healing.md")
    }
}

/// Builds an image of `samples`; the engine's cache has it the second time.
fn build(script: &str) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(script);
    run(Command::new(script), None, Duration::from_secs(600)).and_then(Output::ok).map(drop)
}

/// The cluster of `configs/course.yaml`, with the image of the guides.
fn create(cluster: &Cluster) -> Result<(), String> {
    reads_pages()?;
    build("tools/build.sh")?;
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/course.yaml");
    cluster.coracle(&["create", "cluster", "--config", config])?;
    cluster.coracle(&["load", "docker-image", "tools:v1"]).map(drop)
}

/// The page, with its image: it is loaded into the worker only that the page names.
fn monitoring(cluster: &Cluster) -> Result<(), String> {
    build("prometheus/build.sh")?;
    let worker = format!("{}-worker", cluster.name);
    cluster.coracle(&["load", "docker-image", "prometheus:v1", "--nodes", &worker])?;
    follow(cluster, "monitoring.md")
}
