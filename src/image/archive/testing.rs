//! Small image archives, made in memory for tests.

use std::io::Write;

use serde_json::{Value, json};

use crate::image::archive::digest::digest;

/// A tar of these files.
pub(crate) fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some((path, target)) = path.split_once(" -> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
        } else {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content.as_slice()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer with one file.
pub(crate) fn layer(text: &str) -> Vec<u8> {
    tar_of(&[("etc/text".to_owned(), text.repeat(50).into_bytes())])
}

pub(crate) fn config(layers: &[Vec<u8>], architecture: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
        .into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    digest(bytes).replace("sha256:", "")
}

/// An archive as Docker 20.10 saves it: each layer in a directory of its own, a shared one as a link, the list last.
pub(crate) fn docker_archive(tags: &[&str], texts: &[&str]) -> Vec<u8> {
    let layers: Vec<Vec<u8>> = texts.iter().map(|text| layer(text)).collect();
    let config = config(&layers, "amd64");
    let mut files = Vec::new();
    let mut paths = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let path = format!("{number:064}/layer.tar");
        match layers.iter().take(number).position(|other| other == layer) {
            Some(other) => files.push((format!("{path} -> ../{other:064}/layer.tar"), Vec::new())),
            None => files.push((path.clone(), layer.clone())),
        }
        files.push((format!("{number:064}/VERSION"), b"1.0".to_vec()));
        files.push((format!("{number:064}/json"), b"{\"id\":\"x\"}".to_vec()));
        paths.push(path);
    }
    let name = format!("{}.json", hex(&config));
    files.push((name.clone(), config));
    files.push(("manifest.json".to_owned(), docker_list(&name, tags, &paths)));
    files.push(("repositories".to_owned(), b"{}".to_vec()));
    tar_of(&files)
}

/// The same archive as some programs write it: an entry in the list for each name.
pub(crate) fn docker_archive_by_name(tags: &[&str], texts: &[&str]) -> Vec<u8> {
    let layers: Vec<Vec<u8>> = texts.iter().map(|text| layer(text)).collect();
    let config = config(&layers, "amd64");
    let name = format!("{}.json", hex(&config));
    let paths: Vec<String> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
    let entry = |tag: &&str| json!({"Config": name, "RepoTags": [tag], "Layers": paths});
    let list: Vec<Value> = tags.iter().map(entry).collect();
    let mut files: Vec<(String, Vec<u8>)> = paths.iter().cloned().zip(layers).collect();
    files.push((name.clone(), config));
    files.push(("manifest.json".to_owned(), json!(list).to_string().into_bytes()));
    tar_of(&files)
}

fn docker_list(config: &str, tags: &[&str], layers: &[String]) -> Vec<u8> {
    let tags = if tags.is_empty() { Value::Null } else { json!(tags) };
    json!([{"Config": config, "RepoTags": tags, "Layers": layers}]).to_string().into_bytes()
}

/// An OCI layout that grows blob by blob.
#[derive(Default)]
pub(crate) struct OciArchive {
    files: Vec<(String, Vec<u8>)>,
    entries: Vec<Value>,
}

impl OciArchive {
    /// Adds a blob and returns its descriptor.
    pub(crate) fn blob(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let descriptor = json!({"mediaType": media_type, "digest": digest(&content), "size": content.len()});
        self.files.push((format!("blobs/sha256/{}", hex(&content)), content));
        descriptor
    }

    /// Adds an image with compressed layers and returns its manifest's descriptor.
    pub(crate) fn image(&mut self, texts: &[&str], architecture: &str) -> Value {
        let layers: Vec<Vec<u8>> = texts.iter().map(|text| layer(text)).collect();
        let config = self.blob("application/vnd.oci.image.config.v1+json", config(&layers, architecture));
        let layers: Vec<Value> =
            layers.iter().map(|layer| self.blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip(layer))).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        let mut descriptor = self.blob(media_type, manifest.to_string().into_bytes());
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    }

    /// Adds an index of manifests and returns its descriptor.
    pub(crate) fn index(&mut self, manifests: &[Value]) -> Value {
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        self.blob(media_type, index.to_string().into_bytes())
    }

    /// Lists an image under a name.
    pub(crate) fn list(&mut self, mut descriptor: Value, annotations: &Value) {
        descriptor["annotations"] = annotations.clone();
        self.entries.push(descriptor);
    }

    /// Leaves a blob out, as engines do with platforms that they never pulled.
    pub(crate) fn remove_descriptor(&mut self, descriptor: &Value) {
        let hex = descriptor["digest"].as_str().unwrap().replace("sha256:", "");
        self.files.retain(|(path, _)| !path.ends_with(&hex));
    }

    pub(crate) fn build(mut self) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": self.entries}).to_string().into_bytes();
        self.files.push(("index.json".to_owned(), index));
        self.files.push(("oci-layout".to_owned(), b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec()));
        tar_of(&self.files)
    }
}
