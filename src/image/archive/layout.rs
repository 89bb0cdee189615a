//! The parts of an image archive, whichever layout it has.

use std::collections::BTreeMap;

use coracle_shared::content;
use serde::Deserialize;

use crate::error::{Code, Error, Result};
use crate::image::archive::digest::digest;
use crate::image::archive::invalid::invalid;
use crate::image::archive::meter::FileFacts;
use crate::image::archive::scan::Scan;
use crate::image::platform::Platform;
use crate::image::reference::Reference;

/// Points to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    /// Bytes.
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Lists the blobs of an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(default)]
    pub media_type: String,
    /// What it is if it is no image.
    #[serde(default)]
    pub artifact_type: String,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// What it is if it is no image: a chart, a signature or another artifact, which only has an image's form.
    pub(crate) fn other_kind(&self) -> Option<String> {
        let is_image =
            ["", "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
        let is_layer = |layer: &Descriptor| {
            let kind = layer.media_type.as_str();
            kind.is_empty()
                || kind.starts_with("application/vnd.oci.image.layer.")
                || kind.starts_with("application/vnd.docker.image.rootfs.")
        };
        if !is_image.contains(&self.config.media_type.as_str()) {
            // A generic configuration says nothing; then the kind of the artifact or of its content does.
            let kinds = [&self.artifact_type, &self.config.media_type];
            let generic = |kind: &str| kind.is_empty() || kind.contains(".empty.") || kind.contains(".unknown.");
            let kind =
                kinds.into_iter().find(|kind| !generic(kind)).or(self.layers.first().map(|layer| &layer.media_type));
            return Some(kind.unwrap_or(&self.config.media_type).clone());
        }
        // Signatures and attestations have an image's configuration.
        self.layers.iter().find(|layer| !is_layer(layer)).map(|layer| layer.media_type.clone())
    }
}

/// The part of an image's configuration that is needed here.
#[derive(Debug, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(flatten)]
    pub platform: Platform,
    pub rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

/// What an archive contains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub images: Vec<ArchiveImage>,
    /// Entries that are no images: the name, and what they are.
    pub others: Vec<(String, String)>,
}

/// An image of an archive, ready for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArchiveImage {
    pub names: Vec<Reference>,
    /// Image ID: the digest of its configuration.
    pub id: String,
    /// The ID by which it was requested.
    pub asked: String,
    /// Digest of the manifest or index that the list of the archive points to.
    pub listed: Option<String>,
    pub config: String,
    /// The manifest; Docker's own layout has none.
    pub manifest: Option<content::Manifest>,
    /// The layers, lowest first.
    pub layers: Vec<ArchiveLayer>,
    /// Size of configuration and layers, bytes.
    pub size: u64,
}

/// A layer of an image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArchiveLayer {
    /// Its path in the archive.
    pub path: String,
    /// Digest of the unpacked layer.
    pub diff_id: String,
}

/// Reads a JSON file of the archive.
pub(crate) fn json<'a, T: Deserialize<'a>>(scan: &'a Scan, path: &str) -> Result<T> {
    let content = scan.kept.get(path).ok_or_else(|| missing_or_wrong(scan, path))?;
    serde_json::from_slice(content).map_err(|source| invalid(format!("its file `{path}` is damaged: {source}")))
}

/// A file that cannot be used.
pub(crate) fn missing_or_wrong(scan: &Scan, path: &str) -> Error {
    match scan.files.get(path) {
        Some(_) => invalid(format!("its file `{path}` is damaged")),
        None => invalid(format!("its file `{path}` is missing")),
    }
}

/// The digest of a file, if it is known; that of a kept file always is.
pub(crate) fn digest_of(scan: &Scan, path: &str, facts: &FileFacts) -> Option<String> {
    facts.digest.clone().or_else(|| scan.kept.get(path).map(|content| digest(content)))
}

/// An image that the nodes cannot run.
pub(crate) fn wrong_platform(what: &str, found: &Platform, node: &Platform) -> Error {
    Error::new(Code::LoadFailed, format!("image {what} is for {found}, but the nodes are {node}"))
        .hint(format!("build or pull it with `--platform {node}`"))
}

/// The text of a small file.
pub(crate) fn text(content: &[u8], path: &str) -> Result<String> {
    String::from_utf8(content.to_vec()).map_err(|_| invalid(format!("its file `{path}` is damaged")))
}

/// Reads a name that the archive gives.
pub(crate) fn parse_name(name: &str) -> Result<Reference> {
    name.parse().map_err(|_| invalid(format!("its image name `{name}` is not valid")))
}
