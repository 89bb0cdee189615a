//! An image of one layer as the tar that engines load.

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use crate::engine::ByteStream;
use crate::error::{Code, Error, Result};
use crate::node_image::system::Layer;

/// Tars are made of blocks of this many bytes.
const BLOCK: u64 = 512;
/// Two empty blocks end a tar.
const END: u64 = 2 * BLOCK;

/// The image as a stream: the layer is read while it is sent.
pub(super) async fn stream(layer: &Layer, name: &str, configuration: &Value) -> Result<ByteStream> {
    let head = head(layer, name, configuration).map_err(|source| {
        Error::new(Code::BuildFailed, format!("cannot write the configuration of `{name}`")).with_cause(&source)
    })?;
    let tail = Bytes::from(vec![0; usize::try_from(padding(layer.size) + END).unwrap_or_default()]);
    let once = |bytes: Bytes| futures_util::stream::once(async move { Ok(bytes) });
    Ok(once(head.into()).chain(file(&layer.file).await?).chain(once(tail)).boxed())
}

/// A file as a stream.
pub(super) async fn file(path: &std::path::Path) -> Result<ByteStream> {
    let opened = tokio::fs::File::open(path).await.map_err(|source| {
        Error::new(Code::FileFailed, format!("cannot read `{}`", path.display())).with_cause(&source)
    })?;
    Ok(Box::pin(ReaderStream::with_capacity(opened, 1 << 18)))
}

/// Everything before the layer's bytes.
fn head(layer: &Layer, name: &str, configuration: &Value) -> std::io::Result<Vec<u8>> {
    let created = "2026-01-01T00:00:00Z";
    let configuration = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": configuration,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.hash)]},
        "history": [{"created": created, "created_by": "coracle build node-image"}],
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in [("manifest.json", manifest), ("config.json", configuration)] {
        let content = content.to_string().into_bytes();
        tar.append(&header(path, content.len() as u64)?, content.as_slice())?;
    }
    let mut head = tar.into_inner()?;
    head.truncate(head.len() - usize::try_from(END).unwrap_or_default());
    head.extend_from_slice(header("layer.tar", layer.size)?.as_bytes());
    Ok(head)
}

fn header(path: &str, size: u64) -> std::io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path)?;
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// How many bytes complete the last block.
fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn the_stream_is_a_tar_with_the_layer_in_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("layer");
        std::fs::write(&path, b"not really a layer").unwrap();
        let layer = Layer { file: path, hash: "aa".to_owned(), size: 18 };
        let stream = stream(&layer, "a/b:c", &json!({"User": "x"})).await.unwrap();
        let bytes: Vec<Bytes> = stream.try_collect().await.unwrap();
        let bytes = bytes.concat();
        assert_eq!(bytes.len() % 512, 0);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            found.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(found.len(), 3);
        assert!(found[0].1.contains("a/b:c"));
        assert!(found[1].1.contains("sha256:aa"));
        assert_eq!(found[2], ("layer.tar".to_owned(), "not really a layer".to_owned()));
    }
}
