//! Loading into nodes that only exist in memory: what is sent, what is not, and the errors.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read, Write};
use std::sync::{Arc, Mutex};

use coracle_shared::content::Packing;
use coracle_shared::wire::{self, Answer, Failure, ImageState, Message, Placed, Reason, Stored};
use serde_json::Value;

use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, Image, Labels};
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Result};
use crate::image::archive::digest::digest;
use crate::image::archive::testing::{docker_archive, gzip};
use crate::image::{ArchiveInput, LoadReport, SourceKind, load_archive, load_docker_images};

/// The stores of nodes, by the names of the nodes.
pub(crate) type Stores = Arc<Mutex<BTreeMap<String, Store>>>;

/// The image store of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Store {
    /// Image IDs by name.
    pub names: BTreeMap<String, String>,
    /// Digests of configurations by the IDs that images were asked for by.
    images: BTreeMap<String, String>,
    pub layers: BTreeSet<String>,
    /// How often the program was started.
    asked: usize,
}

pub(crate) fn image(id: &str, tags: &[&str]) -> Image {
    Image {
        id: id.to_owned(),
        labels: Labels::new(),
        layers: Vec::new(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        environment: Vec::new(),
        size: 1000,
        ..Image::default()
    }
}

pub(crate) fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
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

/// Receives images into a store, as the program in a node does.
fn receive(store: &mut Store, node: &str, input: &mut dyn BufRead) -> Option<Answer> {
    let failed = |reason| Some(Answer::Failed(Failure { reason, message: "it does not work".to_owned() }));
    let mut next = store.clone();
    let (mut stored, mut placed) = (Vec::new(), Vec::new());
    loop {
        match wire::receive(input).ok()?? {
            Message::Request(_) => return None,
            Message::Layer(_) if node == "full" => return failed(Reason::DiskFull),
            Message::Layer(_) if node == "broken" => return failed(Reason::Other),
            Message::Layer(layer) => {
                let mut bytes = Vec::new();
                wire::Chunks::new(input).read_to_end(&mut bytes).ok()?;
                if layer.packing == Packing::Gzip {
                    let packed = std::mem::take(&mut bytes);
                    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
                }
                let found = digest(&bytes);
                if layer.diff_id.is_some_and(|diff_id| diff_id != found) {
                    return failed(Reason::Damaged);
                }
                placed.push(Placed { diff_id: found.clone(), directory: format!("/var/{found}"), size: 1 });
                next.layers.insert(found);
            }
            Message::Linked(layer) => drop(next.layers.insert(layer.diff_id)),
            Message::Image(image) => {
                let config: Value = serde_json::from_str(&image.config).unwrap();
                let layers: Vec<&str> =
                    config["rootfs"]["diff_ids"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                if !layers.iter().all(|layer| next.layers.contains(*layer)) {
                    return failed(Reason::Other);
                }
                let id = digest(image.config.as_bytes());
                next.images.insert(image.id.clone(), id.clone());
                stored.push(Stored { id: image.id, image: id, names: image.names, layers: placed.clone() });
            }
            Message::Name(name) => {
                let image = next.images[&name.id].clone();
                stored.push(Stored { image, id: name.id, names: name.names, layers: Vec::new() });
            }
            Message::Commit => break,
        }
    }
    for image in &stored {
        next.names.extend(image.names.iter().map(|name| (name.clone(), image.image.clone())));
    }
    *store = next;
    Some(Answer::Done(stored))
}

/// The node's side of the conversation.
pub(crate) fn converse(stores: &Stores, node: &str, input: &mut dyn BufRead, output: &mut dyn Write) {
    let mut store = stores.lock().unwrap().entry(node.to_owned()).or_default().clone();
    store.asked += 1;
    let Some(Message::Request(request)) = wire::receive(input).unwrap() else { panic!("nothing was requested") };
    let states = request.images.iter().map(|wanted| {
        let image = store.images.get(&wanted.id).cloned();
        let lacks = |name: &&String| image.is_none() || store.names.get(*name) != image.as_ref();
        let lacks: Vec<String> = wanted.names.iter().filter(lacks).cloned().collect();
        let moved = lacks.iter().filter(|name| store.names.contains_key(*name)).cloned().collect();
        let layers = wanted.diff_ids.iter().take_while(|layer| store.layers.contains(*layer)).count();
        ImageState { lacks, moved, image: image.clone(), layers }
    });
    match node {
        "bare" if store.asked == 1 => {
            output.write_all(b"OCI runtime exec failed: no such file or directory\r\n").unwrap();
        }
        "old" if store.asked == 1 => {
            let failure = Failure { reason: Reason::Version, message: "another version".to_owned() };
            wire::send(output, &Answer::Failed(failure)).unwrap();
        }
        _ => {
            wire::send(output, &Answer::State(states.collect())).unwrap();
            let answer = receive(&mut store, node, input);
            stores.lock().unwrap().insert(node.to_owned(), store);
            if let Some(answer) = answer {
                let _ = wire::send(output, &answer);
            }
            return;
        }
    }
    stores.lock().unwrap().insert(node.to_owned(), store);
}

pub(crate) async fn engine_with(nodes: &[String], images: Vec<Image>, saved: Vec<u8>) -> (Arc<FakeEngine>, Stores) {
    let stores = Stores::default();
    let held = Arc::clone(&stores);
    let saved_layers = layers_of(&saved);
    let engine = FakeEngine::new(&["node"])
        .on_converse(move |node, command, input, output| {
            // A reader of the engine's store gives no answer here.
            if command.last().is_some_and(|word| word == "receive") {
                converse(&held, node, input, output);
            }
        })
        .on_save(move |_| saved.clone());
    let images = images.into_iter().map(|image| {
        let known = image.layers.is_empty() && !saved_layers.is_empty();
        if known { Image { layers: saved_layers.clone(), ..image } } else { image }
    });
    let engine = images.fold(engine, FakeEngine::with_image);
    for node in nodes {
        let spec = ContainerSpec { ..ContainerSpec::new(node, "node") };
        engine.create_container(&spec).await.unwrap();
        engine.start_container(node).await.unwrap();
    }
    (Arc::new(engine), stores)
}

pub(crate) fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(crate) async fn load(engine: &Arc<FakeEngine>, nodes: &[String], images: &[&str]) -> Result<LoadReport> {
    let engine: SharedEngine = engine.clone();
    load_docker_images(&engine, nodes, &list(images), &|_, _, _| {}).await
}

/// Digests of an archive's layers, as the engine reports them for an image.
pub(crate) fn layers_of(archive: &[u8]) -> Vec<String> {
    let files = files(archive);
    let layers = files.iter().filter(|(path, _)| path.ends_with("/layer.tar")).map(|(_, content)| digest(content));
    layers.collect()
}

pub(crate) fn id_of(archive: &[u8]) -> String {
    let manifest: Value = serde_json::from_slice(&files(archive)["manifest.json"]).unwrap();
    format!("sha256:{}", manifest[0]["Config"].as_str().unwrap().trim_end_matches(".json"))
}

#[tokio::test]
async fn a_name_that_belonged_to_another_image_before_is_reported() {
    let (one, two) = (docker_archive(&["app:1"], &["one"]), docker_archive(&["app:1"], &["two"]));
    let nodes = list(&["a", "b"]);
    let (engine, _) = engine_with(&nodes, vec![image(&id_of(&two), &["app:1"])], two.clone()).await;
    let (_kept, source) = file(&one);
    let first = load_archive(&*engine, &nodes[..1], &source, &|_, _, _| {}).await.unwrap();
    assert_eq!(first.nodes[0].moved, Vec::<String>::new());
    let report = load(&engine, &nodes, &["app:1"]).await.unwrap();
    assert_eq!(report.nodes[0].moved, ["docker.io/library/app:1"]);
    assert_eq!(report.nodes[1].moved, Vec::<String>::new());
    let again = load(&engine, &nodes, &["app:1"]).await.unwrap();
    assert_eq!(again.nodes[0].moved, Vec::<String>::new());
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
    assert_eq!(first.source, Some(SourceKind::EngineSave));
    assert_eq!(stores.lock().unwrap()["b"].names, BTreeMap::from([("docker.io/library/app:1".to_owned(), id.clone())]));

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
async fn names_and_the_id_of_one_image_all_arrive_in_any_order() {
    let archive = docker_archive(&["app:1", "app:2"], &["one"]);
    let id = id_of(&archive);
    let both = ["docker.io/library/app:1", "docker.io/library/app:2"];
    for wanted in [["app:1", "app:2", &id], ["app:2", &id, "app:1"], [&id, "app:2", "app:1"]] {
        let nodes = list(&["a", "b"]);
        let (engine, stores) = engine_with(&nodes, vec![image(&id, &["app:1", "app:2"])], archive.clone()).await;
        let report = load(&engine, &nodes, &wanted).await.unwrap();
        let mut sent = report.nodes[1].sent.clone();
        sent.sort_unstable();
        assert_eq!(sent, both, "{wanted:?}");
        assert_eq!(stores.lock().unwrap()["b"].names.keys().collect::<Vec<_>>(), both, "{wanted:?}");
    }
}

#[tokio::test]
async fn a_moved_tag_is_sent_again() {
    let archive = docker_archive(&["app:1"], &["new"]);
    let nodes = list(&["a"]);
    let (engine, stores) = engine_with(&nodes, vec![image(&id_of(&archive), &["app:1"])], archive.clone()).await;
    let old = BTreeMap::from([("docker.io/library/app:1".to_owned(), "sha256:old".to_owned())]);
    stores.lock().unwrap().entry("a".to_owned()).or_default().names = old;
    let report = load(&engine, &nodes, &["app:1"]).await.unwrap();
    assert_eq!(report.nodes[0].sent, ["docker.io/library/app:1"]);
    assert_eq!(stores.lock().unwrap()["a"].names["docker.io/library/app:1"], id_of(&archive));
}

#[tokio::test]
async fn an_image_by_id_or_digest_gets_a_name_that_can_be_asked_for() {
    let archive = docker_archive(&[], &["one"]);
    let id = id_of(&archive);
    let nodes = list(&["a"]);
    let digest = format!("app@sha256:{}", "7".repeat(64));
    let (engine, stores) = engine_with(&nodes, vec![image(&id, &[&digest])], archive).await;
    let report = load(&engine, &nodes, &[&id]).await.unwrap();
    assert_eq!(report.images[0].names, std::slice::from_ref(&id));
    assert!(stores.lock().unwrap()["a"].images.contains_key(&id), "the node finds a name");
    load(&engine, &nodes, &[&digest]).await.unwrap();
    assert_eq!(stores.lock().unwrap()["a"].names.keys().collect::<Vec<_>>(), [&format!("docker.io/library/{digest}")]);
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
async fn every_text_that_is_no_name_is_reported() {
    let (engine, _) = engine_with(&list(&["a"]), Vec::new(), Vec::new()).await;
    let error = load(&engine, &list(&["a"]), &["Upper:1", "app", "a b", &"0".repeat(64)]).await.unwrap_err();
    assert_eq!(error.code(), Code::UsageInvalid);
    let places: Vec<&str> = error.problems().iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(places, ["`Upper:1`", "`a b`"]);
    assert_eq!(error.problems()[0].message, "it must be lower case");
    let error = load(&engine, &list(&["a"]), &["Upper:1"]).await.unwrap_err();
    assert_eq!(error.message(), "`Upper:1` is not an image name");
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
        assert_eq!(stores.lock().unwrap()["a"].names.len(), 1);
    }
}

#[tokio::test]
async fn a_node_without_the_program_or_with_an_older_one_gets_it() {
    let archive = docker_archive(&["app:1"], &["one"]);
    let nodes = list(&["bare", "old"]);
    let (engine, stores) = engine_with(&nodes, vec![image(&id_of(&archive), &["app:1"])], archive).await;
    load(&engine, &nodes, &["app:1"]).await.unwrap();
    assert!(stores.lock().unwrap().values().all(|store| store.asked == 2 && store.names.len() == 1));
    let program = crate::agent::binary().unwrap();
    assert!(nodes.iter().all(|node| engine.files(node)[crate::image::RECEIVER] == program));
}

#[tokio::test]
async fn only_the_layers_that_a_node_lacks_are_sent() {
    let nodes = list(&["a", "b"]);
    let (one, two) = (docker_archive(&["app:1"], &["one", "two"]), docker_archive(&["app:1"], &["one", "three"]));
    let diff_ids = ["one", "three"].map(|text| digest(&crate::image::archive::testing::layer(text)));
    let new = Image { layers: diff_ids.to_vec(), ..image(&id_of(&two), &["app:1"]) };
    let (engine, stores) = engine_with(&nodes, vec![new], two).await;
    let (_kept, source) = file(&one);
    load_archive(&*engine, &list(&["a"]), &source, &|_, _, _| {}).await.unwrap();
    let report = load(&engine, &nodes, &["app:1"]).await.unwrap();
    let sent: Vec<_> = report.nodes.iter().map(|node| (node.layers_sent, node.layers_present)).collect();
    assert_eq!(sent, [(1, 1), (2, 0)]);
    let stores = stores.lock().unwrap();
    assert_eq!(stores["a"].names, stores["b"].names);
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
    assert!(error.cause().unwrap().contains("cut off"), "{error}");
    assert!(stores.lock().unwrap().get("a").is_none_or(|store| store.names.is_empty()));
}

fn file(bytes: &[u8]) -> (tempfile::NamedTempFile, ArchiveInput) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let source = ArchiveInput::File(file.path().to_owned());
    (file, source)
}

#[tokio::test]
async fn an_archive_goes_to_all_nodes_or_to_none() {
    let archive = docker_archive(&["app:1", "app:2"], &["one", "two", "one"]);
    let nodes = list(&["a", "b"]);
    let (engine, stores) = engine_with(&nodes, Vec::new(), Vec::new()).await;
    let (_kept, source) = file(&archive[..archive.len() - 4000]);
    let calls = engine.transcript().len();
    let error = load_archive(&*engine, &nodes, &source, &|_, _, _| {}).await.unwrap_err();
    assert_eq!(error.code(), Code::ArchiveInvalid);
    assert_eq!(engine.transcript()[calls..], ["info"]);

    let (_kept, source) = file(&gzip(&archive));
    let report = load_archive(&*engine, &nodes, &source, &|_, _, _| {}).await.unwrap();
    assert_eq!(report.images[0].names, ["docker.io/library/app:1", "docker.io/library/app:2"]);
    let stores = stores.lock().unwrap();
    assert_eq!(stores["a"].names, stores["b"].names);
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
    load_archive(&*engine, &nodes, &ArchiveInput::File(path), &|_, _, _| {}).await.unwrap();
    writer.join().unwrap();
    assert_eq!(stores.lock().unwrap()["a"].names.len(), 1);
}

#[tokio::test]
async fn files_that_cannot_be_read_are_named() {
    let (engine, _) = engine_with(&[], Vec::new(), Vec::new()).await;
    let directory = tempfile::tempdir().unwrap();
    for (path, code) in
        [(directory.path().join("absent"), Code::UsageInvalid), (directory.path().to_owned(), Code::ArchiveInvalid)]
    {
        let error = load_archive(&*engine, &[], &ArchiveInput::File(path.clone()), &|_, _, _| {}).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.message().contains(&path.display().to_string()));
    }
}
