//! Listing and changing what nodes have, in nodes that only exist in memory.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, ExecOutput};
use crate::error::Code;
use crate::image::{ImageRemoval, inventory, list, prune, remove, tag};

const APP: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const OLD: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";
const PULLED: &str = "sha256:3333333333333333333333333333333333333333333333333333333333333333";
const BACK: &str = "sha256:5555555555555555555555555555555555555555555555555555555555555555";
const PAUSE: &str = "sha256:4444444444444444444444444444444444444444444444444444444444444444";

fn digest(name: &str) -> String {
    format!("{name}@{OLD}")
}

fn full(name: &str) -> String {
    format!("docker.io/library/{name}")
}

fn images() -> Value {
    json!({"images": [
        {"id": APP, "repoTags": [full("app:1"), full("app:2")], "repoDigests": [], "size": "1500000", "pinned": true},
        {"id": OLD, "repoTags": [], "repoDigests": [], "size": "1000000", "pinned": false},
        {"id": PULLED, "repoTags": ["quay.io/a/b:3"], "repoDigests": [digest("quay.io/a/b")], "size": "7", "pinned": false},
        {"id": PAUSE, "repoTags": ["registry.k8s.io/pause:3", full("mine:1")], "repoDigests": [], "size": "9", "pinned": true},
    ]})
}

fn container(image: &str, name: &str, pod: &str) -> Value {
    let labels = json!({
        "io.kubernetes.pod.name": pod, "io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.uid": pod,
        "io.kubernetes.container.name": "main",
    });
    let spec = json!({"image": image, "userSpecifiedImage": name});
    json!({"imageRef": image, "image": spec, "metadata": {"name": "main", "attempt": 0}, "labels": labels})
}

fn answer(command: &[&str]) -> ExecOutput {
    let text = match command {
        ["crictl", _, _, "images", ..] => images().to_string(),
        ["crictl", _, _, "ps", ..] => {
            let state = |state: &str, pod: &str, container: Value| {
                let mut container = container;
                container["state"] = state.into();
                container["podSandboxId"] = pod.into();
                container
            };
            json!({"containers": [
                state("CONTAINER_RUNNING", "1", container(APP, "app:1", "web")),
                state("CONTAINER_EXITED", "1", container(APP, "app:1", "web")),
                // Its pod exists, and will start it again.
                state("CONTAINER_EXITED", "2", container(BACK, "back:1", "crashing")),
                // Its pod has been deleted.
                state("CONTAINER_EXITED", "3", container(OLD, "old:1", "gone")),
            ]})
            .to_string()
        }
        ["crictl", _, _, "pods", "--state=ready", ..] => json!({"items": [{"id": "1"}, {"id": "2"}]}).to_string(),
        ["sh", "-c", script, _] if script.contains("pinned\"==") => {
            let names =
                [full("app:1"), full("app:2"), "registry.k8s.io/pause:3".to_owned(), PAUSE.to_owned()].join("\n");
            format!("{names}\n--\n{}\n{}\n{}\n", full("app:1"), full("app:2"), full("mine:1"))
        }
        ["sh", "-c", script] if script.contains("du ") => "4096\tsnapshots/7\n".to_owned(),
        _ => String::new(),
    };
    ExecOutput { exit_code: 0, stdout: text.into(), stderr: Vec::new() }
}

async fn engine() -> FakeEngine {
    let engine = FakeEngine::new(&["node"]).on_exec(|_, command, _| answer(command));
    for node in ["a", "b"] {
        engine.create_container(&ContainerSpec::new(node, "node")).await.unwrap();
        engine.start_container(node).await.unwrap();
    }
    engine
}

fn nodes() -> Vec<String> {
    vec!["a".to_owned(), "b".to_owned()]
}

/// The commands in node `a` that change something.
fn changes(engine: &FakeEngine) -> Vec<String> {
    let all = engine.transcript().into_iter().filter(|call| call.starts_with("exec a "));
    all.filter(|call| call.contains(" rmi ") || call.contains("images remove") || call.contains("images tag"))
        .map(|call| call.split_once("60s ").map_or(call.clone(), |(_, rest)| rest.to_owned()))
        .collect()
}

#[tokio::test]
async fn an_image_is_one_line_with_its_nodes_and_pods() {
    let engine = engine().await;
    let listed = list(&inventory(&engine, &nodes()).await.unwrap());
    let title: Vec<String> = listed.iter().map(crate::image::Listed::title).collect();
    assert_eq!(title, ["app:1, app:2", "mine:1, registry.k8s.io/pause:3", "quay.io/a/b:3", "222222222222"]);
    assert_eq!(listed[0].nodes, nodes());
    assert_eq!(listed[0].pods, ["default/web"]);
    assert_eq!(listed[0].size, 1_500_000);
    let flags: Vec<(bool, bool)> = listed.iter().map(|image| (image.pinned, image.preloaded)).collect();
    assert_eq!(flags, [(true, false), (true, true), (false, false), (false, false)]);
}

async fn removed(images: &[&str], force: bool) -> (crate::error::Result<Vec<ImageRemoval>>, Vec<String>) {
    let engine = engine().await;
    let images: Vec<String> = images.iter().map(|text| (*text).to_owned()).collect();
    let result = remove(&engine, &nodes(), &images, force).await;
    let changes = changes(&engine);
    (result, changes)
}

#[tokio::test]
async fn a_name_is_removed_alone_and_the_last_one_with_its_image() {
    let (result, changes) = removed(&["app:2"], false).await;
    assert_eq!(result.unwrap()[0].untagged, [full("app:2")]);
    assert!(
        changes.len() == 1
            && changes[0].contains("images remove")
            && changes[0].ends_with("sh docker.io/library/app:2")
    );

    let (result, changes) = removed(&["quay.io/a/b:3"], false).await;
    let result = result.unwrap();
    assert_eq!((result[0].images[0].id.as_str(), result[0].untagged.len()), (PULLED, 0));
    assert_eq!(changes, [format!("rmi {PULLED}")]);

    let (result, changes) = removed(&["app:2", "app:1"], true).await;
    let result = result.unwrap();
    assert_eq!((result[1].images[0].id.as_str(), result[1].untagged.len()), (APP, 0));
    assert_eq!(changes, [format!("rmi {APP}")]);

    let (result, changes) = removed(&["2222"], false).await;
    assert_eq!(result.unwrap()[0].images[0].title(), "222222222222");
    assert_eq!(changes, [format!("rmi {OLD}")]);
}

#[tokio::test]
async fn what_is_used_or_came_with_the_node_image_stays() {
    let (result, changes) = removed(&["2222", "app:1"], false).await;
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::ImageInUse);
    assert!(error.cause().unwrap().contains("default/web"), "{error}");
    assert_eq!(changes, Vec::<String>::new());

    for name in ["registry.k8s.io/pause:3", "4444"] {
        let (result, changes) = removed(&[name], true).await;
        let error = result.unwrap_err();
        assert_eq!(error.code(), Code::ImageInUse);
        assert!(error.cause().unwrap().contains("node image"), "{error}");
        assert_eq!(changes, Vec::<String>::new());
    }
    // A name that was added later may be removed.
    let (result, _) = removed(&["mine:1"], false).await;
    assert_eq!(result.unwrap()[0].untagged, [full("mine:1")]);
}

#[tokio::test]
async fn only_what_runs_or_starts_again_keeps_an_image() {
    let engine = engine().await;
    let stores = inventory(&engine, &nodes()).await.unwrap();
    let pods: BTreeSet<&str> = stores[0].containers.iter().map(|container| container.pod.as_str()).collect();
    assert_eq!(pods, BTreeSet::from(["default/crashing", "default/web"]));
}

#[tokio::test]
async fn a_missing_image_is_reported_with_similar_names() {
    let (result, _) = removed(&["ap:1"], false).await;
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::ImageMissing);
    assert!(error.hints()[0].contains("app:1"), "{:?}", error.hints());
}

#[tokio::test]
async fn prune_leaves_what_is_used_wanted_or_of_the_node_image() {
    let engine = engine().await;
    let pruned = prune(&engine, &nodes(), &nodes()[..1], &BTreeSet::new(), true).await.unwrap();
    let titles =
        |pruned: &[ImageRemoval]| pruned[0].images.iter().map(crate::image::RemovedImage::title).collect::<Vec<_>>();
    assert_eq!((pruned.len(), titles(&pruned)), (1, vec!["222222222222".to_owned(), "quay.io/a/b:3".to_owned()]));
    assert_eq!(changes(&engine), Vec::<String>::new());

    let wanted = BTreeSet::from(["quay.io/a/b:3".to_owned()]);
    let pruned = prune(&engine, &nodes(), &nodes(), &wanted, false).await.unwrap();
    assert_eq!(titles(&pruned), ["222222222222"]);
    assert_eq!(changes(&engine), [format!("rmi {OLD}")]);
}

#[tokio::test]
async fn a_name_is_given_where_the_image_is_and_never_taken_from_the_node_image() {
    let engine = engine().await;
    assert_eq!(tag(&engine, &nodes(), "app:1", &"new:1".parse().unwrap()).await.unwrap(), nodes());
    assert!(changes(&engine)[0].ends_with(&format!("{APP} docker.io/library/new:1")));
    let error = tag(&engine, &nodes(), "app:1", &"registry.k8s.io/pause:3".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.code(), Code::ImageInUse);
}
