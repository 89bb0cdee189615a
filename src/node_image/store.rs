//! Lets containerd itself make its image store, in a container of the engine.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::engine::files::run;
use crate::engine::helper::{self, Helper};
use crate::engine::process;
use crate::engine::spec::{ContainerSpec, Labels, Mount, Privilege};
use crate::engine::{ByteStream, Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::node_image::archive;
use crate::node_image::tree::Tree;

/// containerd's data directory in a node, without a leading slash.
pub(super) const STORE: &str = "var/lib/containerd";
/// Below the store: the snapshots of the default snapshotter.
pub(super) const SNAPSHOTS: &str = "io.containerd.snapshotter.v1.overlayfs/snapshots";
/// The snapshot of the system layer, which is imported first, and that of pause.
pub(super) const SYSTEM_SNAPSHOT: &str = "1";
const PAUSE_SNAPSHOT: &str = "2";
/// How long containerd may take to answer.
const START: Duration = Duration::from_secs(30);
/// How long containerd may take to stop, seconds.
const STOP: i32 = 20;

/// Imports the archives and writes what containerd then has, without the system layer itself, as tars into `output`.
pub(super) async fn build(
    engine: &SharedEngine,
    containerd: &Path,
    archives: &[std::path::PathBuf; 2],
    scratch: &Path,
    output: &Path,
) -> Result<()> {
    let id = helper::unique_id();
    let name = format!("coracle-build-{id}");
    let image = format!("{name}:latest");
    let mut tree = Tree::default();
    for program in ["containerd", "ctr"] {
        tree.program(&format!("bin/{program}"), &containerd.join(program))?;
    }
    tree.file("etc/passwd", 0o644, *b"root:x:0:0::/:/\n");
    tree.directory("tmp");
    let importer = crate::node_image::system::write_layer(&tree, scratch, "importer.tar")?;
    let configuration = json!({"Cmd": ["/bin/containerd"], "Env": ["PATH=/bin"], "Labels": {helper::LABEL: id, helper::PROCESS_LABEL: process::own()}});
    let archive = archive::stream(&importer, &image, &configuration).await?;
    helper::sweep_all(&**engine).await;
    let helper = Helper::of_archive(engine, archive, id, container(&name, &image)).await?;
    let engine = &**engine;
    let made = async {
        engine.start_container(&name).await?;
        import(engine, &name, archives).await?;
        engine.stop_container(&name, STOP).await?;
        fetch(engine, &name, output).await
    }
    .await;
    // Also after a failure, which is then what the user must see.
    let removed = helper.remove().await;
    made.and(removed)
}

fn container(name: &str, image: &str) -> ContainerSpec {
    ContainerSpec {
        network: Some("none".to_owned()),
        mounts: vec![Mount::Volume { name: name.to_owned(), target: format!("/{STORE}"), labels: Labels::new() }],
        tmpfs: vec!["/run".to_owned()],
        // Unpacking a layer mounts it.
        privilege: Privilege::AllButSysResource,
        private_cgroup_namespace: true,
        ..ContainerSpec::new(name, image)
    }
}

async fn import(engine: &dyn Engine, name: &str, archives: &[std::path::PathBuf; 2]) -> Result<()> {
    let deadline = tokio::time::Instant::now() + START;
    while let Err(error) = ctr(engine, name, &["version"], None).await {
        if tokio::time::Instant::now() > deadline {
            let logs = engine.logs(name, Some(20)).await.unwrap_or_default();
            return Err(error.with_lines(String::from_utf8_lossy(&logs).lines()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for archive in archives {
        // Nodes never need the layers again once they are unpacked.
        let arguments = ["images", "import", "--local", "--discard-unpacked-layers", "--snapshotter=overlayfs", "-"];
        ctr(engine, name, &arguments, Some(archive::file(archive).await?)).await?;
    }
    check_snapshots(engine, name).await?;
    let images = ctr(engine, name, &["images", "list", "--quiet"], None).await?;
    for image in String::from_utf8_lossy(&images).lines() {
        ctr(engine, name, &["images", "label", image, "io.cri-containerd.pinned=pinned"], None).await?;
    }
    Ok(())
}

/// Checks that pause has its number; then the only other snapshot, which was first, has its own too.
async fn check_snapshots(engine: &dyn Engine, name: &str) -> Result<()> {
    let pause = format!("/{STORE}/{SNAPSHOTS}/{PAUSE_SNAPSHOT}/fs/pause");
    match engine.download(name, &pause).await? {
        Some(_) => Ok(()),
        None => Err(Error::new(Code::BuildFailed, format!("containerd left no {pause}"))),
    }
}

async fn ctr(engine: &dyn Engine, name: &str, arguments: &[&str], input: Option<ByteStream>) -> Result<Vec<u8>> {
    let command = [&["/bin/ctr", "--namespace=k8s.io"], arguments].concat();
    let failure = Error::new(Code::BuildFailed, format!("`ctr {}` failed", arguments.join(" ")));
    run(engine, name, &command, input, failure).await
}

/// The parts of the store that an image carries, as file name in the cache and directory below the store.
const PARTS: [(&str, &str, &str); 4] = [
    ("metadata.tar", "", "io.containerd.metadata.v1.bolt"),
    ("content.tar", "", "io.containerd.content.v1.content"),
    ("snapshotter.tar", "io.containerd.snapshotter.v1.overlayfs/", "metadata.db"),
    ("pause.tar", "io.containerd.snapshotter.v1.overlayfs/snapshots/", PAUSE_SNAPSHOT),
];

async fn fetch(engine: &dyn Engine, name: &str, output: &Path) -> Result<()> {
    for (file, above, part) in PARTS {
        let path = format!("/{STORE}/{above}{part}");
        let missing = || Error::new(Code::BuildFailed, format!("containerd left no {path}"));
        let mut content = engine.download(name, &path).await?.ok_or_else(missing)?;
        let copied = async {
            let mut file = tokio::fs::File::create(output.join(file)).await?;
            while let Some(chunk) = content.try_next().await? {
                file.write_all(&chunk).await?;
            }
            file.flush().await
        };
        copied.await.map_err(|source| missing().with_cause(&source))?;
    }
    Ok(())
}

/// Puts the store that [`make`] wrote into an image's tree.
pub(super) fn add_to(tree: &mut Tree, output: &Path) -> Result<()> {
    for (file, above, _) in PARTS {
        let part = Tree::read(&output.join(file))?;
        tree.mount(format!("{STORE}/{above}").trim_end_matches('/'), &part);
    }
    Ok(())
}
