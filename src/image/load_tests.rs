//! Loading into nodes that only exist in memory: what is sent, what is not, and what people read when it fails.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::testing::{docker_archive, gzip};
use super::{LoadReport, Source, load_archive, load_docker_images, select_nodes};
use crate::engine::fake::FakeEngine;
use crate::engine::{ContainerSpec, Engine, ExecOutput, Image, Labels};
use crate::error::{Code, Result};

/// Per node: names and image IDs, as the kubelet's runtime lists them.
type Stores = Arc<Mutex<BTreeMap<String, BTreeMap<String, String>>>>;

fn image(id: &str, tags: &[&str]) -> Image {
    Image {
        id: id.to_owned(),
        labels: Labels::new(),
        layers: Vec::new(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        environment: Vec::new(),
        size: 1000,
    }
}

fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let Ok(mut entry) = entry else { break };
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(path, content);
    }
    files
}

fn said(exit_code: i64, stdout: &str, stderr: &str) -> ExecOutput {
    ExecOutput { exit_code, stdout: stdout.into(), stderr: stderr.into() }
}

/// What containerd's tools do with a store.
fn answer(stores: &Stores, node: &str, command: &[&str], input: &[u8]) -> ExecOutput {
    let mut stores = stores.lock().unwrap();
    let store = stores.entry(node.to_owned()).or_default();
    match command {
        ["crictl", ..] => {
            let images: Vec<Value> =
                store.iter().map(|(name, id)| json!({"id": id, "repoTags": [name], "repoDigests": []})).collect();
            said(0, &json!({"images": images}).to_string(), "")
        }
        ["ctr", _, "images", "tag", "--force", id, name] => {
            store.insert((*name).to_owned(), (*id).to_owned());
            said(0, name, "")
        }
        ["ctr", _, "images", "import", ..] if node == "full" => said(1, "", "ctr: write: no space left on device\n"),
        ["ctr", _, "images", "import", ..] if node == "broken" => said(1, "", "ctr: it does not work\n"),
        ["ctr", _, "images", "import", ..] => {
            let files = files(input);
            let Some(index) = files.get("index.json") else { return said(1, "", "unrecognized image format") };
            let index: Value = serde_json::from_slice(index).unwrap();
            for entry in index["manifests"].as_array().unwrap() {
                let manifest = files.values().find(|file| super::archive::digest(file) == entry["digest"]).unwrap();
                let manifest: Value = serde_json::from_slice(manifest).unwrap();
                let name = entry["annotations"]["io.containerd.image.name"].as_str().unwrap();
                store.insert(name.to_owned(), manifest["config"]["digest"].as_str().unwrap().to_owned());
            }
            said(0, "", "")
        }
        // The names are pinned.
        ["sh", "-c", ..] => said(0, "", ""),
        other => panic!("{other:?}"),
    }
}

async fn engine_with(nodes: &[String], images: Vec<Image>, saved: Vec<u8>) -> (FakeEngine, Stores) {
    let stores = Stores::default();
    let held = Arc::clone(&stores);
    let engine = FakeEngine::new(&["node"])
        .on_exec(move |node, command, input| answer(&held, node, command, &input))
        .on_save(move |_| saved.clone());
    let engine = images.into_iter().fold(engine, FakeEngine::with_image);
    for node in nodes {
        let spec = ContainerSpec { ..ContainerSpec::new(node, "node") };
        engine.create_container(&spec).await.unwrap();
        engine.start_container(node).await.unwrap();
    }
    (engine, stores)
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn load(engine: &FakeEngine, nodes: &[String], images: &[&str]) -> Result<LoadReport> {
    load_docker_images(engine, nodes, &list(images), &|_, _, _| {}).await
}

fn id_of(archive: &[u8]) -> String {
    let manifest: Value = serde_json::from_slice(&files(archive)["manifest.json"]).unwrap();
    format!("sha256:{}", manifest[0]["Config"].as_str().unwrap().trim_end_matches(".json"))
}

#[tokio::test]
async fn a_name_that_meant_another_image_before_is_told_and_everything_new_is_pinned() {
    let (one, two) = (docker_archive(&["app:1"], &["one"]), docker_archive(&["app:1"], &["two"]));
    let nodes = list(&["a", "b"]);
    let (engine, _) = engine_with(&nodes, vec![image(&id_of(&two), &["app:1"])], two.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.tar");
    std::fs::write(&path, one).unwrap();
    let first = load_archive(&engine, &nodes[..1], &Source::File(path), &|_, _, _| {}).await.unwrap();
    assert_eq!(first.nodes[0].moved, Vec::<String>::new());
    let report = load(&engine, &nodes, &["app:1"]).await.unwrap();
    assert_eq!(report.nodes[0].moved, ["docker.io/library/app:1"]);
    assert_eq!(report.nodes[1].moved, Vec::<String>::new());
    let again = load(&engine, &nodes, &["app:1"]).await.unwrap();
    assert_eq!(again.nodes[0].moved, Vec::<String>::new());
    let pins =
        |call: &&String| call.contains("io.cri-containerd.pinned=pinned") && call.contains("docker.io/library/app:1");
    assert_eq!(engine.transcript().iter().filter(pins).count(), 3);
}

#[tokio::test]
async fn an_image_is_sent_once_and_then_only_named() {
    let archive = docker_archive(&["app:1"], &["one", "two"]);
    let id = id_of(&archive);
    let nodes = list(&["a", "b"]);
    let (engine, stores) = engine_with(&nodes, vec![image(&id, &["app:1", "app:2"])], archive).await;
    let first = load(&engine, &nodes, &["app:1"]).await.unwrap();
    assert!(first.nodes.iter().all(|node| node.sent == ["docker.io/library/app:1"] && node.bytes > 0));
    assert_eq!(first.images[0].id, id);
    assert_eq!(stores.lock().unwrap()["b"], BTreeMap::from([("docker.io/library/app:1".to_owned(), id.clone())]));

    let saves = || engine.transcript().iter().filter(|call| call.starts_with("save_images")).count();
    let again = load(&engine, &nodes, &["app:1", "app:2"]).await.unwrap();
    assert!(again.nodes.iter().all(|node| node.bytes == 0 && node.sent.is_empty()));
    assert_eq!(again.nodes[0].present, ["docker.io/library/app:1"]);
    assert_eq!(again.nodes[0].named, ["docker.io/library/app:2"]);
    assert_eq!(saves(), 1);
    assert!(engine.transcript().contains(&"save_images app:1".to_owned()));

    stores.lock().unwrap().remove("b");
    let one = load(&engine, &nodes, &["app:1"]).await.unwrap();
    assert_eq!((one.nodes[0].sent.len(), one.nodes[1].sent.len()), (0, 1));
}

#[tokio::test]
async fn a_moved_tag_is_sent_again() {
    let archive = docker_archive(&["app:1"], &["new"]);
    let nodes = list(&["a"]);
    let (engine, stores) = engine_with(&nodes, vec![image(&id_of(&archive), &["app:1"])], archive.clone()).await;
    stores
        .lock()
        .unwrap()
        .entry("a".to_owned())
        .or_default()
        .insert("docker.io/library/app:1".to_owned(), "sha256:old".to_owned());
    let report = load(&engine, &nodes, &["app:1"]).await.unwrap();
    assert_eq!(report.nodes[0].sent, ["docker.io/library/app:1"]);
    assert_eq!(stores.lock().unwrap()["a"]["docker.io/library/app:1"], id_of(&archive));
}

#[tokio::test]
async fn an_image_by_id_or_digest_gets_a_name_that_can_be_asked_for() {
    let archive = docker_archive(&[], &["one"]);
    let id = id_of(&archive);
    let nodes = list(&["a"]);
    let digest = format!("app@sha256:{}", "7".repeat(64));
    let (engine, stores) = engine_with(&nodes, vec![image(&id, &[&digest])], archive).await;
    load(&engine, &nodes, &[&id]).await.unwrap();
    assert!(stores.lock().unwrap()["a"].keys().all(|name| name.starts_with("localhost/loaded@sha256:")));
    stores.lock().unwrap().clear();
    load(&engine, &nodes, &[&digest]).await.unwrap();
    assert_eq!(stores.lock().unwrap()["a"].keys().collect::<Vec<_>>(), [&format!("docker.io/library/{digest}")]);
}

#[tokio::test]
async fn what_the_engine_does_not_have_is_named_with_what_is_similar() {
    let (engine, _) =
        engine_with(&list(&["a"]), vec![image("sha256:1", &["hello-world:latest", "nginx:1"])], Vec::new()).await;
    let error = load(&engine, &list(&["a"]), &["helo-world"]).await.unwrap_err();
    assert_eq!(error.code(), Code::ImageMissing);
    assert_eq!(error.message(), "the engine has no image `helo-world`");
    assert_eq!(error.hints()[0], "similar names: hello-world:latest");
    assert!(error.hints()[1].contains("docker pull helo-world"));
}

#[tokio::test]
async fn a_node_that_fails_is_named_and_the_others_get_the_image() {
    for (bad, code) in [("full", Code::DiskFull), ("broken", Code::LoadFailed)] {
        let archive = docker_archive(&["app:1"], &["one"]);
        let nodes = list(&["a", bad]);
        let (engine, stores) = engine_with(&nodes, vec![image(&id_of(&archive), &["app:1"])], archive).await;
        let error = load(&engine, &nodes, &["app:1"]).await.unwrap_err();
        assert_eq!((error.code(), error.node()), (code, Some(bad)));
        assert!(error.hints().last().unwrap().ends_with("have the images: a"));
        assert_eq!(stores.lock().unwrap()["a"].len(), 1);
    }
}

#[tokio::test]
async fn a_stream_of_the_engine_that_breaks_off_leaves_no_image() {
    let archive = docker_archive(&["app:1"], &["one", "two"]);
    let id = id_of(&archive);
    let nodes = list(&["a"]);
    let cut = archive[..archive.len() / 2].to_vec();
    let (engine, stores) = engine_with(&nodes, vec![image(&id, &["app:1"])], cut).await;
    let error = load(&engine, &nodes, &["app:1"]).await.unwrap_err();
    assert_eq!(error.code(), Code::LoadFailed);
    assert!(error.cause_text().unwrap().contains("cut off"), "{error}");
    assert!(stores.lock().unwrap()["a"].is_empty());
}

fn file(bytes: &[u8]) -> (tempfile::NamedTempFile, Source) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let source = Source::File(file.path().to_owned());
    (file, source)
}

#[tokio::test]
async fn an_archive_goes_to_all_nodes_or_to_none() {
    let archive = docker_archive(&["app:1", "app:2"], &["one", "two", "one"]);
    let nodes = list(&["a", "b"]);
    let (engine, stores) = engine_with(&nodes, Vec::new(), Vec::new()).await;
    let (_kept, source) = file(&archive[..archive.len() - 4000]);
    let calls = engine.transcript().len();
    let error = load_archive(&engine, &nodes, &source, &|_, _, _| {}).await.unwrap_err();
    assert_eq!(error.code(), Code::ArchiveInvalid);
    assert_eq!(engine.transcript()[calls..], ["info"]);

    let (_kept, source) = file(&gzip(&archive));
    let report = load_archive(&engine, &nodes, &source, &|_, _, _| {}).await.unwrap();
    assert_eq!(report.images[0].names, ["docker.io/library/app:1", "docker.io/library/app:2"]);
    let stores = stores.lock().unwrap();
    assert_eq!(stores["a"], stores["b"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_archive_can_come_through_a_pipe() {
    let nodes = list(&["a"]);
    let (engine, stores) = engine_with(&nodes, Vec::new(), Vec::new()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let archive = gzip(&docker_archive(&["app:1"], &["one"]));
    let write_end = path.clone();
    let writer = std::thread::spawn(move || std::fs::write(write_end, archive).unwrap());
    load_archive(&engine, &nodes, &Source::File(path), &|_, _, _| {}).await.unwrap();
    writer.join().unwrap();
    assert_eq!(stores.lock().unwrap()["a"].len(), 1);
}

#[tokio::test]
async fn files_that_cannot_be_read_are_named() {
    let (engine, _) = engine_with(&[], Vec::new(), Vec::new()).await;
    let directory = tempfile::tempdir().unwrap();
    for (path, code) in
        [(directory.path().join("absent"), Code::FileFailed), (directory.path().to_owned(), Code::ArchiveInvalid)]
    {
        let error = load_archive(&engine, &[], &Source::File(path.clone()), &|_, _, _| {}).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.message().contains(&path.display().to_string()));
    }
}

#[test]
fn only_nodes_of_the_cluster_can_be_named() {
    let all = list(&["c-control-plane", "c-worker"]);
    assert_eq!(select_nodes(&all, &[]).unwrap(), all);
    assert_eq!(select_nodes(&all, &list(&["c-worker"])).unwrap(), ["c-worker"]);
    let error = select_nodes(&all, &list(&["worker"])).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(error.hints(), ["the nodes are: c-control-plane, c-worker"]);
}
