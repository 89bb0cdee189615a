//! Which image is chosen, and what is said if there is none.

use std::sync::Arc;

use super::*;
use crate::engine::fake::FakeEngine;

async fn chosen(
    engine: FakeEngine,
    named: Option<&str>,
    login: Option<&Login>,
) -> (Arc<FakeEngine>, Result<NodeImage>) {
    let engine = Arc::new(engine);
    let shared: SharedEngine = engine.clone();
    let found = node_image(&shared, named, login, "run", &|_, _, _| {}).await;
    (engine, found)
}

fn image(version: &str) -> Image {
    Image {
        id: "sha256:1234".to_owned(),
        labels: Labels::from([(labels::VERSION.to_owned(), version.to_owned())]),
        layers: Vec::new(),
        tags: vec![format!("coracle/node:{version}")],
        environment: Vec::new(),
        size: 1,
        ..Image::default()
    }
}

#[tokio::test]
async fn without_an_image_the_way_to_build_one_comes_first() {
    // The pull is the third call, after the list of images and the question for kind's.
    let (engine, found) = chosen(FakeEngine::new(&[]).failing_at(3), None, None).await;
    let error = found.unwrap_err();
    assert!(engine.transcript()[2].starts_with("pull_image"), "{:?}", engine.transcript());
    assert_eq!((error.code(), error.message()), (Code::ImageMissing, "there is no node image"));
    assert!(error.hints()[0].contains("`coracle build node-image`") && error.hints()[0].contains("minutes"));
    assert!(error.hints()[1].contains("docker pull kindest/node"), "{error:?}");
}

#[tokio::test]
async fn a_version_that_cannot_boot_is_refused() {
    for version in ["v1.33.4", "v1.29.0"] {
        let name = format!("coracle/node:{version}");
        let (_, found) = chosen(FakeEngine::new(&[]).with_image(image(version)), Some(&name), None).await;
        let error = found.unwrap_err();
        assert!(error.cause().unwrap().contains(version), "{error}");
        assert!(error.hints().iter().any(|hint| hint.contains("1.34")), "{error:?}");
    }
    let (_, found) = chosen(FakeEngine::new(&[]).with_image(image("v1.34.2")), None, None).await;
    assert_eq!(found.unwrap().images.etcd, "3.6.4-0");
}

#[tokio::test]
async fn a_private_image_is_pulled_with_credentials() {
    let login = Login { server: "r.example".to_owned(), user: "me".to_owned(), password: "secret".to_owned() };
    let (engine, _) = chosen(FakeEngine::new(&[]), Some("r.example/node:1"), Some(&login)).await;
    assert!(engine.transcript().contains(&"pull_image r.example/node:1 as me".to_owned()), "{:?}", engine.transcript());
}

#[test]
fn the_tag_of_an_image_that_is_not_here_tells_its_version() {
    let image = assumed(PUBLISHED).unwrap();
    assert_eq!((image.images.kubernetes.as_str(), image.reference.as_str()), ("v1.37.0", PUBLISHED));
    for unknown in ["mine", "mine:latest", "localhost:5000/mine", "mine@sha256:00"] {
        assert_eq!(assumed(unknown).unwrap_err().code(), Code::ImageMissing, "{unknown}");
    }
}
