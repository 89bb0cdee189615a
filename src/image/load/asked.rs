//! A load whose nodes have said what they have: what each of them lacks, and how it gets it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use coracle_shared::wire::{ImageRequest, ImageState, Name};
use futures_util::future::try_join_all;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::load::fan_out::{Missing, Source};
use crate::image::load::report::{LoadReport, LoadedImage, NodeLoad, SourceKind};
use crate::image::load::session::Session;
use crate::image::load::transfer::{Received, Receiver, Transferred, transfer};
use crate::image::load::wanted::WantedImage;
use crate::image::progress::Progress;

/// A load whose nodes have reported what they have.
pub(super) struct Load {
    wanted: Vec<WantedImage>,
    nodes: Vec<(String, Session, Vec<ImageState>)>,
}

impl Load {
    pub(super) async fn ask(
        engine: &dyn Engine,
        sessions: Vec<(String, Session)>,
        wanted: Vec<WantedImage>,
    ) -> Result<Self> {
        let requests: Vec<ImageRequest> = wanted.iter().map(WantedImage::request).collect();
        let requests = &requests;
        let state = |(node, session): (String, Session)| async move {
            let (session, states) = session.ask(engine, requests).await?;
            Ok::<_, Error>((node, session, states))
        };
        Ok(Self { nodes: try_join_all(sessions.into_iter().map(state)).await?, wanted })
    }

    /// The images that at least one node does not have, under whatever name.
    pub(super) fn missing(&self) -> Vec<WantedImage> {
        let is_missing = |index: usize| self.nodes.iter().any(|(_, _, states)| states[index].image.is_none());
        let missing = self.wanted.iter().enumerate().filter(|(index, _)| is_missing(*index));
        missing.map(|(_, image)| image.clone()).collect()
    }

    /// The layers that at least one node does not have.
    pub(super) fn missing_layers(&self) -> Vec<String> {
        let layers = self.nodes.iter().flat_map(|(node, _, states)| compare(node, &self.wanted, states).1.layers);
        layers.collect::<BTreeSet<String>>().into_iter().collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|(node, ..)| node.clone()).collect()
    }

    /// The nodes that lack a layer.
    pub(super) fn lacking(&self) -> Vec<String> {
        let lacks = |(node, _, states): &&(String, Session, Vec<ImageState>)| {
            !compare(node, &self.wanted, states).1.layers.is_empty()
        };
        self.nodes.iter().filter(lacks).map(|(node, ..)| node.clone()).collect()
    }

    /// The load of the node that lacks most, and that of the others.
    pub(super) fn split(mut self) -> (Self, Self) {
        let count =
            |(node, _, states): &(String, Session, Vec<ImageState>)| compare(node, &self.wanted, states).1.layers.len();
        let most = self.nodes.iter().map(count).enumerate().min_by_key(|(_, count)| Reverse(*count));
        let first = most.map(|(index, _)| self.nodes.remove(index));
        (Self { wanted: self.wanted.clone(), nodes: first.into_iter().collect() }, self)
    }

    /// Sends what is missing, and sets the names.
    pub(super) async fn run(
        self,
        source: Option<(SourceKind, Box<dyn Source>)>,
        progress: Progress<'_>,
    ) -> Result<LoadReport> {
        self.run_and_tell(source, progress).await.map(|(report, _)| report)
    }

    /// The same; also returns what went to the nodes.
    pub(super) async fn run_and_tell(
        self,
        source: Option<(SourceKind, Box<dyn Source>)>,
        progress: Progress<'_>,
    ) -> Result<(LoadReport, Transferred)> {
        let Self { wanted, nodes } = self;
        let mut transferred = Transferred::default();
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
            transferred = transfer(receivers, source.map(|(_, source)| source), total, progress).await?;
            for load in &mut loads {
                let Some(received) = transferred.nodes.get(&load.node) else { continue };
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
        let report = LoadReport { source: kind, images: images.collect(), nodes: loads, passed_over: Vec::new() };
        Ok((report, transferred))
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
