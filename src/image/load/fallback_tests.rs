//! Images that cannot be read from the engine's store are saved by the engine; if that fails too, the nodes are unchanged.

use std::io::{BufRead, Write};
use std::sync::Arc;

use coracle_shared::content::Packing;
use coracle_shared::wire::{self, Answer, Message};
use serde_json::Value;

use crate::engine::Engine;
use crate::engine::fake::FakeEngine;
use crate::engine::helper::settle;
use crate::engine::spec::{ContainerSpec, Image};
use crate::error::Code;
use crate::image::SourceKind;
use crate::image::archive::digest::digest;
use crate::image::archive::testing::docker_archive;
use crate::image::load::tests::{Stores, converse, files, id_of, image, layers_of, list, load};

/// A helper that has the image of the store; `what` is the fault in what it sends.
pub(crate) fn reader(
    what: &str,
    archive: &[u8],
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> std::io::Result<()> {
    let Some(reading) = wire::receive::<wire::ReadRequest>(input)? else { return Ok(()) };
    wire::send(output, &Answer::Found(if what == "is large" { 100 << 20 } else { 1 }))?;
    let files = files(archive);
    for diff_id in &reading.layers {
        let layer = files.values().find(|content| digest(content) == *diff_id).unwrap();
        wire::send(output, &Message::Layer(wire::Layer { diff_id: Some(diff_id.clone()), packing: Packing::Plain }))?;
        let mut bytes = layer.clone();
        match what {
            "ends in a layer" => bytes.truncate(700),
            "has another layer" => bytes[600] ^= 1,
            _ => {}
        }
        output.write_all(&wire::chunk_head(bytes.len())?)?;
        output.write_all(&bytes)?;
        if what == "ends in a layer" {
            return Ok(());
        }
        output.write_all(&wire::chunk_head(0)?)?;
        if what == "ends behind a layer" {
            return Ok(());
        }
    }
    let list: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let config = String::from_utf8(files[list[0]["Config"].as_str().unwrap()].clone()).unwrap();
    for wanted in reading.images {
        let image = wire::Image { id: wanted.id, names: wanted.names, config: config.clone(), manifest: None };
        wire::send(output, &Message::Image(image))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engines_store_does_not_give_is_saved() {
    for (what, source) in [
        ("is right", SourceKind::EngineStore),
        ("ends in a layer", SourceKind::EngineSave),
        ("ends behind a layer", SourceKind::EngineSave),
        ("has another layer", SourceKind::EngineSave),
    ] {
        for saves in [true, false] {
            let archive = docker_archive(&["app:1"], &["one", "two"]);
            let (id, held) = (id_of(&archive), Stores::default());
            let (stores, read) = (Arc::clone(&held), archive.clone());
            let saved = if saves { archive.clone() } else { archive[..2000].to_vec() };
            let engine = FakeEngine::new(&["node"])
                .with_image(Image { layers: layers_of(&archive), ..image(&id, &["app:1"]) })
                .on_save(move |_| saved.clone())
                .on_converse(move |node, command, input, output| match command.last().map(String::as_str) {
                    Some("receive") => converse(&stores, node, input, output),
                    _ => drop(reader(what, &read, input, output)),
                });
            for node in ["a", "b"] {
                engine.create_container(&ContainerSpec::new(node, "node")).await.unwrap();
                engine.start_container(node).await.unwrap();
            }
            let engine = Arc::new(engine);
            let result = load(&engine, &list(&["a", "b"]), &["app:1"]).await;
            settle().await;
            assert_eq!(engine.left(), ["container a", "container b"], "{what}");
            let stores = held.lock().unwrap();
            if saves || what == "is right" {
                assert_eq!(result.unwrap().source, Some(source), "{what}");
                assert!(stores.values().all(|store| store.names.len() == 1 && store.layers.len() == 2), "{what}");
            } else {
                assert_eq!(result.unwrap_err().code(), Code::LoadFailed, "{what}");
                assert!(stores.values().all(|store| store.names.is_empty() && store.layers.is_empty()), "{what}");
            }
        }
    }
}
