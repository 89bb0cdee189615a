//! The node agent that `build.rs` has built: its program, image name and manifest.

use std::io;

use bytes::Bytes;

/// Version of the agent and tag of its image; always coracle's own.
pub const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Name of the agent's image, as the manifest and containerd spell it.
pub const IMAGE: &str = concat!("docker.io/coracle/agent:v", env!("CARGO_PKG_VERSION"));

/// The agent, compressed to a third of its size.
static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent.zst"));

/// The agent's objects in YAML; `{{ .PodSubnet }}` stands for the cluster's pod subnets, separated by commas.
pub const MANIFEST: &str = include_str!(concat!(env!("OUT_DIR"), "/agent.yaml"));

/// The agent: a static Linux program for the architecture that coracle is built for.
pub fn binary() -> io::Result<Vec<u8>> {
    zstd::decode_all(COMPRESSED)
}

/// A tar with the program at this path of a container.
pub fn tar(path: &str) -> io::Result<Bytes> {
    let binary = binary()?;
    let mut tar = tar::Builder::new(Vec::with_capacity(binary.len() + (4 << 10)));
    let mut header = tar::Header::new_gnu();
    header.set_size(binary.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, path.trim_start_matches('/'), binary.as_slice())?;
    Ok(tar.into_inner()?.into())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    fn daemon_set() -> Value {
        let documents = serde_yaml::Deserializer::from_str(MANIFEST);
        let documents = documents.map(|document| Value::deserialize(document).unwrap());
        documents.into_iter().find(|document| document["kind"] == "DaemonSet").unwrap()
    }

    #[test]
    fn the_binary_is_a_linux_program() {
        assert!(binary().unwrap().starts_with(b"\x7fELF"));
    }

    #[test]
    fn the_manifest_runs_the_embedded_version() {
        let container = &daemon_set()["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], IMAGE);
        assert!(IMAGE.ends_with(&format!(":{VERSION}")));
        let package = include_str!("../node-image/agent/Cargo.toml");
        assert!(package.contains(&format!("version = \"{}\"", env!("CARGO_PKG_VERSION"))));
    }

    #[test]
    fn the_agent_is_not_privileged() {
        let container = &daemon_set()["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["securityContext"]["privileged"], Value::Null);
        assert_eq!(container["securityContext"]["capabilities"]["drop"], serde_json::json!(["ALL"]));
    }

    #[test]
    fn kind_fills_in_the_manifest_and_tells_it_the_endpoint() {
        // The two phrases that kind looks for before it templates and patches a manifest.
        assert!(MANIFEST.contains("would you kindly template this file"));
        assert!(MANIFEST.contains("would you kindly patch this file"));
        assert_eq!(MANIFEST.matches("{{").count(), 1);
        assert!(MANIFEST.contains("{{ .PodSubnet }}"));
        // kind appends to the list, which must be there.
        assert!(daemon_set()["spec"]["template"]["spec"]["containers"][0]["env"].is_array());
    }
}
