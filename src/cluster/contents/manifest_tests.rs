use std::sync::Arc;

use super::*;
use crate::config::ClusterName;
use crate::engine::fake::FakeEngine;
use crate::kubernetes::object;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

const VERSION: &str = "v1.36.3";

fn cluster(manifests: &[String], images: &[&str]) -> ClusterConfig {
    let mut cluster = ClusterConfig::new(ClusterName::default());
    cluster.manifests = manifests.to_vec();
    cluster.images = images.iter().map(|image| (*image).to_owned()).collect();
    cluster
}

/// What is wrong with a file of this text, without the directory.
async fn problems(text: &str) -> Vec<String> {
    let directory = directory(&[("a.yaml", text)]);
    let path = directory.path().join("a.yaml").display().to_string();
    let Err(error) = check(&FakeEngine::new(&[]), &cluster(&[path], &[]), VERSION).await else { return Vec::new() };
    let place = |place: &str| place.rsplit('/').next().unwrap_or_default().to_owned();
    error.problems().iter().map(|problem| format!("{} {}", place(&problem.place), problem.message)).collect()
}

const GOOD: &str = "\
# a comment, which is no document of its own
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: b}}
- {apiVersion: v1, kind: Secret, metadata: {name: c}}
";

#[tokio::test]
async fn objects_come_in_the_order_of_names_and_documents() {
    let json = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "d"}}"#;
    let directory = directory(&[("b.json", json), ("a.yaml", GOOD), ("notes.txt", "not: [this")]);
    let path = directory.path().display().to_string();
    let (found, warnings) = check(&FakeEngine::new(&[]), &cluster(&[path], &[]), VERSION).await.unwrap();
    assert_eq!(warnings, [""; 0]);
    let names = found.iter().map(|document| (document.number, object::name(&document.object)));
    assert_eq!(names.collect::<Vec<_>>(), [(1, "a"), (3, "b"), (3, "c"), (1, "d")]);
    assert!(found[2].place().ends_with("a.yaml:11, document 3"), "{}", found[2].place());
}

#[tokio::test]
async fn every_problem_is_reported_with_file_and_place() {
    let directory = directory(&[
        ("1.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nkind: Secret\n"),
        ("2.yaml", "a: 1\nb: [1, 2\nc: 3\n"),
        ("3.yaml", "just a word"),
    ]);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let paths = [path("1.yaml"), path("2.yaml"), path("3.yaml"), path("4.yaml")];
    let engine: Arc<dyn Engine> = Arc::new(FakeEngine::new(&[]));
    let error = check(&*engine, &cluster(&paths, &["t-none:1"]), VERSION).await.unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
    let lines: Vec<_> =
        error.problems().iter().map(|problem| format!("{}: {}", problem.place, problem.message)).collect();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert!(
        lines[0].contains("1.yaml:5:1: document 2: ") && lines[0].contains("`apiVersion` is missing"),
        "{lines:#?}"
    );
    assert!(lines[1].contains("2.yaml:3:2: this is not YAML"), "{lines:#?}");
    assert!(lines[2].contains("3.yaml:1:1: this is not a Kubernetes object"), "{lines:#?}");
    assert!(lines[3].contains("4.yaml: No such file"), "{lines:#?}");
    assert!(lines[4].starts_with("images: ") && lines[4].contains("t-none:1"), "{lines:#?}");
}

#[tokio::test]
async fn an_image_alone_is_reported_as_by_load() {
    let error = check(&FakeEngine::new(&[]), &cluster(&[], &["t-none:1"]), VERSION).await.unwrap_err();
    assert_eq!(error.code(), Code::ImageMissing);
}

#[tokio::test]
async fn merge_keys_and_scalars_are_read_as_kubectl_reads_them() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: &l {a: b}, annotations: {<<: *l, c: d}}\n\
                spec: {volumes: [{name: v, secret: {defaultMode: 0400}}], hostNetwork: yes}\n";
    let directory = directory(&[("a.yaml", text)]);
    let path = directory.path().display().to_string();
    let (found, warnings) = check(&FakeEngine::new(&[]), &cluster(&[path], &[]), VERSION).await.unwrap();
    assert_eq!(warnings, [""; 0]);
    let object = &found[0].object;
    assert_eq!(object["metadata"]["annotations"], serde_json::json!({"a": "b", "c": "d"}));
    assert_eq!(object["spec"]["volumes"][0]["secret"]["defaultMode"], 256);
    assert_eq!(object["spec"]["hostNetwork"], true);
}

#[tokio::test]
async fn what_the_api_server_will_refuse_is_told_before_at_its_line() {
    let text = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data:
  port: 80
---
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: shop}
  spec:
    replica: 3
    template: {spec: {containers: [{name: a, image: b, env: [{name: X, value: on}]}]}}
- apiVersion: policy/v1beta1
  kind: PodDisruptionBudget
  metadata: {name: p}
";
    assert_eq!(
        problems(text).await,
        [
            "a.yaml:5:9 document 1: ConfigMap `a`: `data.port` must be a string, not the number `80`; put it in quotes",
            "a.yaml:14:5 document 2: Deployment `shop/web`: unknown field `spec.replica`; did you mean `replicas`?",
            "a.yaml:15:79 document 2: Deployment `shop/web`: `spec.template.spec.containers[0].env[0].value` must be \
             a string, not the boolean `true`; put it in quotes",
            "a.yaml:16:15 document 2: PodDisruptionBudget `p`: Kubernetes has no kind `PodDisruptionBudget` in \
             `policy/v1beta1`; it is in `policy/v1`",
            "a.yaml:10:1 Deployment `shop/web`: no manifest makes the namespace `shop`",
        ]
    );
}

#[tokio::test]
async fn namespaces_that_exist_or_are_made_are_known() {
    let pod =
        |namespace: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a, namespace: {namespace}}}}}\n");
    let made = "{apiVersion: v1, kind: Namespace, metadata: {name: later}}\n";
    let custom = "{apiVersion: a.example/v1, kind: Page, metadata: {name: a, namespace: unknown}}\n";
    let text = [pod("later").as_str(), &pod("kube-system"), custom, made].join("---\n");
    assert_eq!(problems(&text).await, [""; 0]);
    assert!(problems(&pod("later")).await[0].contains("no manifest makes the namespace `later`"));
}

#[tokio::test]
async fn a_key_that_is_set_twice_is_a_warning_with_its_place() {
    let directory =
        directory(&[("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: one\n  a: two\n")]);
    let path = directory.path().display().to_string();
    let (found, warnings) = check(&FakeEngine::new(&[]), &cluster(&[path], &[]), VERSION).await.unwrap();
    assert_eq!(found[0].object["data"]["a"], "two");
    assert!(warnings[0].ends_with("a.yaml:6:3: `a` is set twice; the last one counts, as for kubectl"), "{warnings:?}");
}
