//! The system images: all of them are one identical layer with different configurations (and pause a tiny one), so
//! that a node has one snapshot, and all processes of all nodes of a machine share one page cache.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Code, Error, Result};
use crate::node_image::programs::Programs;
use crate::node_image::recipe::{Release, Root, Versions, agent, agent_image};
use crate::node_image::tree::Tree;

/// The components that are the Kubernetes program under other names.
const COMPONENTS: &[&str] = &[
    "etcd",
    "etcdctl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubeadm",
    "kubectl",
    "kubelet",
];
/// The image that local-path-provisioner's helper pods run; `default-storage.yaml` names it too.
const HELPER_IMAGE: &str = "docker.io/coracle/local-path-helper:v0.1.0";
/// Where the agent is in its image.
pub(super) const AGENT_PROGRAM: &str = "usr/local/bin/coracle-agent";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
    nonroot:x:65532:65532:nonroot:/home/nonroot:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n";

/// What an image runs, as in its configuration.
#[derive(Debug, Default)]
struct Run {
    entrypoint: &'static [&'static str],
    command: Vec<String>,
    user: &'static str,
}

/// A layer written to a file.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) file: PathBuf,
    /// Hex SHA-256 of the uncompressed tar.
    pub(super) hash: String,
    pub(super) size: u64,
}

/// The layer of all system images but pause.
pub(super) fn system_layer(root: &Tree, recipe: &Root, programs: &Programs) -> Result<Tree> {
    let mut layer = root.select(&recipe.shared)?;
    for directory in ["dev", "proc", "root", "run", "sys", "tmp", "var/lib", "var/run"] {
        layer.directory(directory);
    }
    layer.set_mode("tmp", 0o1777);
    for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")] {
        layer.symlink(link, target);
    }
    layer.file("etc/passwd", 0o644, PASSWD.as_bytes());
    layer.file("etc/group", 0o644, GROUP.as_bytes());
    layer.program("usr/local/bin/kubernetes", &programs.kubernetes.join("kubernetes"))?;
    for component in COMPONENTS {
        layer.symlink(&format!("usr/local/bin/{component}"), "kubernetes");
    }
    layer.program("coredns", &programs.coredns.join("coredns"))?;
    layer.program("usr/bin/local-path-provisioner", &programs.provisioner.join("local-path-provisioner"))?;
    layer.file(AGENT_PROGRAM, 0o755, agent()?);
    Ok(layer)
}

/// The layer of the pause image, which lives on the node's own disk: pods with a user namespace need that.
pub(super) fn pause_layer(programs: &Programs) -> Result<Tree> {
    let mut layer = Tree::default();
    layer.program("pause", &programs.pause.join("pause"))?;
    Ok(layer)
}

/// Names of the images on the system layer, with what they run.
fn system_images(release: &Release, versions: &Versions) -> Result<Vec<(String, Run)>> {
    let runs = |program: &str| Run { command: vec![program.to_owned()], ..Run::default() };
    let mut images = Vec::new();
    for component in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        let name = format!("registry.k8s.io/{component}:{}", release.version);
        images.push((name, runs(&format!("/usr/local/bin/{component}"))));
    }
    images.push((format!("registry.k8s.io/etcd:{}", release.etcd), runs("/usr/local/bin/etcd")));
    let coredns = Run { entrypoint: &["/coredns"], user: "nonroot:nonroot", ..Run::default() };
    images.push((format!("registry.k8s.io/coredns/coredns:{}", release.coredns), coredns));
    let provisioner = &versions.module("github.com/rancher/local-path-provisioner", None)?.version;
    let name = format!("docker.io/rancher/local-path-provisioner:{provisioner}");
    images.push((name, runs("local-path-provisioner")));
    images.push((HELPER_IMAGE.to_owned(), runs("/bin/sh")));
    let agent = Run { entrypoint: &["/usr/local/bin/coracle-agent"], ..Run::default() };
    images.push((agent_image(), agent));
    Ok(images)
}

/// The files of an OCI archive with the system images, and of one with pause.
pub(super) fn archives(release: &Release, versions: &Versions, system: &Layer, pause: &Layer) -> Result<[Tree; 2]> {
    let pause_name = format!("registry.k8s.io/pause:{}", release.pause);
    let pause_run = Run { entrypoint: &["/pause"], user: "65535:65535", ..Run::default() };
    Ok([archive(&system_images(release, versions)?, system)?, archive(&[(pause_name, pause_run)], pause)?])
}

fn archive(images: &[(String, Run)], layer: &Layer) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.program(&format!("blobs/sha256/{}", layer.hash), &layer.file)?;
    let mut manifests = Vec::new();
    for (name, run) in images {
        let config = blob(&mut tree, &configuration(name, run, layer));
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let mut manifest = blob(
            &mut tree,
            &json!({
                "schemaVersion": 2,
                "mediaType": media_type,
                "config": with(config, &json!({"mediaType": "application/vnd.oci.image.config.v1+json"})),
                "layers": [{
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": format!("sha256:{}", layer.hash),
                    "size": layer.size,
                }],
            }),
        );
        manifest = with(manifest, &json!({"mediaType": media_type, "annotations": {"io.containerd.image.name": name}}));
        manifests.push(manifest);
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    tree.file("index.json", 0o644, index.to_string().into_bytes());
    tree.file("oci-layout", 0o644, *br#"{"imageLayoutVersion":"1.0.0"}"#);
    Ok(tree)
}

fn configuration(name: &str, run: &Run, layer: &Layer) -> Value {
    let created = "2026-01-01T00:00:00Z";
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {
            "Env": [PATH],
            "WorkingDir": "/",
            "Entrypoint": run.entrypoint,
            "Cmd": run.command,
            "User": run.user,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.hash)]},
        "history": [{"created": created, "created_by": format!("coracle build node-image: {name}")}],
    })
}

/// Adds a JSON blob and returns its descriptor, without a media type.
fn blob(tree: &mut Tree, content: &Value) -> Value {
    let bytes = content.to_string().into_bytes();
    let hash = format!("{:x}", Sha256::digest(&bytes));
    let descriptor = json!({"digest": format!("sha256:{hash}"), "size": bytes.len()});
    tree.file(&format!("blobs/sha256/{hash}"), 0o644, bytes);
    descriptor
}

fn with(mut descriptor: Value, more: &Value) -> Value {
    if let (Some(fields), Some(more)) = (descriptor.as_object_mut(), more.as_object()) {
        fields.extend(more.clone());
    }
    descriptor
}

/// Writes a layer into a directory.
///
/// A snapshot that nodes share is a lower directory only, where whiteouts would not do what they say.
pub(super) fn write_layer(tree: &Tree, directory: &Path, name: &str) -> Result<Layer> {
    if let Some(path) = tree.whiteout() {
        return Err(Error::new(Code::BuildFailed, format!("the layer of the system images has a whiteout: `{path}`")));
    }
    let file = directory.join(name);
    let (hash, size) = tree.write(&file)?;
    Ok(Layer { file, hash, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helper_image_is_the_one_of_the_storage_manifest() {
        let manifest = crate::node_image::recipe::files()["kind/manifests/default-storage.yaml"];
        assert!(String::from_utf8_lossy(manifest).contains(HELPER_IMAGE));
        let versions = Versions::load().unwrap();
        let release = versions.release(None).unwrap();
        for (name, _) in system_images(release, &versions).unwrap() {
            if name.contains("provisioner") {
                assert!(String::from_utf8_lossy(manifest).contains(&name), "{name}");
            }
        }
    }

    #[test]
    fn an_archive_names_each_image_and_has_its_blobs() {
        let scratch = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        tree.file("pause", 0o755, *b"");
        let layer = write_layer(&tree, scratch.path(), "layer.tar").unwrap();
        let versions = Versions::load().unwrap();
        let release = versions.release(Some("1.36")).unwrap();
        let [system, pause] = archives(release, &versions, &layer, &layer).unwrap();
        let index: Value = serde_json::from_str(&system.text("index.json").unwrap()).unwrap();
        let names: Vec<_> = index["manifests"].as_array().unwrap().iter().map(|m| &m["annotations"]).collect();
        assert_eq!(names.len(), 9);
        let digest = index["manifests"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let manifest: Value = serde_json::from_str(&system.text(&format!("blobs/sha256/{digest}")).unwrap()).unwrap();
        assert_eq!(manifest["layers"][0]["digest"], format!("sha256:{}", layer.hash));
        assert!(pause.text("index.json").unwrap().contains("registry.k8s.io/pause:"));
    }
}
