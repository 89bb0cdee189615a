//! What a new cluster holds from the start: images, add-ons and manifests of its configuration.

use tokio::time::Instant;

use crate::catalog::Addon;
use crate::cluster::addon::{self, Site};
use crate::cluster::contents::manifests::Document;
use crate::cluster::health::wait::conditions;
use crate::cluster::lifecycle::create::Options;
use crate::cluster::registry;
use crate::config::{Cluster, LocalRegistry};
use crate::engine::SharedEngine;
use crate::error::{Code, Error, Result};
use crate::image::load_docker_images;
use crate::kubernetes::Client;
use crate::plan::facts::Registry;
use crate::plan::node::credentials::Login;
use crate::plan::{Facts, Plan, labels};
use crate::ui::Ui;

pub mod manifests;

/// What will be put into the cluster, read and found to be whole.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    documents: Vec<Document>,
    addons: Vec<Addon>,
    registry: Option<Registry>,
    logins: Vec<Login>,
}

/// Checks all that can be known before something is made; builds the images of add-ons.
pub(crate) async fn prepare(
    engine: &SharedEngine,
    cluster: &Cluster,
    facts: &Facts,
    options: &Options,
    ui: &Ui,
) -> Result<Contents> {
    let documents = check(engine, cluster).await?;
    let addons = addon::prepare(&**engine, &cluster.addons, None, ui).await?;
    if let Some(directory) = cluster.persist.as_ref().filter(|_| options.local) {
        std::fs::create_dir_all(directory).map_err(|source| {
            Error::new(Code::FileFailed, format!("cannot make the directory `{directory}` for volumes")).cause(&source)
        })?;
    }
    let registry = facts.registry.clone();
    // One that the file does not name stays as it is, also when it is stopped.
    if let Some(registry) = registry.as_ref().filter(|_| cluster.registry.is_some()) {
        let new = registry::ensure(&**engine, registry, options.local, ui).await?;
        // As with `registry create`, the clusters that are there share it.
        if new && registry.name == LocalRegistry::DEFAULT {
            let clusters = registry::users(&**engine, &registry.name).await?;
            registry::report(registry::attach_all(&**engine, registry, &clusters).await, registry, ui);
        }
    }
    Ok(Contents { documents, addons, registry, logins: options.logins.clone() })
}

/// Checks without making anything, and reads the manifests.
pub(crate) async fn check(engine: &SharedEngine, cluster: &Cluster) -> Result<Vec<Document>> {
    if let Some(directory) = &cluster.persist {
        let users = engine.containers(&[format!("{}={directory}", labels::PERSIST)]).await?;
        if let Some(node) = users.first() {
            return Err(Error::new(Code::ClusterExists, format!("the volumes in `{directory}` are in use"))
                .because(format!("another cluster has them; one of its nodes is `{}`", node.name))
                .hint("delete that cluster, or give this one another directory in `persist`"));
        }
    }
    manifests::check(&**engine, &cluster.manifests, &cluster.images).await
}

/// Puts everything into a cluster that is usable, and waits until it works.
///
/// Everything is applied before something is awaited: a manifest may bring the network that add-ons need.
pub(crate) async fn install(
    engine: &SharedEngine,
    client: &Client,
    plan: &Plan,
    contents: &Contents,
    (deadline, run): (Instant, &str),
    ui: &Ui,
) -> Result<()> {
    let cluster = &plan.layout.cluster;
    if let Some(registry) = &contents.registry {
        registry::attach(&**engine, client, registry, cluster.name.as_str(), deadline).await?;
    }
    let nodes: Vec<(String, Vec<u16>)> = plan
        .layout
        .nodes
        .iter()
        .map(|node| {
            let ports = node.config.extra_port_mappings.iter().map(|mapping| mapping.container_port);
            (node.name.clone(), ports.collect())
        })
        .collect();
    let names: Vec<String> = nodes.iter().map(|(name, _)| name.clone()).collect();
    registry::give(&**engine, &names, &contents.logins).await?;
    if !cluster.images.is_empty() {
        let step = ui.step(format!("Loading {}", cluster.images.join(", ")));
        let progress = |_: &str, done: u64, total: u64| step.bytes(done, total);
        load_docker_images(engine, &names, &cluster.images, &progress).await?;
        step.finish();
    }
    let site = Site { engine, client, nodes, run: run.to_owned() };
    let applied = addon::apply(&site, &contents.addons, &cluster.addons, deadline, ui).await?;
    // Without a network no pod starts, until the user brings one.
    let awaited = conditions(cluster).1.is_empty() || !contents.documents.is_empty();
    if !contents.documents.is_empty() {
        let step = ui.step("Applying manifests");
        manifests::apply(client, &contents.documents, deadline).await?;
        step.finish();
    }
    if awaited {
        addon::wait(&site, &applied, deadline, ui).await?;
    }
    if !contents.documents.is_empty() {
        let step = ui.step("Waiting for what the manifests run");
        manifests::wait(client, &contents.documents, deadline, &step).await?;
        step.finish();
    }
    Ok(())
}
