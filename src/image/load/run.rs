//! Brings images into nodes: each is asked what it has, and what some lack is read once and sent to all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use coracle_shared::wire::{self, Had, Name};
use futures_util::future::try_join_all;

use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::image::find::find_images;
use crate::image::load::hub::{Feed, Lacks};
use crate::image::load::report::{LoadReport, LoadedImage, NodeLoad, SourceKind};
use crate::image::load::save::save;
use crate::image::load::session::Session;
use crate::image::load::source::Checked;
use crate::image::load::transfer::{Received, Receiver, joined, transfer};
use crate::image::platform::Platform;
use crate::image::reference::Reference;

#[cfg(test)]
mod fallback_tests;
pub(crate) mod hub;
mod install;
pub(crate) mod report;
mod save;
pub(crate) mod session;
pub(crate) mod source;
pub(crate) mod store;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tests;
pub(crate) mod transfer;

/// Told per node: bytes sent, and bytes to send as far as known.
pub type Progress<'a> = &'a (dyn Fn(&str, u64, u64) + Send + Sync);

/// Where an archive is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, or a directory in OCI's layout.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// An image that nodes should have.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// What the engine is asked for.
    pub key: String,
    /// Image ID, as the engine or the archive has it.
    pub id: String,
    /// Names that the nodes shall know.
    pub names: Vec<Reference>,
    /// Digests of its unpacked layers, lowest first.
    pub diff_ids: Vec<String>,
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

/// Loads images of the engine into nodes; only what they do not have.
pub async fn load_docker_images(
    engine: &Arc<dyn Engine>,
    nodes: &[String],
    images: &[String],
    progress: Progress<'_>,
) -> Result<LoadReport> {
    let (wanted, sessions) = tokio::try_join!(find_images(&**engine, images), open(&**engine, nodes))?;
    let mut load = Load::ask(&**engine, sessions, wanted.clone()).await?;
    if load.missing().is_empty() {
        return load.run(None, progress).await;
    }
    let info = engine.info().await?;
    let asked: Vec<wire::Wanted> = load.missing().iter().map(Wanted::asked).collect();
    // Why the store cannot be read helps nobody: it works nevertheless.
    if let Ok(store) = store::open(engine, &info, &nodes[0], &asked, load.missing_layers()).await {
        match load.run(Some((SourceKind::EngineStore, Box::new(store))), progress).await {
            // What comes out of it broke off, or is not what it should be: the nodes have forgotten all of it.
            Err(error) if error.code() == Code::LoadFailed => {}
            done => return done,
        }
        load = Load::ask(&**engine, open(&**engine, nodes).await?, wanted).await?;
    }
    let missing = load.missing();
    let feed: Option<(_, Box<dyn Feed>)> = if missing.is_empty() {
        None
    } else {
        let platform = Platform::of_engine(&info.architecture);
        Some((SourceKind::EngineSave, Box::new(save(&**engine, missing, platform).await?)))
    };
    load.run(feed, progress).await
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
    let wanted = checked.images.iter().map(|image| Wanted {
        key: String::new(),
        id: image.id.clone(),
        names: image.names.clone(),
        diff_ids: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        size: image.size,
    });
    let load = Load::ask(engine, open(engine, nodes).await?, wanted.collect()).await?;
    let missing = load.missing();
    let checked = checked.only(|image| missing.iter().any(|missing| missing.id == image.id));
    let feed: Option<(_, Box<dyn Feed>)> =
        if missing.is_empty() { None } else { Some((SourceKind::Archive, Box::new(checked))) };
    load.run(feed, progress).await
}

async fn open(engine: &dyn Engine, nodes: &[String]) -> Result<Vec<(String, Session)>> {
    let one = |node: &String| {
        let node = node.clone();
        async move { Ok::<_, Error>((node.clone(), Session::open(engine, &node).await?)) }
    };
    try_join_all(nodes.iter().map(one)).await
}

/// A load whose nodes have said what they have.
struct Load {
    wanted: Vec<Wanted>,
    nodes: Vec<(String, Session, Vec<Had>)>,
}

impl Load {
    async fn ask(engine: &dyn Engine, sessions: Vec<(String, Session)>, wanted: Vec<Wanted>) -> Result<Self> {
        let asked: Vec<wire::Wanted> = wanted.iter().map(Wanted::asked).collect();
        let asked = &asked;
        let one = |(node, session): (String, Session)| async move {
            let (session, had) = session.ask(engine, asked).await?;
            Ok::<_, Error>((node, session, had))
        };
        Ok(Self { nodes: try_join_all(sessions.into_iter().map(one)).await?, wanted })
    }

    /// The images that some node does not have, under whatever name.
    fn missing(&self) -> Vec<Wanted> {
        let lacks = |index: usize| self.nodes.iter().any(|(_, _, had)| had[index].image.is_none());
        let missing = self.wanted.iter().enumerate().filter(|(index, _)| lacks(*index));
        missing.map(|(_, image)| image.clone()).collect()
    }

    /// The layers that some node does not have.
    fn missing_layers(&self) -> Vec<String> {
        let lacks = self.nodes.iter().flat_map(|(node, _, had)| compare(node, &self.wanted, had).1.layers);
        lacks.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// Sends what is missing, and gives the names.
    async fn run(self, feed: Option<(SourceKind, Box<dyn Feed>)>, progress: Progress<'_>) -> Result<LoadReport> {
        let Self { wanted, nodes } = self;
        let mut loads = Vec::new();
        let mut receivers = Vec::new();
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        for (node, session, had) in nodes {
            ids.extend(wanted.iter().zip(&had).filter_map(|(image, had)| Some((image.id.clone(), had.image.clone()?))));
            let (load, lacks, names) = compare(&node, &wanted, &had);
            loads.push(load);
            if !lacks.images.is_empty() || !names.is_empty() {
                receivers.push(Receiver { node, session, lacks, names });
            }
        }
        let source = feed.as_ref().map(|(kind, _)| *kind);
        let lacking = |image: &&Wanted| receivers.iter().any(|receiver| receiver.lacks.images.contains(&image.id));
        let total = wanted.iter().filter(lacking).map(|image| image.size).sum();
        if !receivers.is_empty() {
            let received = transfer(receivers, feed.map(|(_, feed)| feed), total, progress).await?;
            for load in &mut loads {
                let Some(received) = received.get(&load.node) else { continue };
                load.add(received);
                ids.extend(received.stored.iter().map(|stored| (stored.id.clone(), stored.image.clone())));
            }
        }
        let images = wanted.into_iter().map(|image| LoadedImage {
            names: image.shown(),
            id: ids.get(&image.id).cloned().unwrap_or(image.id),
            size: image.size,
            layers: image.diff_ids.len(),
        });
        Ok(LoadReport { source, images: images.collect(), nodes: loads })
    }
}

/// What a node has, lacks, and shall give names to.
fn compare(node: &str, wanted: &[Wanted], had: &[Had]) -> (NodeLoad, Lacks, Vec<Name>) {
    let mut load = NodeLoad { node: node.to_owned(), ..NodeLoad::default() };
    let mut lacks = Lacks::default();
    let mut names = Vec::new();
    let mut present = BTreeSet::new();
    for (image, had) in wanted.iter().zip(had) {
        load.moved.extend(had.moved.iter().cloned());
        if had.image.is_none() {
            load.sent.extend(image.shown());
            lacks.images.insert(image.id.clone());
            let (there, absent) = image.diff_ids.split_at(had.layers.min(image.diff_ids.len()));
            lacks.layers.extend(absent.iter().cloned());
            present.extend(there.iter().cloned());
        } else if had.lacks.is_empty() {
            load.present.extend(image.shown());
        } else {
            load.named.extend(had.lacks.iter().cloned());
            names.push(Name { id: image.id.clone(), names: had.lacks.clone() });
        }
    }
    load.layers_present = present.len();
    (load, lacks, names)
}

impl NodeLoad {
    fn add(&mut self, received: &Received) {
        // What only got a name cost nothing worth telling.
        self.bytes = if self.sent.is_empty() { 0 } else { received.bytes };
        self.layers_sent = received.layers;
    }
}

impl Wanted {
    fn asked(&self) -> wire::Wanted {
        wire::Wanted {
            id: self.id.clone(),
            names: self.names.iter().map(Reference::to_string).collect(),
            diff_ids: self.diff_ids.clone(),
        }
    }

    fn shown(&self) -> Vec<String> {
        if self.names.is_empty() {
            vec![self.id.clone()]
        } else {
            self.names.iter().map(Reference::to_string).collect()
        }
    }
}
