//! Brings images into nodes: each node is asked what it has, and what some lack is read once and sent to all of them.

use std::collections::{BTreeMap, BTreeSet};

use coracle_shared::wire::{ImageRequest, ImageState, Name};
use futures_util::future::try_join_all;

use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::image::archive::verified::{ArchiveInput, VerifiedArchive};
use crate::image::load::fan_out::{Missing, Source};
use crate::image::load::lookup::look_up;
use crate::image::load::report::{LoadReport, LoadedImage, NodeLoad, SourceKind};
use crate::image::load::save::save;
use crate::image::load::session::Session;
use crate::image::load::store;
use crate::image::load::transfer::{Received, Receiver, joined, transfer};
use crate::image::load::wanted::WantedImage;
use crate::image::platform::Platform;
use crate::image::progress::Progress;

/// Loads images of the engine into nodes; only what they lack is sent.
pub async fn load_docker_images(
    engine: &SharedEngine,
    nodes: &[String],
    images: &[String],
    progress: Progress<'_>,
) -> Result<LoadReport> {
    store::check_source()?;
    let look_up = async {
        let info = engine.info().await?;
        let platform = Platform::of_engine(&info.architecture);
        Ok((look_up(&**engine, images, &platform).await?, info, platform))
    };
    let ((wanted, info, platform), sessions) = tokio::try_join!(look_up, open(&**engine, nodes))?;
    let mut load = Load::ask(&**engine, sessions, wanted.clone()).await?;
    if load.missing().is_empty() {
        return load.run(None, progress).await;
    }
    let requests: Vec<ImageRequest> = load.missing().iter().map(WantedImage::request).collect();
    // The reason why the store cannot be read is of no use to the user: the images are loaded nevertheless.
    if let Ok(store) = store::open(engine, &info, &nodes[0], &requests, load.missing_layers()).await {
        match load.run(Some((SourceKind::EngineStore, Box::new(store))), progress).await {
            // Its output ended early, or was not what it should be: the nodes have discarded all of it.
            Err(error) if error.code() == Code::LoadFailed => {}
            done => return done,
        }
        load = Load::ask(&**engine, open(&**engine, nodes).await?, wanted).await?;
    }
    let missing = load.missing();
    let source: Option<(_, Box<dyn Source>)> = if missing.is_empty() {
        None
    } else {
        Some((SourceKind::EngineSave, Box::new(save(&**engine, missing, platform).await?)))
    };
    load.run(source, progress).await
}

/// Loads all images of an archive into nodes. Nothing is sent before the whole archive was verified.
pub async fn load_archive(
    engine: &dyn Engine,
    nodes: &[String],
    input: &ArchiveInput,
    progress: Progress<'_>,
) -> Result<LoadReport> {
    let platform = Platform::of_engine(&engine.info().await?.architecture);
    let input = input.clone();
    let archive = joined(tokio::task::spawn_blocking(move || VerifiedArchive::open(&input, &platform)).await)?;
    let wanted = archive.images.iter().map(|image| WantedImage {
        key: String::new(),
        id: image.id.clone(),
        names: image.names.clone(),
        diff_ids: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        size: image.size,
    });
    let wanted = wanted.collect();
    let others = archive.others.clone();
    let load = Load::ask(engine, open(engine, nodes).await?, wanted).await?;
    let missing = load.missing();
    let archive = archive.only(|image| missing.iter().any(|missing| missing.id == image.id));
    let source: Option<(_, Box<dyn Source>)> =
        if missing.is_empty() { None } else { Some((SourceKind::Archive, Box::new(archive))) };
    let report = load.run(source, progress).await?;
    Ok(LoadReport { passed_over: others, ..report })
}

async fn open(engine: &dyn Engine, nodes: &[String]) -> Result<Vec<(String, Session)>> {
    let session = |node: &String| {
        let node = node.clone();
        async move { Ok::<_, Error>((node.clone(), Session::open(engine, &node).await?)) }
    };
    try_join_all(nodes.iter().map(session)).await
}

/// A load whose nodes have reported what they have.
struct Load {
    wanted: Vec<WantedImage>,
    nodes: Vec<(String, Session, Vec<ImageState>)>,
}

impl Load {
    async fn ask(engine: &dyn Engine, sessions: Vec<(String, Session)>, wanted: Vec<WantedImage>) -> Result<Self> {
        let requests: Vec<ImageRequest> = wanted.iter().map(WantedImage::request).collect();
        let requests = &requests;
        let state = |(node, session): (String, Session)| async move {
            let (session, states) = session.ask(engine, requests).await?;
            Ok::<_, Error>((node, session, states))
        };
        Ok(Self { nodes: try_join_all(sessions.into_iter().map(state)).await?, wanted })
    }

    /// The images that at least one node does not have, under whatever name.
    fn missing(&self) -> Vec<WantedImage> {
        let is_missing = |index: usize| self.nodes.iter().any(|(_, _, states)| states[index].image.is_none());
        let missing = self.wanted.iter().enumerate().filter(|(index, _)| is_missing(*index));
        missing.map(|(_, image)| image.clone()).collect()
    }

    /// The layers that at least one node does not have.
    fn missing_layers(&self) -> Vec<String> {
        let layers = self.nodes.iter().flat_map(|(node, _, states)| compare(node, &self.wanted, states).1.layers);
        layers.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// Sends what is missing, and sets the names.
    async fn run(self, source: Option<(SourceKind, Box<dyn Source>)>, progress: Progress<'_>) -> Result<LoadReport> {
        let Self { wanted, nodes } = self;
        let mut loads = Vec::new();
        let mut receivers = Vec::new();
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        for (node, session, states) in nodes {
            ids.extend(
                wanted.iter().zip(&states).filter_map(|(image, state)| Some((image.id.clone(), state.image.clone()?))),
            );
            let (load, missing, names) = compare(&node, &wanted, &states);
            loads.push(load);
            if !missing.images.is_empty() || !names.is_empty() {
                receivers.push(Receiver { node, session, missing, names });
            }
        }
        let kind = source.as_ref().map(|(kind, _)| *kind);
        let is_sent =
            |image: &&WantedImage| receivers.iter().any(|receiver| receiver.missing.images.contains(&image.id));
        let total = wanted.iter().filter(is_sent).map(|image| image.size).sum();
        if !receivers.is_empty() {
            let received = transfer(receivers, source.map(|(_, source)| source), total, progress).await?;
            for load in &mut loads {
                let Some(received) = received.get(&load.node) else { continue };
                load.add(received);
                ids.extend(received.stored.iter().map(|stored| (stored.id.clone(), stored.image.clone())));
            }
        }
        let images = wanted.into_iter().map(|image| LoadedImage {
            names: image.titles(),
            id: ids.get(&image.id).cloned().unwrap_or(image.id),
            size: image.size,
            layers: image.diff_ids.len(),
        });
        Ok(LoadReport { source: kind, images: images.collect(), nodes: loads, passed_over: Vec::new() })
    }
}

/// What a node has, what it lacks, and which names it should set.
fn compare(node: &str, wanted: &[WantedImage], states: &[ImageState]) -> (NodeLoad, Missing, Vec<Name>) {
    let mut load = NodeLoad { node: node.to_owned(), ..NodeLoad::default() };
    let mut missing = Missing::default();
    let mut names = Vec::new();
    let mut present = BTreeSet::new();
    for (image, state) in wanted.iter().zip(states) {
        load.moved.extend(state.moved.iter().cloned());
        if state.image.is_none() {
            load.sent.extend(image.titles());
            missing.images.insert(image.id.clone());
            let (had, absent) = image.diff_ids.split_at(state.layers.min(image.diff_ids.len()));
            missing.layers.extend(absent.iter().cloned());
            present.extend(had.iter().cloned());
        } else if state.lacks.is_empty() {
            load.present.extend(image.titles());
        } else {
            load.present.extend(image.titles().into_iter().filter(|name| !state.lacks.contains(name)));
            load.named.extend(state.lacks.iter().cloned());
            names.push(Name { id: image.id.clone(), names: state.lacks.clone() });
        }
    }
    load.layers_present = present.len();
    (load, missing, names)
}

impl NodeLoad {
    fn add(&mut self, received: &Received) {
        // A name alone costs nothing worth mentioning.
        self.bytes = if self.sent.is_empty() { 0 } else { received.bytes };
        self.layers_sent = received.layers;
    }
}
