//! An engine with containerd's image store: everything is a blob with a digest, and layers are as they were pulled.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{diff_ids, digest, hex, read_small, unexpected};
use coracle_shared::content::Packing;

/// No sensible image leads to more manifests.
const MAX_MANIFESTS: usize = 500;
/// Indexes may contain indexes; none in practice is nested deeper.
const MAX_DEPTH: u8 = 4;

/// containerd's content store.
pub(crate) struct Blobs {
    directory: PathBuf,
}

/// An image of this store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BlobImage {
    /// Its configuration, byte for byte.
    pub(crate) config: Vec<u8>,
    /// Its manifest, byte for byte.
    pub(crate) manifest: Vec<u8>,
    /// The kind of its manifest.
    pub(crate) media_type: String,
    /// Digests of its layers as they are stored, lowest first.
    pub(crate) layers: Vec<String>,
}

#[derive(Deserialize)]
struct Pointer {
    digest: String,
}

/// An index or a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Vec<Pointer>,
    config: Option<Pointer>,
    #[serde(default)]
    layers: Vec<Pointer>,
}

impl Blobs {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.join("blobs/sha256") }
    }

    /// The image with these layers among those that an ID leads to, which is that of a manifest or an index.
    ///
    /// The engine has listed the layers of the image for its platform, so nothing else about platforms is needed, and it
    /// does not matter if others are missing or if an entry only describes an image.
    pub(crate) fn image(&self, id: &str, wanted: &[String]) -> io::Result<BlobImage> {
        let mut left = MAX_MANIFESTS;
        self.find(id, wanted, 0, &mut left)?.ok_or_else(|| unexpected(format!("{id} has no such image")))
    }

    fn find(&self, id: &str, wanted: &[String], depth: u8, left: &mut usize) -> io::Result<Option<BlobImage>> {
        *left = left.checked_sub(1).ok_or_else(|| unexpected("an index has too many entries"))?;
        let content = self.document(id)?;
        let document: Document = serde_json::from_slice(&content)?;
        if let Some(config) = document.config {
            let Some(config) = absent_is_none(self.document(&config.digest))? else { return Ok(None) };
            let found = diff_ids(&config).is_ok_and(|found| found == wanted) && wanted.len() == document.layers.len();
            let layers = document.layers.into_iter().map(|layer| layer.digest).collect();
            let image = BlobImage { config, manifest: content, media_type: document.media_type, layers };
            return Ok(found.then_some(image));
        }
        for child in document.manifests.iter().filter(|_| depth < MAX_DEPTH) {
            if let Some(Some(found)) = absent_is_none(self.find(&child.digest, wanted, depth + 1, left))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn document(&self, id: &str) -> io::Result<Vec<u8>> {
        let content = read_small(&self.directory.join(hex(id)?))?;
        if digest(&content) == id { Ok(content) } else { Err(unexpected(format!("{id} is damaged"))) }
    }

    /// A layer, its size and how it is packed.
    pub(crate) fn layer(&self, digest: &str) -> io::Result<(File, u64, Packing)> {
        let path = self.directory.join(hex(digest)?);
        let mut head = Vec::new();
        File::open(&path)?.take(4).read_to_end(&mut head)?;
        let packing = match head[..] {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
            _ => Packing::Plain,
        };
        let file = File::open(&path)?;
        let size = file.metadata()?.len();
        Ok((file, size, packing))
    }
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Default)]
    struct Store(Vec<Vec<u8>>);

    impl Store {
        fn add(&mut self, content: impl Into<Vec<u8>>) -> String {
            self.0.push(content.into());
            digest(self.0.last().unwrap())
        }

        fn image(&mut self, layer: &[u8], diff_id: &str) -> String {
            let config = self.add(json!({"os": "linux", "rootfs": {"diff_ids": [diff_id]}}).to_string());
            let layer = self.add(layer);
            let manifest = json!({"mediaType": "m", "config": {"digest": config}, "layers": [{"digest": layer}]});
            self.add(manifest.to_string())
        }

        fn index(&mut self, entries: &[&String]) -> String {
            let entries: Vec<_> = entries.iter().map(|digest| json!({"digest": digest})).collect();
            self.add(json!({"manifests": entries}).to_string())
        }

        fn on_disk(&self) -> (tempfile::TempDir, Blobs) {
            let directory = tempfile::tempdir().unwrap();
            let blobs = Blobs::new(directory.path());
            std::fs::create_dir_all(&blobs.directory).unwrap();
            for content in &self.0 {
                std::fs::write(blobs.directory.join(hex(&digest(content)).unwrap()), content).unwrap();
            }
            (directory, blobs)
        }
    }

    fn wanted(text: &str) -> [String; 1] {
        [text.to_owned()]
    }

    #[test]
    fn an_image_is_found_by_its_layers_among_platforms_and_attestations() {
        let mut store = Store::default();
        let other = store.image(b"other", "sha256:other");
        let attestation = store.image(br#"{"_type": "statement"}"#, "sha256:statement");
        let mine = store.image(b"\x1f\x8b packed", "sha256:mine");
        let absent = digest(b"another platform");
        let inner = store.index(&[&mine]);
        let index = store.index(&[&absent, &attestation, &other, &inner]);
        let (_directory, blobs) = store.on_disk();
        let found = blobs.image(&index, &wanted("sha256:mine")).unwrap();
        assert_eq!(digest(&found.manifest), mine);
        assert_eq!(found, blobs.image(&mine, &wanted("sha256:mine")).unwrap());
        assert_eq!(found.layers, [digest(b"\x1f\x8b packed")]);
        let (_, size, packing) = blobs.layer(&found.layers[0]).unwrap();
        assert_eq!((size, packing), (9, Packing::Gzip));
        blobs.image(&index, &wanted("sha256:none")).unwrap_err();
    }

    #[test]
    fn an_image_that_is_absent_damaged_or_leads_nowhere_is_an_error() {
        let mut store = Store::default();
        let noise = store.add(*b"noise");
        let image = store.image(b"layer", "sha256:mine");
        let mut deep = image.clone();
        for _ in 0..6 {
            deep = store.index(&[&deep]);
        }
        let (_directory, blobs) = store.on_disk();
        for id in [&digest(b"absent"), &noise, &deep, "sha256:/etc/passwd"] {
            blobs.image(id, &wanted("sha256:mine")).unwrap_err();
        }
        std::fs::write(blobs.directory.join(hex(&image).unwrap()), "{}").unwrap();
        assert!(blobs.image(&image, &wanted("sha256:mine")).unwrap_err().to_string().contains("is damaged"));
    }
}
