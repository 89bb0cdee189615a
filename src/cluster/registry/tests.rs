use std::sync::Arc;

use super::*;
use crate::cluster::SharedEngine;
use crate::cluster::remove::{self as clusters, Scope};
use crate::engine::fake::FakeEngine;
use crate::engine::{ContainerSpec, Image, Labels, NetworkSpec};
use crate::plan::{CLUSTER_LABEL, ROLE_LABEL};
use crate::ui::UiOptions;

fn image() -> Image {
    Image {
        id: "sha256:7".to_owned(),
        labels: Labels::from([(
            crate::node_image::INPUTS_LABEL.to_owned(),
            crate::node_image::inputs_of(&catalog::registry().unwrap()),
        )]),
        layers: Vec::new(),
        tags: vec![catalog::registry().unwrap().image().unwrap()],
        environment: Vec::new(),
        size: 1,
    }
}

fn registry(name: &str, port: u16) -> Registry {
    Registry { name: name.to_owned(), port }
}

async fn made(engine: FakeEngine, registry: &Registry) -> (Arc<FakeEngine>, Result<bool>) {
    let engine = Arc::new(engine);
    let shared: SharedEngine = engine.clone();
    let (ui, _) = Ui::captured(UiOptions::default());
    let result = ensure(&Calls::new(shared), registry, &ui).await;
    (engine, result)
}

/// A cluster's network, with one node that does not run.
async fn cluster(engine: &FakeEngine, name: &str) {
    let labels = Labels::from([(CLUSTER_LABEL.to_owned(), name.to_owned())]);
    let network = NetworkSpec { name: network_name(name), pools: Vec::new(), mtu: None, labels: labels.clone() };
    engine.create_network(&network).await.unwrap();
    let mut spec = ContainerSpec::new(format!("{name}-control-plane"), "sha256:7");
    spec.labels = labels;
    spec.labels.insert(ROLE_LABEL.to_owned(), "control-plane".to_owned());
    spec.network = Some(network_name(name));
    engine.create_container(&spec).await.unwrap();
}

#[tokio::test]
async fn a_registry_is_made_once_and_started_again_when_it_is_stopped() {
    let wanted = registry("t-one", 5051);
    let (engine, first) = made(FakeEngine::new(&[]).with_image(image()), &wanted).await;
    assert!(first.unwrap());
    assert_eq!(engine.left(), ["container t-one", "volume t-one"]);
    let shared: SharedEngine = engine.clone();
    let (ui, _) = Ui::captured(UiOptions::default());
    let calls = Calls::new(shared);
    assert!(!ensure(&calls, &wanted, &ui).await.unwrap());
    engine.stop_container("t-one", 0).await.unwrap();
    assert!(ensure(&calls, &wanted, &ui).await.unwrap());
    let error = ensure(&calls, &registry("t-one", 5052), &ui).await.unwrap_err();
    assert_eq!(error.code(), Code::RegistryExists);
    assert!(error.to_string().contains("5051"), "{error}");
}

#[tokio::test]
async fn two_runs_at_once_make_one_registry() {
    let engine = Arc::new(FakeEngine::new(&[]).with_image(image()));
    let calls = Calls::new(engine.clone());
    let (ui, _) = Ui::captured(UiOptions::default());
    let wanted = registry("t-one", 5051);
    // The other run has made the container, and comes no further.
    let plan = crate::plan::registry::plan(&wanted, &catalog::registry().unwrap().image().unwrap()).unwrap();
    assert!(make(&calls, &plan, &wanted).await.unwrap().is_some());
    assert!(make(&calls, &plan, &wanted).await.unwrap().is_none());
    assert!(ensure(&calls, &wanted, &ui).await.unwrap());
    assert!(engine.files("t-one").keys().any(|path| path.ends_with("config.yml")), "{:?}", engine.files("t-one"));
    assert_eq!(find(&*engine, "t-one").await.unwrap().unwrap().state, "running");
}

#[tokio::test]
async fn a_taken_port_leaves_no_registry() {
    let (engine, result) =
        made(FakeEngine::new(&[]).with_image(image()).with_taken_port(5001), &registry("t-one", 5001)).await;
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::PortTaken);
    assert!(error.hints()[0].contains("--port"));
    assert_eq!(engine.left(), ["volume t-one"]);
}

#[tokio::test]
async fn a_foreign_container_of_the_name_is_left_alone() {
    let engine = FakeEngine::new(&[]).with_image(image());
    engine.create_container(&ContainerSpec::new("t-one", "sha256:7")).await.unwrap();
    let (engine, result) = made(engine, &registry("t-one", 5001)).await;
    assert_eq!(result.unwrap_err().code(), Code::RegistryExists);
    assert_eq!(engine.left(), ["container t-one"]);
}

#[tokio::test]
async fn a_cluster_goes_and_its_registry_stays() {
    let (engine, result) = made(FakeEngine::new(&[]).with_image(image()), &registry("t-one", 5051)).await;
    result.unwrap();
    cluster(&engine, "t-a").await;
    engine.connect_network(&network_name("t-a"), "t-one", "alias", None).await.unwrap();
    let shared: SharedEngine = engine.clone();
    assert_eq!(find(&*shared, "t-one").await.unwrap().unwrap().clusters, ["t-a"]);
    clusters::remove(&shared, &Scope::Cluster("t-a".parse().unwrap())).await.unwrap();
    assert_eq!(engine.left(), ["container t-one", "volume t-one"]);
    assert!(find(&*shared, "t-one").await.unwrap().unwrap().clusters.is_empty());
}

#[tokio::test]
async fn deleting_keeps_the_images_unless_it_is_asked_for() {
    let (engine, result) = made(FakeEngine::new(&[]).with_image(image()), &registry("t-one", 5051)).await;
    result.unwrap();
    let shared: SharedEngine = engine.clone();
    let removed = remove(&shared, "t-one", false).await.unwrap();
    assert!(removed.container && removed.kept && !removed.volume);
    assert_eq!(engine.left(), ["volume t-one"]);
    let removed = remove(&shared, "t-one", true).await.unwrap();
    assert!(!removed.container && removed.volume);
    assert_eq!(engine.left(), Vec::<String>::new());
    assert_eq!(remove(&shared, "t-one", true).await.unwrap(), Removed::default());
}

#[tokio::test]
async fn only_the_shared_registry_is_used_without_being_named() {
    let (engine, result) = made(FakeEngine::new(&[]).with_image(image()), &registry("t-one", 5051)).await;
    result.unwrap();
    let named = LocalRegistry::Named("t-one".to_owned());
    assert_eq!(of_cluster(&*engine, None).await.unwrap(), None);
    assert_eq!(of_cluster(&*engine, Some(&named)).await.unwrap(), Some(registry("t-one", 5051)));
    let other = LocalRegistry::Named("t-two".to_owned());
    assert_eq!(of_cluster(&*engine, Some(&other)).await.unwrap(), Some(registry("t-two", 5001)));
    assert_eq!(of_cluster(&*engine, Some(&LocalRegistry::None)).await.unwrap(), None);
}
