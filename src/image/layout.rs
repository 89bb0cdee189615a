//! What the files of an image archive mean: the layouts of Docker and OCI, brought to one form.
//!
//! Multi-platform images are reduced to the one manifest for the nodes' platform: an engine with containerd's store
//! saves the whole index although it has one platform's blobs, and an import that follows the index then fails.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::archive::{FileFacts, Packing, Scan, digest, invalid};
use super::platform::Platform;
use super::reference::Reference;
use crate::error::{Code, Error, Result};

/// The full name of an image, in an entry of an OCI index.
pub(super) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The repository of images that come without one.
pub(super) const UNNAMED: &str = "localhost/loaded";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Points to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    /// Kind of the blob.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the blob.
    pub digest: String,
    /// Size of the blob, bytes.
    pub size: u64,
    #[serde(default, skip_serializing)]
    pub platform: Option<Platform>,
    /// Notes about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Lists the blobs of an image.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub schema_version: u8,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// What is needed of an image's configuration.
#[derive(Debug, Deserialize)]
pub(super) struct ImageConfig {
    #[serde(flatten)]
    pub platform: Platform,
    pub rootfs: RootFs,
}

/// The layers of an image.
#[derive(Debug, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

/// One image in Docker's own list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerEntry {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

/// One image of an archive, ready for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArchiveImage {
    /// Full names.
    pub names: Vec<Reference>,
    /// Image ID: the digest of its configuration.
    pub id: String,
    /// Digest of what the archive's own list points to, perhaps an index.
    pub listed: Option<String>,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The manifest's media type.
    pub media_type: String,
    /// Paths of the configuration and the layers in the archive, lowest first.
    pub paths: Vec<String>,
    /// Size of configuration and layers, bytes.
    pub size: u64,
}

/// Finds the images of an archive. `Code::LoadFailed` when one is not for this platform.
pub(super) fn resolve(scan: &Scan, platform: &Platform) -> Result<Vec<ArchiveImage>> {
    let images = if scan.files.contains_key("oci-layout") {
        super::oci::images(scan, platform)?
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
pub(super) fn json<'a, T: Deserialize<'a>>(scan: &'a Scan, path: &str) -> Result<T> {
    let content = scan.kept.get(path).ok_or_else(|| missing_or_wrong(scan, path))?;
    serde_json::from_slice(content).map_err(|source| invalid(format!("`{path}` in it is damaged: {source}")))
}

/// A file that cannot be used.
pub(super) fn missing_or_wrong(scan: &Scan, path: &str) -> Error {
    match scan.files.get(path) {
        Some(_) => invalid(format!("`{path}` in it is damaged")),
        None => invalid(format!("`{path}` is missing in it")),
    }
}

/// The digest of a file if it is known; of kept ones it always is.
pub(super) fn digest_of(scan: &Scan, path: &str, facts: &FileFacts) -> Option<String> {
    facts.digest.clone().or_else(|| scan.kept.get(path).map(|content| digest(content)))
}

/// An image that the nodes cannot run.
pub(super) fn wrong_platform(what: &str, found: &Platform, node: &Platform) -> Error {
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
    let mut paths = vec![entry.config.clone()];
    let mut layers = Vec::new();
    for (path, diff_id) in entry.layers.iter().zip(&config.rootfs.diff_ids) {
        let (path, layer) = docker_layer(scan, path, diff_id)?;
        paths.push(path);
        layers.push(layer);
    }
    let config = descriptor(DOCKER_CONFIG, id.clone(), content.len() as u64);
    let size = config.size + layers.iter().map(|layer| layer.size).sum::<u64>();
    let manifest = Manifest { schema_version: 2, media_type: DOCKER_MANIFEST.to_owned(), config, layers };
    let manifest = serde_json::to_vec(&manifest).map_err(|source| invalid(source.to_string()))?;
    Ok(ArchiveImage {
        names: entry.repo_tags.iter().flatten().map(|name| parse_name(name)).collect::<Result<_>>()?,
        id,
        listed: None,
        manifest,
        media_type: DOCKER_MANIFEST.to_owned(),
        paths,
        size,
    })
}

fn docker_layer(scan: &Scan, path: &str, diff_id: &str) -> Result<(String, Descriptor)> {
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
    // What is not compressed has its diff ID for a digest.
    let digest = match (digest, facts.packing) {
        (Some(digest), _) => digest,
        (None, Packing::Plain) => diff_id.to_owned(),
        (None, _) => return Err(missing_or_wrong(scan, path)),
    };
    let suffix = match facts.packing {
        Packing::Plain => "",
        Packing::Gzip => ".gzip",
        Packing::Zstd => ".zstd",
    };
    Ok((path.to_owned(), descriptor(&format!("{DOCKER_LAYER}{suffix}"), digest, facts.size)))
}

/// A bare descriptor.
pub(super) fn descriptor(media_type: &str, digest: String, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
}

/// Reads a name that the archive gives.
pub(super) fn parse_name(name: &str) -> Result<Reference> {
    name.parse().map_err(|_| invalid(format!("`{name}` in it is not an image name")))
}
