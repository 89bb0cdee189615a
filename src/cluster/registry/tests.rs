use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::cluster::lifecycle::delete as clusters;
use crate::cluster::lifecycle::delete::Scope;
use crate::cluster::registry::nodes::write_files;
use crate::cluster::registry::*;
use crate::config::LocalRegistry;
use crate::engine::SharedEngine;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, ExecOutput, Image, Labels, Mount, NetworkSpec};
use crate::plan::FileTree;
use crate::plan::labels;
use crate::plan::node::container::network_name;
use crate::ui::{Ui, UiOptions};

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
        ..Image::default()
    }
}

fn registry(name: &str, port: u16) -> Registry {
    Registry { name: name.to_owned(), port }
}

/// A run on this engine that shows nothing.
fn run(engine: &Arc<FakeEngine>) -> Run {
    let shared: SharedEngine = engine.clone();
    Run::new(&shared, &Ui::captured(UiOptions::default()).0, "run", Duration::ZERO)
}

async fn made(engine: FakeEngine, registry: &Registry) -> (Arc<FakeEngine>, Result<bool>) {
    let engine = Arc::new(engine);
    let result = ensure(&run(&engine), registry, false).await;
    (engine, result)
}

/// A cluster's network, with one node that does not run.
async fn cluster(engine: &FakeEngine, name: &str) {
    let labels = Labels::from([(labels::CLUSTER.to_owned(), name.to_owned())]);
    let network = NetworkSpec { name: network_name(name), pools: Vec::new(), mtu: None, labels: labels.clone() };
    engine.create_network(&network).await.unwrap();
    let mut spec = ContainerSpec::new(format!("{name}-control-plane"), "sha256:7");
    spec.labels = labels;
    spec.labels.insert(labels::ROLE.to_owned(), "control-plane".to_owned());
    spec.network = Some(network_name(name));
    engine.create_container(&spec).await.unwrap();
}

#[tokio::test]
async fn a_registry_is_made_once_and_started_again_when_it_is_stopped() {
    let wanted = registry("t-one", 5051);
    let (engine, first) = made(FakeEngine::new(&[]).with_image(image()), &wanted).await;
    assert!(first.unwrap());
    assert_eq!(engine.left(), ["container t-one", "volume t-one"]);
    assert!(!ensure(&run(&engine), &wanted, false).await.unwrap());
    engine.stop_container("t-one", 0).await.unwrap();
    assert!(ensure(&run(&engine), &wanted, false).await.unwrap());
    let error = ensure(&run(&engine), &registry("t-one", 5052), false).await.unwrap_err();
    assert_eq!(error.code(), Code::RegistryExists);
    assert!(error.to_string().contains("5051"), "{error}");
}

#[tokio::test]
async fn two_runs_at_once_make_one_registry() {
    let engine = Arc::new(FakeEngine::new(&[]).with_image(image()));
    let shared: SharedEngine = engine.clone();
    let wanted = registry("t-one", 5051);
    // The other run has made the container, and comes no further.
    let plan = crate::plan::beside::registry::plan(&wanted, &catalog::registry().unwrap().image().unwrap()).unwrap();
    let id = create(&*shared, &plan, &wanted).await.unwrap();
    assert_eq!(create(&*shared, &plan, &wanted).await.unwrap(), id);
    assert!(ensure(&run(&engine), &wanted, false).await.unwrap());
    assert!(engine.files("t-one").keys().any(|path| path.ends_with("config.yml")), "{:?}", engine.files("t-one"));
    assert_eq!(find(&*engine, "t-one").await.unwrap().unwrap().state, State::Running);
}

#[tokio::test]
async fn a_taken_port_leaves_no_registry() {
    let (engine, result) =
        made(FakeEngine::new(&[]).with_image(image()).with_taken_port(5001), &registry("t-one", 5001)).await;
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::PortTaken);
    assert!(error.hints()[0].contains("--name t-one --port"));
    assert_eq!(engine.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_taken_port_keeps_the_previous_images() {
    let (engine, result) =
        made(FakeEngine::new(&[]).with_image(image()).with_taken_port(5052), &registry("t-one", 5051)).await;
    result.unwrap();
    let shared: SharedEngine = engine.clone();
    delete(&shared, "t-one", false).await.unwrap();
    let other = Run { id: "other".to_owned(), ..run(&engine) };
    let error = ensure(&other, &registry("t-one", 5052), false).await.unwrap_err();
    assert_eq!(error.code(), Code::PortTaken);
    assert_eq!(engine.left(), ["volume t-one"]);
}

#[tokio::test]
async fn a_taken_port_is_reported_before_anything_is_built() {
    let program = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = program.local_addr().unwrap().port();
    let engine = Arc::new(FakeEngine::new(&[]));
    let shared: SharedEngine = engine.clone();
    let (ui, shown) = Ui::captured(UiOptions::default());
    let visible = Run::new(&shared, &ui, "run", Duration::ZERO);
    let error = ensure(&visible, &registry("t-one", port), true).await.unwrap_err();
    assert_eq!(error.code(), Code::PortTaken);
    assert_eq!((shown.stderr(), engine.left()), (String::new(), Vec::new()));
    drop(program);

    let (engine, result) = made(FakeEngine::new(&[]).with_image(image()), &registry("t-one", 5051)).await;
    result.unwrap();
    let error = ensure(&run(&engine), &registry("t-two", 5051), false).await.unwrap_err();
    assert_eq!((error.code(), error.cause()), (Code::PortTaken, Some("registry `t-one` has it")));
}

#[tokio::test]
async fn a_foreign_volume_of_the_name_is_left_alone() {
    let engine = FakeEngine::new(&[]).with_image(image());
    let mut spec = ContainerSpec::new("t-other", "sha256:7");
    let name = "t-one".to_owned();
    spec.mounts = vec![Mount::Volume { name, target: "/data".to_owned(), labels: Labels::new() }];
    engine.create_container(&spec).await.unwrap();
    let (engine, result) = made(engine, &registry("t-one", 5001)).await;
    assert_eq!(result.unwrap_err().code(), Code::RegistryExists);
    assert_eq!(engine.left(), ["container t-other", "volume t-one"]);
}

#[tokio::test]
async fn pruning_says_what_is_free() {
    let engine = FakeEngine::new(&[]).with_image(image()).on_exec(|_, command, _| {
        let said = format!(
            "4 blobs marked, 2 blobs and 1 manifests eligible for deletion\nblob eligible for deletion: sha256:{}\n\
             blob eligible for deletion: sha256:{}\n",
            "a".repeat(64),
            "b".repeat(64)
        );
        assert!(command.contains(&"--delete-untagged"), "{command:?}");
        ExecOutput { exit_code: 0, stdout: said.into(), stderr: Vec::new() }
    });
    let (engine, result) = made(engine, &registry("t-one", 5051)).await;
    result.unwrap();
    let mut files = FileTree::default();
    for (letter, content) in [("a", "12345"), ("b", "1234567")] {
        files.text(crate::plan::beside::registry::blob(&format!("sha256:{}", letter.repeat(64))), content);
    }
    write_files(&*engine, "t-one", &files).await.unwrap();
    for dry_run in [true, false] {
        let pruned = prune(&*engine, "t-one", dry_run).await.unwrap();
        assert_eq!(pruned, Pruned { blobs: 2, images: 1, freed: 12 });
        let collections = engine.transcript().iter().filter(|call| call.ends_with("config.yml")).count();
        assert_eq!(collections, usize::from(!dry_run));
    }
    engine.stop_container("t-one", 0).await.unwrap();
    let error = prune(&*engine, "t-one", false).await.unwrap_err();
    assert!(error.hints()[0].contains("registry create --name t-one"), "{error:?}");
    assert_eq!(prune(&*engine, "t-two", false).await.unwrap_err().code(), Code::NotFound);
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
    engine.connect_network(&network_name("t-a"), "t-one", "alias", &[]).await.unwrap();
    let shared: SharedEngine = engine.clone();
    assert_eq!(find(&*shared, "t-one").await.unwrap().unwrap().clusters, ["t-a".parse().unwrap()]);
    clusters::delete(&shared, &Scope::Cluster("t-a".parse().unwrap())).await.unwrap();
    assert_eq!(engine.left(), ["container t-one", "volume t-one"]);
    assert!(find(&*shared, "t-one").await.unwrap().unwrap().clusters.is_empty());
}

#[tokio::test]
async fn deleting_keeps_the_images_unless_it_is_asked_for() {
    let (engine, result) = made(FakeEngine::new(&[]).with_image(image()), &registry("t-one", 5051)).await;
    result.unwrap();
    let shared: SharedEngine = engine.clone();
    let removed = delete(&shared, "t-one", false).await.unwrap();
    assert!(removed.container && removed.kept && !removed.volume);
    assert_eq!(engine.left(), ["volume t-one"]);
    assert!(!is_absent(&*shared, "t-one").await.unwrap());
    let removed = delete(&shared, "t-one", true).await.unwrap();
    assert!(!removed.container && removed.volume);
    assert_eq!(engine.left(), Vec::<String>::new());
    assert!(is_absent(&*shared, "t-one").await.unwrap());
    assert_eq!(delete(&shared, "t-one", true).await.unwrap(), RegistryRemoval::default());
}

#[tokio::test]
async fn a_registry_is_for_the_clusters_whose_configuration_says_so() {
    let engine = FakeEngine::new(&[]).with_image(image());
    for (name, line) in
        [("t-a", ""), ("t-b", "registry: true\n"), ("t-c", "registry: false\n"), ("t-d", "registry: t-one\n")]
    {
        cluster(&engine, name).await;
        let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{line}");
        let mut files = FileTree::default();
        files.text(crate::plan::node::CLUSTER_CONFIG, text);
        write_files(&engine, &format!("{name}-control-plane"), &files).await.unwrap();
    }
    let users = async |registry: &str| {
        let clusters = users(&engine, registry).await.unwrap();
        clusters.into_iter().map(|cluster| cluster.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(users(LocalRegistry::DEFAULT).await, ["t-a", "t-b"]);
    assert_eq!(users("t-one").await, ["t-d"]);
    assert!(users("t-two").await.is_empty());
}

#[tokio::test]
async fn a_cluster_that_does_not_run_keeps_nobody_waiting() {
    let (engine, result) = made(FakeEngine::new(&[]).with_image(image()), &registry("t-one", 5051)).await;
    result.unwrap();
    cluster(&engine, "t-a").await;
    let shared: SharedEngine = engine.clone();
    let clusters = crate::cluster::list(&*shared).await.unwrap();
    let results = attach_all(&run(&engine), &registry("t-one", 5051), &clusters).await;
    assert!(results[0].1.as_ref().unwrap_err().message().contains("t-a-control-plane does not run"), "{results:?}");
    // When it starts, it finds the registry nevertheless.
    assert_eq!(find(&*shared, "t-one").await.unwrap().unwrap().clusters, ["t-a".parse().unwrap()]);
    assert!(engine.files("t-a-control-plane").keys().any(|path| path.ends_with("localhost:5051/hosts.toml")));
}

#[tokio::test]
async fn an_interrupted_run_removes_only_what_it_made() {
    let wanted = registry("t-one", 5051);
    let (engine, result) = made(FakeEngine::new(&[]).with_image(image()), &wanted).await;
    result.unwrap();
    let shared: SharedEngine = engine.clone();
    let other = Run { id: "other".to_owned(), ..run(&engine) };
    // It exists: another run only connects clusters with it.
    ensure(&other, &wanted, false).await.unwrap();
    abandon(&shared, "t-one", "other").await.unwrap();
    assert_eq!(engine.left(), ["container t-one", "volume t-one"]);
    delete(&shared, "t-one", false).await.unwrap();
    ensure(&other, &wanted, false).await.unwrap();
    cluster(&engine, "t-a").await;
    engine.connect_network(&network_name("t-a"), "t-one", "alias", &[]).await.unwrap();
    abandon(&shared, "t-one", "other").await.unwrap();
    // The images of the earlier registry stay.
    assert_eq!(engine.left(), ["container t-a-control-plane", "network coracle-t-a", "volume t-one"]);
    delete(&shared, "t-one", true).await.unwrap();
    ensure(&other, &wanted, false).await.unwrap();
    abandon(&shared, "t-one", "other").await.unwrap();
    assert_eq!(engine.left(), ["container t-a-control-plane", "network coracle-t-a"]);
}

#[tokio::test]
async fn a_registry_is_known_by_its_label_also_under_another_name() {
    let wanted = registry("t-one", 5051);
    let engine = FakeEngine::new(&[]).with_image(image());
    let mut plan =
        crate::plan::beside::registry::plan(&wanted, &catalog::registry().unwrap().image().unwrap()).unwrap();
    plan.spec.name = "t-renamed".to_owned();
    engine.create_container(&plan.spec).await.unwrap();
    engine.create_container(&ContainerSpec::new("t-one", "sha256:7")).await.unwrap();
    cluster(&engine, "t-a").await;
    let engine = Arc::new(engine);
    ensure(&run(&engine), &wanted, false).await.unwrap();
    let clusters = crate::cluster::list(&*engine).await.unwrap();
    attach_all(&run(&engine), &wanted, &clusters).await;
    // What the user has under the registry's name is neither written, started nor connected.
    assert!(engine.files("t-one").is_empty());
    let all = engine.containers(&[]).await.unwrap();
    let mine = all.iter().find(|container| container.name == "t-one").unwrap();
    assert_eq!((mine.state, mine.networks.len()), (State::Created, 0));
    assert_eq!(find(&*engine, "t-one").await.unwrap().unwrap().clusters, ["t-a".parse().unwrap()]);
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
