//! What the files of an image archive mean: the layouts of Docker and OCI, brought to one form.
//!
//! Multi-platform images are reduced to the one manifest for the nodes' platform: an engine with containerd's store
//! saves the whole index although it has one platform's blobs, and an import that follows the index then fails.

use std::collections::BTreeMap;

use coracle_shared::content::{self, Packing};
use serde::Deserialize;

use crate::error::{Code, Error, Result};
use crate::image::archive::{FileFacts, Scan, digest, invalid};
use crate::image::platform::Platform;
use crate::image::reference::Reference;

/// Points to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// Kind of the blob.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the blob.
    pub digest: String,
    /// Size of the blob, bytes.
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Notes about it.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Lists the blobs of an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// What is needed of an image's configuration.
#[derive(Debug, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(flatten)]
    pub platform: Platform,
    pub rootfs: RootFs,
}

/// The layers of an image.
#[derive(Debug, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

/// One image in Docker's own list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerEntry {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

/// One image of an archive, ready for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArchiveImage {
    /// Full names.
    pub names: Vec<Reference>,
    /// Image ID: the digest of its configuration.
    pub id: String,
    /// The ID by which it was asked for.
    pub asked: String,
    /// Digest of what the archive's own list points to, perhaps an index.
    pub listed: Option<String>,
    /// The configuration.
    pub config: String,
    /// The manifest; Docker's own layout has none.
    pub manifest: Option<content::Manifest>,
    /// The layers, lowest first.
    pub layers: Vec<ArchiveLayer>,
    /// Size of configuration and layers, bytes.
    pub size: u64,
}

/// One layer of an image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArchiveLayer {
    /// Where it is in the archive.
    pub path: String,
    /// Digest of it unpacked.
    pub diff_id: String,
}

/// Finds the images of an archive. `Code::LoadFailed` when one is not for this platform.
pub(crate) fn resolve(scan: &Scan, platform: &Platform) -> Result<Vec<ArchiveImage>> {
    let images = if scan.files.contains_key("oci-layout") {
        crate::image::archive::oci::images(scan, platform)?
    } else if scan.files.contains_key("manifest.json") {
        docker_images(scan, platform)?
    } else if scan.files.contains_key("repositories") {
        return Err(invalid("it has the layout of Docker 1.9 and older"));
    } else {
        return Err(invalid("it has neither `manifest.json` nor `oci-layout`")
            .hint("what `docker export` writes is a file system: make an image of it with `docker import`"));
    };
    if images.is_empty() {
        return Err(invalid("there is no image in it"));
    }
    Ok(images)
}

/// Reads a JSON file of the archive.
pub(crate) fn json<'a, T: Deserialize<'a>>(scan: &'a Scan, path: &str) -> Result<T> {
    let content = scan.kept.get(path).ok_or_else(|| missing_or_wrong(scan, path))?;
    serde_json::from_slice(content).map_err(|source| invalid(format!("`{path}` in it is damaged: {source}")))
}

/// A file that cannot be used.
pub(crate) fn missing_or_wrong(scan: &Scan, path: &str) -> Error {
    match scan.files.get(path) {
        Some(_) => invalid(format!("`{path}` in it is damaged")),
        None => invalid(format!("`{path}` is missing in it")),
    }
}

/// The digest of a file if it is known; of kept ones it always is.
pub(crate) fn digest_of(scan: &Scan, path: &str, facts: &FileFacts) -> Option<String> {
    facts.digest.clone().or_else(|| scan.kept.get(path).map(|content| digest(content)))
}

/// An image that the nodes cannot run.
pub(crate) fn wrong_platform(what: &str, found: &Platform, node: &Platform) -> Error {
    Error::new(Code::LoadFailed, format!("image {what} is for {found}, and the nodes are {node}"))
        .hint(format!("build or pull it with `--platform {node}`"))
}

fn docker_images(scan: &Scan, platform: &Platform) -> Result<Vec<ArchiveImage>> {
    let entries: Vec<DockerEntry> = json(scan, "manifest.json")?;
    entries.iter().map(|entry| docker_image(scan, entry, platform)).collect()
}

fn docker_image(scan: &Scan, entry: &DockerEntry, node: &Platform) -> Result<ArchiveImage> {
    let config: ImageConfig = json(scan, &entry.config)?;
    let content = scan.kept.get(&entry.config).ok_or_else(|| missing_or_wrong(scan, &entry.config))?;
    let id = digest(content);
    let stem = entry.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if stem.len() == 64 && id != format!("sha256:{stem}") {
        return Err(invalid(format!("`{}` in it is damaged: its digest is {id}", entry.config)));
    }
    if config.platform.distance(node).is_none() {
        let name = entry.repo_tags.iter().flatten().next().unwrap_or(&id);
        return Err(wrong_platform(&format!("`{name}`"), &config.platform, node));
    }
    if entry.layers.len() != config.rootfs.diff_ids.len() {
        return Err(invalid(format!("`manifest.json` and `{}` in it disagree about the layers", entry.config)));
    }
    let mut layers = Vec::new();
    let mut size = content.len() as u64;
    for (path, diff_id) in entry.layers.iter().zip(&config.rootfs.diff_ids) {
        let (path, layer_size) = docker_layer(scan, path, diff_id)?;
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

fn docker_layer(scan: &Scan, path: &str, diff_id: &str) -> Result<(String, u64)> {
    // Docker 20.10 writes a layer that two images share once, and links to it.
    let mut path = path;
    for _ in 0..8 {
        path = scan.links.get(path).map_or(path, String::as_str);
    }
    let facts = scan.files.get(path).ok_or_else(|| missing_or_wrong(scan, path))?;
    let digest = digest_of(scan, path, facts);
    let unpacked = if facts.packing == Packing::Plain { digest.as_ref() } else { facts.unpacked.as_ref() };
    if unpacked.is_some_and(|unpacked| unpacked != diff_id) {
        return Err(invalid(format!("layer `{path}` in it is damaged: its digest is not {diff_id}")));
    }
    Ok((path.to_owned(), facts.size))
}

/// The text of a small file.
pub(crate) fn text(content: &[u8], path: &str) -> Result<String> {
    String::from_utf8(content.to_vec()).map_err(|_| invalid(format!("`{path}` in it is damaged")))
}

/// Reads a name that the archive gives.
pub(crate) fn parse_name(name: &str) -> Result<Reference> {
    name.parse().map_err(|_| invalid(format!("`{name}` in it is not an image name")))
}
