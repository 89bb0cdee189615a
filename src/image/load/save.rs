//! The engine's own stream of images, sent on while it is read: what no node lacks is skipped.

use std::collections::{BTreeMap, BTreeSet};

use coracle_shared::content::Packing;
use coracle_shared::wire::Layer;
use serde_json::value::RawValue;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::engine::{ByteStream, Engine};
use crate::error::{Code, Error, Result};
use crate::image::archive::digest::digest;
use crate::image::archive::images::resolve;
use crate::image::archive::layout::ArchiveImage;
use crate::image::archive::scan::{Check, Entry, scan};
use crate::image::load::archive::send_images;
use crate::image::load::fan_out::{FanOut, Source, not_sent};
use crate::image::load::wanted::WantedImage;
use crate::image::platform::Platform;

/// The stream of images that the engine saves.
pub(crate) struct Saved {
    stream: ByteStream,
    /// The images that were requested.
    wanted: Vec<WantedImage>,
    platform: Platform,
}

/// Asks the engine to save images.
pub(crate) async fn save(engine: &dyn Engine, wanted: Vec<WantedImage>, platform: Platform) -> Result<Saved> {
    let keys: BTreeSet<String> = wanted.iter().map(|image| image.key.clone()).collect();
    let stream = engine.save_images(&keys.into_iter().collect::<Vec<_>>()).await?;
    Ok(Saved { stream, wanted, platform })
}

impl Source for Saved {
    fn send(self: Box<Self>, fan_out: &mut FanOut) -> Result<()> {
        let source = SyncIoBridge::new(StreamReader::new(self.stream));
        let known = Known::of(&self.wanted);
        let mut failure = None;
        let found = scan(source, Check::Structure, &mut |entry, content| {
            let Some(layer) = known.layer(entry) else { return Ok(()) };
            let sent = fan_out.layer(&layer, content);
            failure = sent.as_ref().err().map(not_sent);
            sent
        });
        let found = found.map_err(|error| failure.unwrap_or_else(|| of_engine(error)))?;
        let mut images = resolve(&found, &self.platform).map_err(of_engine)?.images;
        identify(&mut images, &self.wanted)?;
        send_images(&found, &images, fan_out)
    }
}

/// The error without the words about a user's file: the engine has sent this one.
fn of_engine(error: Error) -> Error {
    if error.code() != Code::ArchiveInvalid {
        return error;
    }
    Error::new(Code::LoadFailed, "the images cannot be used as the engine saves them")
        .because(error.cause().unwrap_or(error.message()).to_owned())
        .hint("check whether `docker save` works; pull or build the image again")
}

/// Gives the images the IDs and the names by which they were requested.
fn identify(images: &mut Vec<ArchiveImage>, wanted: &[WantedImage]) -> Result<()> {
    let named = wanted.iter().map(|image| {
        let same = |other: &&ArchiveImage| other.id == image.id || other.listed.as_ref() == Some(&image.id);
        let Some(found) = images.iter().find(same) else {
            return Err(Error::new(Code::LoadFailed, format!("the engine did not save image `{}`", image.key))
                .hint("it may have been removed or tagged again in the meantime; try again"));
        };
        Ok(ArchiveImage { asked: image.id.clone(), names: image.names.clone(), ..found.clone() })
    });
    *images = named.collect::<Result<_>>()?;
    Ok(())
}

/// The layers that may arrive, by what is known about the images beforehand.
struct Known {
    /// Digests of the unpacked layers, by the ID of the chain of a layer and all layers below it.
    chains: BTreeMap<String, String>,
}

impl Known {
    fn of(wanted: &[WantedImage]) -> Self {
        let mut chains = BTreeMap::new();
        for image in wanted {
            let mut below: Option<String> = None;
            for diff_id in &image.diff_ids {
                let chain =
                    below.map_or_else(|| diff_id.clone(), |below| digest(format!("{below} {diff_id}").as_bytes()));
                chains.insert(chain.clone(), diff_id.clone());
                below = Some(chain);
            }
        }
        Self { chains }
    }

    /// The layer that a file is: one without a digest if it may be a layer, and `None` if it cannot be one.
    fn layer(&self, entry: &Entry<'_>) -> Option<Layer> {
        let packing = entry.packing;
        if let Some(hex) = entry.path.strip_prefix("blobs/sha256/") {
            let digest = format!("sha256:{hex}");
            return match packing {
                Packing::Plain => self
                    .chains
                    .values()
                    .any(|diff_id| *diff_id == digest)
                    .then_some(Layer { diff_id: Some(digest), packing }),
                _ => Some(Layer { diff_id: None, packing }),
            };
        }
        let id = entry.path.strip_suffix("/layer.tar")?;
        let description = entry.kept.get(&format!("{id}/json"));
        let diff_id = description.and_then(|text| self.by_old_id(id, text));
        Some(Layer { diff_id, packing })
    }

    /// Docker names a layer by the digest of its description, which contains the ID of the layer's chain, but leaves that ID out of the archive.
    fn by_old_id(&self, id: &str, description: &[u8]) -> Option<String> {
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(description).ok()?;
        fields.remove("id");
        let parent: Option<String> = fields.remove("parent").and_then(|raw| serde_json::from_str(raw.get()).ok());
        if let Some(parent) = parent {
            fields.insert("parent".to_owned(), raw(&format!("sha256:{parent}"))?);
        }
        let system = fields.remove("os");
        for (chain, diff_id) in &self.chains {
            fields.insert("layer_id".to_owned(), raw(chain)?);
            // The description of the topmost layer has the operating system in it; the others get it only after their ID was made.
            for system in [None, system.clone()] {
                fields.remove("os");
                fields.extend(system.map(|system| ("os".to_owned(), system)));
                let text = serde_json::to_vec(&fields).ok()?;
                if digest(&text).strip_prefix("sha256:") == Some(id) {
                    return Some(diff_id.clone());
                }
            }
        }
        None
    }
}

fn raw(text: &str) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(text).ok()
}
