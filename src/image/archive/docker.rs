//! Docker's own layout: `manifest.json` lists the images and the files of their layers.

use coracle_shared::content::Packing;
use serde::Deserialize;

use crate::error::Result;
use crate::image::archive::digest::digest;
use crate::image::archive::invalid::invalid;
use crate::image::archive::layout::{
    ArchiveImage, ArchiveLayer, ImageConfig, digest_of, json, missing_or_wrong, parse_name, text, wrong_platform,
};
use crate::image::archive::scan::Scan;
use crate::image::platform::Platform;

/// One image in Docker's own list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerEntry {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

/// Finds the images of the list.
pub(crate) fn images(scan: &Scan, platform: &Platform) -> Result<Vec<ArchiveImage>> {
    let entries: Vec<DockerEntry> = json(scan, "manifest.json")?;
    entries.iter().map(|entry| image(scan, entry, platform)).collect()
}

fn image(scan: &Scan, entry: &DockerEntry, node: &Platform) -> Result<ArchiveImage> {
    let config: ImageConfig = json(scan, &entry.config)?;
    let content = scan.kept.get(&entry.config).ok_or_else(|| missing_or_wrong(scan, &entry.config))?;
    let id = digest(content);
    let stem = entry.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if stem.len() == 64 && id != format!("sha256:{stem}") {
        return Err(invalid(format!("its file `{}` is damaged: the digest is {id}", entry.config)));
    }
    if config.platform.distance(node).is_none() {
        let name = entry.repo_tags.iter().flatten().next().unwrap_or(&id);
        return Err(wrong_platform(&format!("`{name}`"), &config.platform, node));
    }
    if entry.layers.len() != config.rootfs.diff_ids.len() {
        return Err(invalid(format!("its files `manifest.json` and `{}` disagree about the layers", entry.config)));
    }
    let mut layers = Vec::new();
    let mut size = content.len() as u64;
    for (path, diff_id) in entry.layers.iter().zip(&config.rootfs.diff_ids) {
        let (path, layer_size) = layer(scan, path, diff_id)?;
        layers.push(ArchiveLayer { path, diff_id: diff_id.clone() });
        size += layer_size;
    }
    Ok(ArchiveImage {
        names: entry.repo_tags.iter().flatten().map(|name| parse_name(name)).collect::<Result<_>>()?,
        asked: id.clone(),
        id,
        listed: None,
        config: text(content, &entry.config)?,
        manifest: None,
        layers,
        size,
    })
}

fn layer(scan: &Scan, path: &str, diff_id: &str) -> Result<(String, u64)> {
    // Docker 20.10 writes a layer that two images share once, and links to it.
    let mut path = path;
    for _ in 0..8 {
        path = scan.links.get(path).map_or(path, String::as_str);
    }
    let facts = scan.files.get(path).ok_or_else(|| missing_or_wrong(scan, path))?;
    let digest = digest_of(scan, path, facts);
    let unpacked = if facts.packing == Packing::Plain { digest.as_ref() } else { facts.unpacked.as_ref() };
    if unpacked.is_some_and(|unpacked| unpacked != diff_id) {
        return Err(invalid(format!("its layer `{path}` is damaged: the digest is not {diff_id}")));
    }
    Ok((path.to_owned(), facts.size))
}
