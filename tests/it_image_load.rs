//! Loads images into a real node. Runs only where `CORACLE_TEST_NODES` names running node containers (comma-separated)
//! and `CORACLE_TEST_IMAGE` an image of the engine.

use std::path::PathBuf;
use std::time::Instant;

use coracle::engine::{address::Environment, connect::connect};
use coracle::image::{Source, load_archive, load_docker_images};

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[tokio::test]
async fn an_image_goes_into_every_node_once() {
    let (Some(nodes), Some(image)) = (setting("CORACLE_TEST_NODES"), setting("CORACLE_TEST_IMAGE")) else { return };
    let nodes: Vec<String> = nodes.split(',').map(str::to_owned).collect();
    let (engine, _) = connect(&Environment::from_process()).await.unwrap();
    let progress = |node: &str, done: u64, total: u64| eprintln!("{node} {done}/{total}");

    let started = Instant::now();
    let first = load_docker_images(&engine, &nodes, std::slice::from_ref(&image), &progress).await.unwrap();
    eprintln!("first {:?} {first:#?}", started.elapsed());
    let started = Instant::now();
    let again = load_docker_images(&engine, &nodes, &[image], &progress).await.unwrap();
    eprintln!("again {:?} {again:#?}", started.elapsed());
    assert!(again.nodes.iter().all(|node| node.sent.is_empty() && node.bytes == 0 && node.present.len() == 1));

    if let Some(archive) = setting("CORACLE_TEST_ARCHIVE") {
        let started = Instant::now();
        let source = Source::File(PathBuf::from(archive));
        let report = load_archive(&*engine, &nodes, &source, &progress).await;
        eprintln!("archive {:?} {report:#?}", started.elapsed());
        report.unwrap();
    }
}
