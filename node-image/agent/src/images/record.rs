//! The configuration, manifest and names of an image in the node's store.

use serde_json::json;

use super::adopt::SIZE_LABEL;
use super::containerd::{Containerd, Labels, SNAPSHOTTER};
use super::content::digest;
use super::proto;
use super::store::{ID_LABEL, chain_ids, diff_ids};
use super::trouble::Result;
use coracle_shared::labels::{LOADED, PINNED};
use coracle_shared::wire::{Image, Name, Placed, Stored};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// The repository of images without a name: containerd keeps only what has a name.
const UNNAMED: &str = "localhost/loaded";

/// An image that is complete except for its names.
#[derive(Debug)]
pub(super) struct Prepared {
    id: String,
    /// Digest of its configuration.
    pub image: String,
    /// Full names.
    pub names: Vec<String>,
    target: proto::Descriptor,
    /// Digests of its unpacked layers.
    layers: Vec<String>,
}

/// Writes configuration and manifest.
pub(super) async fn write(containerd: &mut Containerd, image: &Image) -> Result<Prepared> {
    let config = image.config.as_bytes();
    let id = digest(config);
    let layers = diff_ids(config)?;
    let chains = chain_ids(&layers);
    let snapshot = chains.last().map(|top| (format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}"), top.clone()));
    containerd.write_blob(&id, config, snapshot.into_iter().collect()).await?;
    let (media_type, manifest) = match &image.manifest {
        Some(manifest) => (manifest.media_type.clone(), manifest.content.clone()),
        None => (DOCKER_MANIFEST.to_owned(), own_manifest(containerd, config, &id, &chains).await?),
    };
    let manifest = manifest.as_bytes();
    let manifest_id = digest(manifest);
    let labels = Labels::from([("containerd.io/gc.ref.content.config".to_owned(), id.clone())]);
    containerd.write_blob(&manifest_id, manifest, labels).await?;
    let mut names = image.names.clone();
    if names.is_empty() {
        names.push(format!("{UNNAMED}@{manifest_id}"));
    }
    let size = i64::try_from(manifest.len()).unwrap_or_default();
    let target = proto::Descriptor { media_type, digest: manifest_id, size };
    Ok(Prepared { id: image.id.clone(), image: id, names, target, layers })
}

/// A manifest for an image whose engine has none.
async fn own_manifest(containerd: &mut Containerd, config: &[u8], id: &str, chains: &[String]) -> Result<String> {
    let mut layers = Vec::new();
    for (diff_id, chain) in diff_ids(config)?.iter().zip(chains) {
        let labels = containerd.snapshot(chain).await?.unwrap_or_default();
        let size = match labels.get(SIZE_LABEL).and_then(|size| size.parse::<u64>().ok()) {
            Some(size) => size,
            // A layer that was not loaded by this program; sizes are only for display.
            None => containerd.usage(chain).await?,
        };
        layers.push(json!({"mediaType": DOCKER_LAYER, "digest": diff_id, "size": size}));
    }
    let config = json!({"mediaType": DOCKER_CONFIG, "digest": id, "size": config.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers});
    Ok(manifest.to_string())
}

impl Prepared {
    /// An image that the node had before, and that only gets names.
    pub(super) fn there(name: &Name, target: &proto::Descriptor, image: &str) -> Self {
        Self {
            id: name.id.clone(),
            image: image.to_owned(),
            names: name.names.clone(),
            target: target.clone(),
            layers: Vec::new(),
        }
    }

    /// Assigns its names to it.
    pub(super) async fn show(&self, containerd: &mut Containerd) -> Result<()> {
        for name in &self.names {
            let mut labels =
                Labels::from([PINNED, (LOADED, "true")].map(|(label, value)| (label.to_owned(), value.to_owned())));
            // Set even if it is empty: the name may have belonged to another image, whose label would stay.
            labels.insert(ID_LABEL.to_owned(), if self.id == self.image { String::new() } else { self.id.clone() });
            let image = proto::Image { name: name.clone(), labels, target: Some(self.target.clone()) };
            containerd.set_image(image).await?;
        }
        Ok(())
    }

    /// The report for the command, with those of the layers that are its own.
    pub(super) fn stored(self, placed: &[Placed]) -> Stored {
        let layers = placed.iter().filter(|layer| self.layers.contains(&layer.diff_id)).cloned().collect();
        Stored { id: self.id, image: self.image, names: self.names, layers }
    }
}
