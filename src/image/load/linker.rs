//! Nodes of one machine: what one of them has got, the others get as links to its files, so that nothing is sent or written
//! twice.
//!
//! A helper container makes the links, since only the engine's host has the volumes of several nodes. The layout of volumes
//! is the engine's own business, so whatever is unexpected is no error: the other nodes are then sent everything.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use coracle_shared::paths::LINKER_VOLUMES;
use coracle_shared::wire::{Answer, Image, LinkRequest, Placed, VERSION};
use futures_util::future::try_join_all;
use tokio::io::AsyncWriteExt;

use crate::engine::helper::{self, Helper};
use crate::engine::spec::{EngineInfo, Mount, Privilege};
use crate::engine::{Conversation, Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::image::load::fan_out::{FanOut, Source, not_sent};
use crate::image::load::program::{self, Input, Output};

/// What the helper does.
const LINK: &str = "link";
/// How long linking may take: a layer may have many files.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Where a node's own files are in it.
const VAR: &str = "/var";

/// A helper that waits for its request.
pub(crate) struct Linker {
    helper: Helper,
    ends: Conversation,
    /// The directory of each node's volume, among all volumes.
    directories: BTreeMap<String, String>,
}

/// Layers that are in nodes, in directories that they may take, and the images that have them.
pub(crate) struct Linked {
    layers: Vec<Placed>,
    images: Vec<Image>,
}

/// Keeps the layers that were linked until the nodes have taken them.
pub(crate) struct Keeper {
    input: Input,
    output: Output,
    _helper: Helper,
}

/// Starts a helper for these nodes.
pub(crate) async fn open(engine: &SharedEngine, info: &EngineInfo, nodes: &[String]) -> Result<Linker> {
    let Some(first) = nodes.first() else { return Err(not_linked("there is no node")) };
    if info.rootless || info.userns_remap {
        return Err(not_linked("the engine maps users"));
    }
    let found = try_join_all(nodes.iter().map(|node| volume(&**engine, node))).await?;
    let root = common_root(&found).ok_or_else(|| not_linked("the volumes of the nodes are in different places"))?;
    let below = |source: &String| source.strip_prefix(&root).unwrap_or(source).trim_start_matches('/').to_owned();
    let directories = nodes.iter().cloned().zip(found.iter().map(below)).collect();
    let mount = Mount::Directory { source: root, target: LINKER_VOLUMES.to_owned(), read_only: false };
    let spec = program::spec(&**engine, first, LINK, vec![mount], Privilege::Links).await?;
    let (helper, ends) = program::begin(engine, spec).await?;
    Ok(Linker { helper, ends, directories })
}

/// The directory of a node's volume on the engine's host.
async fn volume(engine: &dyn Engine, node: &str) -> Result<String> {
    let inspected = engine.inspect(node).await?.ok_or_else(|| not_linked("a node was removed"))?;
    volume_in(&inspected.description).ok_or_else(|| not_linked("a node has no local volume"))
}

fn volume_in(description: &serde_json::Value) -> Option<String> {
    let mounts = description["Mounts"].as_array()?;
    let is_it = |mount: &&serde_json::Value| {
        mount["Destination"] == VAR && mount["Type"] == "volume" && mount["Driver"] == "local"
    };
    mounts.iter().find(is_it)?["Source"].as_str().map(str::to_owned)
}

/// The directory that has all of these `NAME/_data`: links cannot leave it.
fn common_root(sources: &[String]) -> Option<String> {
    let root = Path::new(sources.first()?).parent()?.parent()?;
    let is_root = |source: &String| Path::new(source).parent().and_then(Path::parent) == Some(root);
    sources.iter().all(is_root).then(|| root.to_string_lossy().into_owned())
}

impl Linker {
    /// Links layers of one node into others, with the images that have no other layers that those nodes lack.
    pub(crate) async fn link(
        self,
        from: &str,
        to: &[String],
        layers: Vec<Placed>,
        images: Vec<Image>,
    ) -> Result<(Linked, Keeper)> {
        let Self { helper, ends, directories } = self;
        let directory = |node: &str| directories.get(node).cloned().unwrap_or_default();
        let request = LinkRequest {
            version: VERSION,
            from: directory(from),
            to: to.iter().map(|node| directory(node)).collect(),
            name: format!("linked-{}", helper::unique_id()),
            layers: layers.iter().map(|layer| layer.directory.clone()).collect(),
        };
        let answered = tokio::time::timeout(TIMEOUT, program::first_answer(ends, &request)).await;
        let silent = |source: &io::Error| not_linked("the helper does not answer").with_cause(source);
        let (answer, input, output) =
            answered.map_err(|_| not_linked("the helper takes too long"))?.map_err(|source| silent(&source))?;
        match answer {
            Answer::Done(_) => {}
            Answer::Failed(failure) => return Err(not_linked(failure.message)),
            _ => return Err(not_linked("the helper has another version")),
        }
        let placed = |(index, layer): (usize, Placed)| Placed { directory: request.directory(index), ..layer };
        let layers = layers.into_iter().enumerate().map(placed).collect();
        Ok((Linked { layers, images }, Keeper { input, output, _helper: helper }))
    }
}

impl Keeper {
    /// Lets the helper remove what no node has taken.
    pub(crate) async fn finish(mut self) {
        // When its input ends, it tidies up and ends; what it leaves, the next load into that node removes.
        let _ = self.input.shutdown().await;
        let _ = tokio::time::timeout(TIMEOUT, tokio::io::copy(&mut self.output, &mut tokio::io::sink())).await;
    }
}

impl Source for Linked {
    fn send(self: Box<Self>, fan_out: &mut FanOut) -> Result<()> {
        let mut pass = || -> io::Result<()> {
            self.layers.iter().try_for_each(|layer| fan_out.linked(layer))?;
            self.images.iter().try_for_each(|image| fan_out.image(image))
        };
        pass().map_err(|source| not_sent(&source))
    }
}

fn not_linked(why: impl Into<String>) -> Error {
    Error::new(Code::LoadFailed, "the layers cannot be linked").because(why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_volume_of_a_node_is_found_and_has_to_be_beside_the_others() {
        let mount = |kind: &str, to: &str, driver: &str| json!({"Type": kind, "Destination": to, "Driver": driver, "Source": "/var/lib/docker/volumes/a/_data"});
        let of = |mounts: &[serde_json::Value]| volume_in(&json!({"Mounts": mounts}));
        let found = of(&[mount("bind", "/lib/modules", ""), mount("volume", "/var", "local")]);
        assert_eq!(found.as_deref(), Some("/var/lib/docker/volumes/a/_data"));
        assert_eq!(of(&[mount("volume", "/var", "nfs")]), None);
        assert_eq!(of(&[mount("tmpfs", "/var", "")]), None);
        let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let beside = list(&["/d/volumes/a/_data", "/d/volumes/b/_data"]);
        assert_eq!(common_root(&beside).as_deref(), Some("/d/volumes"));
        assert_eq!(common_root(&list(&["/d/volumes/a/_data", "/e/volumes/b/_data"])), None);
    }
}
