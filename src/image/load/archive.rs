//! An archive as a source: it is read a second time, now that it is known what the nodes lack.

use std::collections::BTreeSet;

use coracle_shared::wire::{Image, Layer};

use crate::error::Result;
use crate::image::archive::layout::ArchiveImage;
use crate::image::archive::scan::Scan;
use crate::image::archive::verified::VerifiedArchive;
use crate::image::load::fan_out::{FanOut, Source, not_sent};
use crate::image::reference::Reference;

impl Source for VerifiedArchive {
    fn send(mut self: Box<Self>, fan_out: &mut FanOut) -> Result<()> {
        let mut failure = None;
        let read = self.read_layers(&mut |diff_id, packing, content| {
            let sent = fan_out.layer(&Layer { diff_id: Some(diff_id.to_owned()), packing }, content);
            failure = sent.as_ref().err().map(not_sent);
            sent
        });
        read.map_err(|error| failure.unwrap_or(error))?;
        send_images(&self.found, &self.images, fan_out)
    }
}

/// Sends what was kept in memory, and then the images: all their other layers were sent before.
pub(crate) fn send_images(found: &Scan, images: &[ArchiveImage], fan_out: &mut FanOut) -> Result<()> {
    let mut sent = BTreeSet::new();
    for layer in images.iter().flat_map(|image| &image.layers).filter(|layer| sent.insert(&layer.path)) {
        if let (Some(content), Some(facts)) = (found.kept.get(&layer.path), found.files.get(&layer.path)) {
            let known = Layer { diff_id: Some(layer.diff_id.clone()), packing: facts.packing };
            fan_out.layer(&known, &mut content.as_slice()).map_err(|source| not_sent(&source))?;
        }
    }
    for image in images {
        let image = Image {
            id: image.asked.clone(),
            names: image.names.iter().map(Reference::to_string).collect(),
            config: image.config.clone(),
            manifest: image.manifest.clone(),
        };
        fan_out.image(&image).map_err(|source| not_sent(&source))?;
    }
    Ok(())
}
