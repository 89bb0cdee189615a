//! Several nodes of one machine: one gets the layers and the others links, or everything where that does not work.

use std::sync::{Arc, Mutex};

use coracle_shared::wire::{self, Answer, Failure, LinkRequest, Reason};

use crate::engine::Engine;
use crate::engine::fake::FakeEngine;
use crate::engine::helper::settle;
use crate::engine::spec::{ContainerSpec, Image, Labels, Mount};
use crate::image::archive::testing::docker_archive;
use crate::image::load::fallback_tests::reader;
use crate::image::load::tests::{Stores, converse, id_of, image, layers_of, list, load};
use crate::image::{LoadReport, SourceKind};

const NODES: [&str; 3] = ["a", "b", "c"];

/// Loads an image that is `large` or small into three nodes whose helper does what is said; returns the requests to link.
async fn load_into_three(size: &'static str, helper: &'static str, volumes: bool) -> (LoadReport, Vec<LinkRequest>) {
    let archive = docker_archive(&["app:1"], &["one", "two"]);
    let (stores, requests) = (Stores::default(), Arc::new(Mutex::new(Vec::new())));
    let (held, seen, read) = (Arc::clone(&stores), Arc::clone(&requests), archive.clone());
    let engine = FakeEngine::new(&["node"])
        .with_image(Image { layers: layers_of(&archive), ..image(&id_of(&archive), &["app:1"]) })
        .on_converse(move |node, command, mut input, output| match command.last().map(String::as_str) {
            Some("receive") => converse(&held, node, input, output),
            Some("link") => {
                let Ok(Some(request)) = wire::receive::<LinkRequest>(&mut input) else { return };
                seen.lock().unwrap().push(request);
                let failure = Failure { reason: Reason::Other, message: "cross-device link".to_owned() };
                let answer = if helper == "works" { Answer::Done(Vec::new()) } else { Answer::Failed(failure) };
                let _ = wire::send(output, &answer).and_then(|()| output.flush());
                // Until the nodes have taken the layers.
                let _ = input.read_to_end(&mut Vec::new());
            }
            _ => drop(reader(size, &read, input, output)),
        });
    for node in NODES {
        let volume = Mount::Volume { name: format!("{node}-var"), target: "/var".to_owned(), labels: Labels::new() };
        let mounts = if volumes { vec![volume] } else { Vec::new() };
        engine.create_container(&ContainerSpec { mounts, ..ContainerSpec::new(node, "node") }).await.unwrap();
        engine.start_container(node).await.unwrap();
    }
    let engine = Arc::new(engine);
    let report = load(&engine, &list(&NODES), &["app:1"]).await.unwrap();
    settle().await;
    assert!(engine.left().iter().all(|left| !left.contains("-linker") && !left.contains("-reader")));
    let stores = stores.lock().unwrap();
    assert!(NODES.iter().all(|node| stores[*node].names.len() == 1 && stores[*node].layers.len() == 2));
    let requests = requests.lock().unwrap().clone();
    (report, requests)
}

fn links(report: &LoadReport) -> Vec<Option<&str>> {
    assert_eq!(report.nodes.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), NODES);
    report.nodes.iter().map(|node| node.linked_from.as_deref()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_gets_the_layers_and_the_others_links() {
    let (report, requests) = load_into_three("is large", "works", true).await;
    let from = links(&report).iter().position(Option::is_none).unwrap();
    let others: Vec<&str> =
        NODES.iter().enumerate().filter(|(index, _)| *index != from).map(|(_, node)| *node).collect();
    assert_eq!(links(&report).iter().flatten().collect::<Vec<_>>(), [&NODES[from], &NODES[from]]);
    assert_eq!(report.source, Some(SourceKind::EngineStore));
    assert!(report.nodes[from].bytes > 0 && report.nodes.iter().filter(|node| node.bytes > 0).count() == 1);
    assert!(report.nodes.iter().all(|node| node.layers_sent == 2));
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!(request.from, format!("{}-var/_data", NODES[from]));
    assert_eq!(request.to, others.iter().map(|node| format!("{node}-var/_data")).collect::<Vec<_>>());
    assert!(request.layers.len() == 2 && request.layers.iter().all(|layer| layer.starts_with("/var/sha256:")));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_sent_where_nothing_can_be_linked() {
    for (size, helper, volumes, asked) in [
        // A file system that has no more links, or another one.
        ("is large", "fails", true, 1),
        ("is large", "works", false, 0),
        // A helper takes longer to start than this takes to be sent.
        ("is small", "works", true, 0),
    ] {
        let (report, requests) = load_into_three(size, helper, volumes).await;
        assert_eq!((links(&report), requests.len()), (vec![None, None, None], asked), "{size} {helper}");
        assert!(report.nodes.iter().all(|node| node.bytes > 0 && node.layers_sent == 2));
    }
}
