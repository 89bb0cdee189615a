//! Puts the parts of a node image together.

use std::path::{Path, PathBuf};

use crate::agent;
use crate::engine::SharedEngine;
use crate::error::{Code, Error, Result};
use crate::image::RECEIVER;
use crate::node_image::cache::Cache;
use crate::node_image::programs::Programs;
use crate::node_image::recipe::{Release, Root, Versions, files};
use crate::node_image::store::{self, SNAPSHOTS, STORE, SYSTEM_SNAPSHOT};
use crate::node_image::system;
use crate::node_image::tree::Tree;
use crate::plan::facts::{IPV6_PLUGIN, POLICY_PLUGIN, SETTINGS};

/// Where the layers that all nodes share are in the image, without a leading slash.
const SHARED: &str = "usr/lib/coracle/snapshots";

/// What an image is made of, besides the root file system.
pub(super) struct Parts<'a> {
    pub(super) versions: &'a Versions,
    pub(super) release: &'a Release,
    pub(super) root: &'a Root,
    pub(super) programs: &'a Programs,
    pub(super) runc: &'a Path,
    /// The list of what can be set in the release.
    pub(super) settings: &'a [u8],
}

/// Writes the image's only layer into `scratch`.
pub(super) async fn assemble(
    engine: &SharedEngine,
    cache: &Cache,
    scratch: &Path,
    mut tree: Tree,
    parts: &Parts<'_>,
) -> Result<system::Layer> {
    prepare_root(&mut tree, parts.root);
    let system = system::system_layer(&tree, parts.root, parts.programs)?;
    let pause = system::pause_layer(parts.programs)?;
    let directory = scratch.to_owned();
    let (system, layers) = blocking(move || {
        let layers = [
            system::write_layer(&system, &directory, "system.tar")?,
            system::write_layer(&pause, &directory, "pause.tar")?,
        ];
        Ok((system, layers))
    })
    .await?;
    let store = preload(engine, cache, scratch, &layers, parts).await?;
    add_programs(&mut tree, parts)?;
    tree.file(SETTINGS.trim_start_matches('/'), 0o644, parts.settings);
    tree.mount(&format!("{SHARED}/{SYSTEM_SNAPSHOT}/fs"), &system);
    for path in ["usr/bin/kubeadm", "usr/bin/kubectl", "usr/bin/kubelet", "usr/local/bin/etcdctl"] {
        tree.link(path, &format!("{SHARED}/{SYSTEM_SNAPSHOT}/fs/usr/local/bin/kubernetes"));
    }
    let plugins = [POLICY_PLUGIN, IPV6_PLUGIN].map(|plugin| format!("opt/cni/bin/{plugin}"));
    for path in plugins.iter().map(String::as_str).chain([RECEIVER.trim_start_matches('/')]) {
        tree.link(path, &format!("{SHARED}/{SYSTEM_SNAPSHOT}/fs/{}", system::AGENT_PROGRAM));
    }
    store::add_to(&mut tree, &store)?;
    tree.symlink(&format!("{STORE}/{SNAPSHOTS}/{SYSTEM_SNAPSHOT}"), &format!("/{SHARED}/{SYSTEM_SNAPSHOT}"));
    let scratch = scratch.to_owned();
    blocking(move || system::write_layer(&tree, &scratch, "image.tar")).await
}

/// Lets containerd import the system images, unless the cache has the store of the same images already.
async fn preload(
    engine: &SharedEngine,
    cache: &Cache,
    scratch: &Path,
    layers: &[system::Layer; 2],
    parts: &Parts<'_>,
) -> Result<PathBuf> {
    let [system, pause] = layers;
    let trees = system::archives(parts.release, parts.versions, system, pause)?;
    let indexes = [trees[0].text("index.json")?, trees[1].text("index.json")?];
    let containerd = parts.programs.containerd.to_string_lossy();
    let inputs = [containerd.as_bytes(), indexes[0].as_bytes(), indexes[1].as_bytes()];
    cache
        .output("store", &inputs, async |output: &Path| {
            let files = [scratch.join("images.tar"), scratch.join("pause-image.tar")];
            let written = files.clone();
            blocking(move || trees.iter().zip(&written).try_for_each(|(tree, file)| tree.write(file).map(drop)))
                .await?;
            store::build(engine, &parts.programs.containerd, &files, scratch, output).await
        })
        .await
}

/// Debian's root file system without what a node does not need, with the recipe's files over it.
fn prepare_root(tree: &mut Tree, root: &Root) {
    // Package data belongs with the packages, not on a node's volume.
    tree.rename("var/lib/dpkg", "usr/lib/dpkg-database");
    tree.symlink("var/lib/dpkg", "../../usr/lib/dpkg-database");
    for pattern in &root.remove {
        tree.remove(pattern);
    }
    for directory in &root.directories {
        tree.directory(directory);
    }
    for (path, content) in files() {
        let mode = if content.starts_with(b"#!") { 0o755 } else { 0o644 };
        tree.file(&path, mode, content);
    }
    // systemd takes an empty file for "to be filled"; the entrypoint fills it.
    tree.file("etc/machine-id", 0o644, *b"");
    let units = "etc/systemd/system";
    for unit in &root.mask {
        tree.symlink(&format!("{units}/{unit}"), "/dev/null");
    }
    for unit in &root.enable {
        tree.symlink(&format!("{units}/multi-user.target.wants/{unit}"), &format!("/{units}/{unit}"));
    }
    tree.symlink(&format!("{units}/default.target"), "/lib/systemd/system/multi-user.target");
}

fn add_programs(tree: &mut Tree, parts: &Parts<'_>) -> Result<()> {
    let programs = parts.programs;
    for name in ["containerd", "containerd-shim-runc-v2", "ctr"] {
        tree.program(&format!("usr/local/bin/{name}"), &programs.containerd.join(name))?;
    }
    tree.program("usr/local/bin/crictl", &programs.crictl.join("crictl"))?;
    tree.program("usr/local/sbin/runc", &parts.runc.join("runc"))?;
    let failed = |source: std::io::Error| {
        Error::new(Code::FileFailed, format!("cannot read `{}`", programs.cni.display())).with_cause(&source)
    };
    for plugin in std::fs::read_dir(&programs.cni).map_err(failed)? {
        let plugin = plugin.map_err(failed)?;
        tree.program(&format!("opt/cni/bin/{}", plugin.file_name().to_string_lossy()), &plugin.path())?;
    }
    tree.file("kind/version", 0o644, format!("{}\n", parts.release.version).into_bytes());
    tree.file("kind/manifests/default-cni.yaml", 0o644, agent::MANIFEST.as_bytes());
    Ok(())
}

/// Runs what reads and writes large files beside the other tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| Error::new(Code::BuildFailed, "a part of the build stopped").with_cause(&source))?
}
