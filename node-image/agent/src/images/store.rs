//! What a node has of the requested images.

use std::collections::HashMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::containerd::Containerd;
use super::proto::{Descriptor, Image};
use super::trouble::{Result, damaged};
use coracle_shared::wire::{ImageRequest, ImageState};

/// The ID under which an image was loaded, if it is the digest of an index or a manifest and not of the configuration.
pub(super) const ID_LABEL: &str = "dev.coracle.id";

/// The part of a manifest that is needed here.
#[derive(Debug, Deserialize)]
struct Manifest {
    config: Blob,
}

#[derive(Debug, Deserialize)]
struct Blob {
    digest: String,
}

/// The part of a configuration that is needed here.
#[derive(Debug, Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// The image records of a node, and the image of each.
pub(super) struct Records {
    records: Vec<Image>,
    /// Image IDs, by the digests to which records point.
    ids: HashMap<String, String>,
}

impl Records {
    pub(super) async fn read(containerd: &mut Containerd) -> Result<Self> {
        let records = containerd.images().await?;
        let target = |record: &Image| Some(record.target.as_ref()?.digest.clone());
        // The kubelet's runtime also keeps each image under its ID.
        let named = records.iter().filter(|record| record.name.starts_with("sha256:"));
        let ids = named.filter_map(|record| Some((target(record)?, record.name.clone()))).collect();
        Ok(Self { records, ids })
    }

    /// The ID of the image of a record; a manifest is read only if the kubelet does not know the image.
    async fn id(&self, containerd: &mut Containerd, target: &Descriptor) -> Result<Option<String>> {
        if let Some(id) = self.ids.get(&target.digest) {
            return Ok(Some(id.clone()));
        }
        let manifest = containerd.blob(&target.digest).await?;
        Ok(manifest.and_then(|text| serde_json::from_slice::<Manifest>(&text).ok()).map(|found| found.config.digest))
    }

    /// The image with this ID: the target of its records, and the digest of its configuration.
    pub(super) fn find(&self, id: &str) -> Option<(&Descriptor, &String)> {
        let is_it = |record: &&Image| {
            record.name == id
                || record.labels.get(ID_LABEL).is_some_and(|label| label == id)
                || record.target.as_ref().is_some_and(|target| target.digest == id)
        };
        self.records.iter().filter(is_it).find_map(|record| {
            let target = record.target.as_ref()?;
            Some((target, self.ids.get(&target.digest)?))
        })
    }

    /// What the node has of an image.
    pub(super) async fn state(&self, containerd: &mut Containerd, wanted: &ImageRequest) -> Result<ImageState> {
        let mut found = self.find(&wanted.id).map(|(_, image)| image.clone());
        let mut chains = chain_ids(&wanted.diff_ids);
        if let Some(image) = &found {
            // Its configuration lists its layers, even if the command does not know them.
            match containerd.blob(image).await? {
                Some(config) => chains = chain_ids(&diff_ids(&config)?),
                None => found = None,
            }
        }
        let layers = present(containerd, &chains).await?;
        if layers < chains.len() {
            found = None;
        }
        let (mut lacks, mut moved) = (Vec::new(), Vec::new());
        for name in &wanted.names {
            let target = self.records.iter().find(|record| record.name == *name);
            let named = match target.and_then(|record| record.target.as_ref()) {
                Some(target) => self.id(containerd, target).await?,
                None => None,
            };
            if named.is_none() || named != found {
                lacks.push(name.clone());
            }
            if named.is_some_and(|named| named != wanted.id && Some(&named) != found.as_ref()) {
                moved.push(name.clone());
            }
        }
        Ok(ImageState { image: found, lacks, moved, layers })
    }
}

/// How many of the lowest layers the node has.
pub(super) async fn present(containerd: &mut Containerd, chains: &[String]) -> Result<usize> {
    for (index, chain) in chains.iter().enumerate().rev() {
        if containerd.snapshot(chain).await?.is_some() {
            return Ok(index + 1);
        }
    }
    Ok(0)
}

/// The layers of an image, from its configuration.
pub(super) fn diff_ids(config: &[u8]) -> Result<Vec<String>> {
    let config: Config = serde_json::from_slice(config)
        .map_err(|source| damaged(format!("the image's configuration is damaged: {source}")))?;
    Ok(config.rootfs.diff_ids)
}

/// The chain ID of each layer: its name together with all layers below it.
pub(super) fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chains: Vec<String> = Vec::new();
    for diff_id in diff_ids {
        chains.push(match chains.last() {
            Some(below) => format!("sha256:{:x}", Sha256::digest(format!("{below} {diff_id}"))),
            None => diff_id.clone(),
        });
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_named_as_containerd_names_it() {
        let diff_ids = ["sha256:one", "sha256:two"].map(str::to_owned);
        let expected = format!("sha256:{:x}", Sha256::digest("sha256:one sha256:two"));
        assert_eq!(chain_ids(&diff_ids), ["sha256:one".to_owned(), expected]);
    }
}
