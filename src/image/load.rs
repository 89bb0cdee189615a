//! Brings images into nodes: from the engine or from an archive, read once, to all nodes at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::time::Instant;

use super::find::find_images;
use super::layout::ArchiveImage;
use super::manage::pin;
use super::node::{self, NodeImages};
use super::platform::Platform;
use super::reference::Reference;
use super::source::{Checked, send_from_engine, send_from_file};
use super::transfer::{joined, transfer};
use crate::engine::Engine;
use crate::error::{Code, Error, Result};

/// How often a node is asked whether it shows an image.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a node's runtime may take to show an image that it has stored.
const SHOWN_WITHIN: Duration = Duration::from_secs(15);
/// Told per node: bytes sent, and bytes to send as far as known.
pub type Progress<'a> = &'a (dyn Fn(&str, u64, u64) + Send + Sync);

/// Where an archive is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// What a load did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// The images that were asked for.
    pub images: Vec<LoadedImage>,
    /// What each node got.
    pub nodes: Vec<NodeLoad>,
}

/// An image that is in the nodes now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadedImage {
    /// Names as the kubelet knows them.
    pub names: Vec<String>,
    /// Image ID.
    pub id: String,
    /// Size, bytes.
    pub size: u64,
}

/// What one node got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NodeLoad {
    /// Name of the node.
    pub node: String,
    /// Images that were sent.
    pub sent: Vec<String>,
    /// Images that were there and only got a name.
    pub named: Vec<String>,
    /// Images that were there.
    pub present: Vec<String>,
    /// Names that meant another image before.
    pub moved: Vec<String>,
    /// Bytes sent.
    pub bytes: u64,
}

/// An image that nodes should have.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// What the engine is asked for.
    pub key: String,
    /// Image ID, as the engine or the archive has it.
    pub id: String,
    /// Names that the nodes shall know.
    pub names: Vec<Reference>,
    /// Size, bytes.
    pub size: u64,
}

/// The nodes that are named, or all. `Code::NotFound` when one is not of the cluster.
pub fn select_nodes(all: &[String], named: &[String]) -> Result<Vec<String>> {
    if named.is_empty() {
        return Ok(all.to_vec());
    }
    if let Some(name) = named.iter().find(|name| !all.contains(name)) {
        return Err(Error::new(Code::NotFound, format!("there is no node `{name}`"))
            .hint(format!("the nodes are: {}", all.join(", "))));
    }
    Ok(all.iter().filter(|node| named.contains(node)).cloned().collect())
}

/// Loads images of the engine into nodes; only into those that do not have them.
pub async fn load_docker_images(
    engine: &dyn Engine,
    nodes: &[String],
    images: &[String],
    progress: Progress<'_>,
) -> Result<LoadReport> {
    let wanted = find_images(engine, images).await?;
    let states = states(engine, nodes).await?;
    let mut report = give_names(engine, nodes, &states, &wanted).await?;
    let (missing, mut there): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|image| is_missing(image, &states));
    if !missing.is_empty() {
        let platform = Platform::of_engine(&engine.info().await?.architecture);
        let total = missing.iter().map(|image| image.size).sum();
        let keys: BTreeSet<String> = missing.iter().map(|image| image.key.clone()).collect();
        let source = engine.save_images(&keys.into_iter().collect::<Vec<_>>()).await?;
        let receivers = receivers(&missing, nodes, &states);
        let job = move |fan| send_from_engine(source, &missing, &platform, fan);
        let (sent, bytes) = transfer(engine, &receivers, total, progress, job).await?;
        // Only now the ID is certain: engines with containerd's store give another one.
        let sent: Vec<Wanted> = sent.iter().map(Wanted::of_archive).collect();
        report.add(&receivers, &sent, &bytes);
        confirm(engine, &receivers, &sent).await?;
        there.extend(sent);
    }
    finish(engine, report, &there, &states).await
}

/// Loads all images of an archive into nodes. Nothing reaches a node before the whole archive is found to be good.
pub async fn load_archive(
    engine: &dyn Engine,
    nodes: &[String],
    source: &Source,
    progress: Progress<'_>,
) -> Result<LoadReport> {
    let platform = Platform::of_engine(&engine.info().await?.architecture);
    let source = source.clone();
    let checked = joined(tokio::task::spawn_blocking(move || Checked::open(&source, &platform)).await)?;
    let wanted: Vec<Wanted> = checked.images.iter().map(Wanted::of_archive).collect();
    let states = states(engine, nodes).await?;
    let mut report = give_names(engine, nodes, &states, &wanted).await?;
    let missing: Vec<Wanted> = wanted.iter().filter(|image| is_missing(image, &states)).cloned().collect();
    if !missing.is_empty() {
        let checked = checked.only(|image| missing.iter().any(|missing| missing.id == image.id));
        let total = checked.images.iter().map(|image| image.size).sum();
        let receivers = receivers(&missing, nodes, &states);
        let ((), bytes) = transfer(engine, &receivers, total, progress, |fan| send_from_file(checked, fan)).await?;
        report.add(&receivers, &missing, &bytes);
        confirm(engine, &receivers, &missing).await?;
    }
    finish(engine, report, &wanted, &states).await
}

/// Pins what is new in the nodes, and notes which names meant another image before.
async fn finish(
    engine: &dyn Engine,
    mut report: LoadReport,
    images: &[Wanted],
    before: &BTreeMap<String, NodeImages>,
) -> Result<LoadReport> {
    let new = |load: &NodeLoad| [load.sent.clone(), load.named.clone()].concat();
    let changed = report.nodes.iter().filter(|load| !new(load).is_empty());
    try_join_all(changed.map(|load| async { pin(engine, &load.node, &new(load)).await })).await?;
    for load in &mut report.nodes {
        let other = |image: &Wanted, name: &&Reference| {
            let old = before.get(&load.node).and_then(|state| state.id_of(name));
            old.is_some_and(|old| old != image.id)
        };
        let moved = images.iter().flat_map(|image| image.names.iter().filter(move |name| other(image, name)));
        load.moved = moved.map(Reference::to_string).collect();
    }
    Ok(report.with_images(images))
}

impl Wanted {
    fn of_archive(image: &ArchiveImage) -> Self {
        Self { key: String::new(), id: image.id.clone(), names: image.names.clone(), size: image.size }
    }

    fn shown(&self) -> Vec<String> {
        if self.names.is_empty() {
            vec![self.id.clone()]
        } else {
            self.names.iter().map(Reference::to_string).collect()
        }
    }

    /// Whether a node has it under all of its names.
    fn is_in(&self, state: &NodeImages) -> bool {
        state.has_id(&self.id) && self.names.iter().all(|name| state.has(&self.id, name))
    }
}

impl LoadReport {
    fn with_images(mut self, images: &[Wanted]) -> Self {
        self.images = images
            .iter()
            .map(|image| LoadedImage { names: image.shown(), id: image.id.clone(), size: image.size })
            .collect();
        self
    }

    fn add(&mut self, receivers: &[String], sent: &[Wanted], bytes: &BTreeMap<String, u64>) {
        for load in self.nodes.iter_mut().filter(|load| receivers.contains(&load.node)) {
            load.sent.extend(sent.iter().flat_map(Wanted::shown));
            load.present.retain(|name| !load.sent.contains(name));
            load.bytes = bytes.get(&load.node).copied().unwrap_or_default();
        }
    }
}

// ---- what is there ----

async fn states(engine: &dyn Engine, nodes: &[String]) -> Result<BTreeMap<String, NodeImages>> {
    let ask = |node: &String| {
        let node = node.clone();
        async move { Ok::<_, Error>((node.clone(), node::list(engine, &node).await?)) }
    };
    Ok(try_join_all(nodes.iter().map(ask)).await?.into_iter().collect())
}

/// Whether some node lacks it.
fn is_missing(image: &Wanted, states: &BTreeMap<String, NodeImages>) -> bool {
    states.values().any(|state| !state.has_id(&image.id))
}

fn receivers(missing: &[Wanted], nodes: &[String], states: &BTreeMap<String, NodeImages>) -> Vec<String> {
    let lacks = |state: &NodeImages| missing.iter().any(|image| !state.has_id(&image.id));
    nodes.iter().filter(|node| states.get(*node).is_some_and(lacks)).cloned().collect()
}

/// Names the images that nodes have under other names, and reports what was there.
async fn give_names(
    engine: &dyn Engine,
    nodes: &[String],
    states: &BTreeMap<String, NodeImages>,
    wanted: &[Wanted],
) -> Result<LoadReport> {
    let one = |node: &String| {
        let mut load = NodeLoad { node: node.clone(), ..NodeLoad::default() };
        let state = states.get(node).cloned().unwrap_or_default();
        async move {
            for image in wanted.iter().filter(|image| state.has_id(&image.id)) {
                if image.is_in(&state) {
                    load.present.extend(image.shown());
                    continue;
                }
                for name in image.names.iter().filter(|name| !state.has(&image.id, name)) {
                    node::tag(engine, &load.node, &image.id, name).await?;
                    load.named.push(name.to_string());
                }
            }
            Ok::<_, Error>(load)
        }
    };
    let loads = try_join_all(nodes.iter().map(one)).await?;
    let named: Vec<String> = loads.iter().filter(|load| !load.named.is_empty()).map(|load| load.node.clone()).collect();
    let there: Vec<Wanted> =
        wanted.iter().filter(|image| states.values().all(|state| state.has_id(&image.id))).cloned().collect();
    confirm(engine, &named, &there).await?;
    Ok(LoadReport { images: Vec::new(), nodes: loads })
}

/// Waits until the nodes' runtimes show the images under their names.
async fn confirm(engine: &dyn Engine, nodes: &[String], images: &[Wanted]) -> Result<()> {
    let deadline = Instant::now() + SHOWN_WITHIN;
    let one = |node: &String| {
        let node = node.clone();
        async move {
            loop {
                let state = node::list(engine, &node).await?;
                let Some(absent) = images.iter().find(|image| !image.is_in(&state)) else { return Ok(()) };
                if Instant::now() > deadline {
                    return Err(Error::new(
                        Code::LoadFailed,
                        format!("image `{}` is not there", absent.shown().join(", ")),
                    )
                    .on_node(&node)
                    .because("the import succeeded, and the node's runtime does not list the image")
                    .hint(format!("see what it says: `docker exec {node} journalctl --unit containerd`")));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    try_join_all(nodes.iter().map(one)).await.map(drop)
}
