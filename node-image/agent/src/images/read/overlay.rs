//! The engine's own store with the storage driver overlay2: configurations by digest, layers by chain ID.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::tar_split::Split;
use super::{chain_ids, diff_ids, digest, hex, read_small, unexpected};

/// `image/overlay2` and `overlay2` of the engine's data root.
pub(crate) struct Overlay {
    images: PathBuf,
    layers: PathBuf,
}

/// An image of this store.
pub(crate) struct OverlayImage {
    /// Its configuration, byte for byte.
    pub(crate) config: Vec<u8>,
    /// Diff ID and chain ID of each layer, lowest first.
    pub(crate) layers: Vec<(String, String)>,
}

impl Overlay {
    pub(crate) fn new(images: &Path, layers: &Path) -> Self {
        Self { images: images.to_owned(), layers: layers.to_owned() }
    }

    /// The image of this ID.
    pub(crate) fn image(&self, id: &str) -> io::Result<OverlayImage> {
        let config = read_small(&self.images.join("imagedb/content/sha256").join(hex(id)?))?;
        if digest(&config) != id {
            return Err(unexpected(format!("the configuration of {id} is damaged")));
        }
        let diff_ids = diff_ids(&config)?;
        let chain = chain_ids(&diff_ids);
        Ok(OverlayImage { config, layers: diff_ids.into_iter().zip(chain).collect() })
    }

    /// The layer of this chain ID.
    pub(crate) fn layer(&self, diff_id: &str, chain_id: &str) -> io::Result<Split> {
        let facts = self.images.join("layerdb/sha256").join(hex(chain_id)?);
        let text = |name: &str| fs::read_to_string(facts.join(name));
        if text("diff")?.trim() != diff_id {
            return Err(unexpected(format!("layer {chain_id} does not match its name")));
        }
        let cache = text("cache-id")?;
        let cache = cache.trim();
        if cache.is_empty() || !cache.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(unexpected(format!("layer {chain_id} has no directory")));
        }
        Split::open(&facts.join("tar-split.json.gz"), &self.layers.join(cache).join("diff"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Sum, engine};
    use super::*;

    /// Compares every layer of this machine's engine byte for byte, if its store is readable.
    #[test]
    fn the_engines_own_layers_are_put_together_again() {
        let Some((root, ids)) = engine() else { return };
        let store = Overlay::new(&root.join("image/overlay2"), &root.join("overlay2"));
        let mut seen = std::collections::BTreeSet::new();
        for id in ids {
            for (diff_id, chain_id) in store.image(&id).unwrap().layers {
                let layer = store.layer(&diff_id, &chain_id).unwrap();
                let size = layer.size(true).unwrap();
                // A debug build hashes slowly.
                if size > 64 << 20 || !seen.insert(diff_id.clone()) {
                    continue;
                }
                let mut sum = Sum::default();
                layer.write(&mut sum).unwrap();
                assert_eq!(sum.size, size);
                // The engine itself does not know how these were written.
                if sum.sparse {
                    continue;
                }
                assert_eq!(sum.digest(), diff_id);
            }
        }
    }

    #[test]
    fn what_is_not_there_or_not_its_digest_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = Overlay::new(directory.path(), directory.path());
        let id = digest(b"{}");
        store.image(&id).err().unwrap();
        for id in ["sha256:../../../etc/passwd", "latest", "sha256:", ""] {
            assert!(store.image(id).err().unwrap().to_string().contains("is not a digest"), "{id}");
        }
        let content = directory.path().join("imagedb/content/sha256");
        fs::create_dir_all(&content).unwrap();
        fs::write(content.join(hex(&id).unwrap()), "{} ").unwrap();
        assert!(store.image(&id).err().unwrap().to_string().contains("is damaged"));
    }
}
