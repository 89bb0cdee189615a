//! An archive as registries have images: an index with several platforms, one of them absent, and an attestation.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// This machine's architecture, as images call it.
pub fn architecture() -> String {
    std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64")
}

#[derive(Default)]
struct Layout {
    files: Vec<(String, Vec<u8>)>,
}

impl Layout {
    fn blob(&mut self, kind: &str, content: Vec<u8>) -> Value {
        let hex = format!("{:x}", Sha256::digest(&content));
        let descriptor = json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{hex}"), "size": content.len(),
        });
        self.files.push((format!("blobs/sha256/{hex}"), content));
        descriptor
    }

    fn json(&mut self, kind: &str, content: &Value) -> Value {
        self.blob(&format!("{kind}.v1+json"), content.to_string().into_bytes())
    }

    fn manifest(&mut self, config: &Value, layers: &[Value], platform: &Value) -> Value {
        let content = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
        });
        let mut descriptor = self.json("manifest", &content);
        descriptor["platform"] = platform.clone();
        descriptor
    }

    /// An image with one layer per text, each a file of its number.
    fn image(&mut self, architecture: &str, texts: &[&str]) -> Result<Value, String> {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for (number, text) in texts.iter().enumerate() {
            let layer = tar_of(&[(format!("etc/text-{number}"), text.as_bytes().to_vec())])?;
            diff_ids.push(format!("sha256:{:x}", Sha256::digest(&layer)));
            layers.push(if number % 2 == 0 {
                self.blob("layer.v1.tar+gzip", gzip(&layer)?)
            } else {
                self.blob("layer.v1.tar", layer)
            });
        }
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["/none"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.json("config", &config);
        Ok(self.manifest(&config, &layers, &json!({"os": "linux", "architecture": architecture})))
    }

    /// Leaves out what only this descriptor leads to.
    fn forget(&mut self, descriptor: &Value) {
        let digest = descriptor["digest"].as_str().unwrap_or_default().replace(':', "/");
        self.files.retain(|(path, _)| *path != format!("blobs/{digest}"));
    }
}

/// Writes the archive of an image with these texts in `/etc/text-0` and so on, one layer each.
pub fn write_archive(path: &Path, name: &str, texts: &[&str]) -> Result<(), String> {
    let mut layout = Layout::default();
    let mine = layout.image(&architecture(), texts)?;
    let absent = layout.image("s390x", &["of another platform"])?;
    layout.forget(&absent);
    let statement = layout.blob("layer.v1.tar", br#"{"_type": "https://in-toto.io/Statement/v0.1"}"#.to_vec());
    let config = layout.json(
        "config",
        &json!({
            "architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]},
        }),
    );
    let mut attestation = layout.manifest(&config, &[statement], &json!({"os": "unknown", "architecture": "unknown"}));
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": mine["digest"],
    });
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [absent, mine, attestation],
    });
    let mut entry = layout.json("index", &index);
    entry["annotations"] = json!({"io.containerd.image.name": format!("docker.io/library/{name}")});
    let list = json!({"schemaVersion": 2, "manifests": [entry]});
    let mut files = layout.files;
    files.push(("index.json".to_owned(), list.to_string().into_bytes()));
    files.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    let mut file = File::create(path).map_err(|error| error.to_string())?;
    file.write_all(&tar_of(&files)?).map_err(|error| error.to_string())
}

fn tar_of(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content.as_slice()).map_err(|error| error.to_string())?;
    }
    builder.into_inner().map_err(|error| error.to_string())
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).map_err(|error| error.to_string())?;
    encoder.finish().map_err(|error| error.to_string())
}
