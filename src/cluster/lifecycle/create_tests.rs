//! Whatever fails, at whatever call: nothing of the run is left, and nothing else is touched.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::*;
use crate::config::{ClusterName, Node, Role};
use crate::engine::Engine;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{AddressPool, Image, Labels, NetworkSpec};
use crate::error::Error;
use crate::kubeconfig::Location;
use crate::plan::ProxySettings;
use crate::plan::labels;
use crate::ui::UiOptions;

fn engine() -> FakeEngine {
    FakeEngine::new(&[]).with_image(node_image())
}

fn node_image() -> Image {
    Image {
        id: "sha256:1234".to_owned(),
        labels: Labels::from([(labels::VERSION.to_owned(), "v1.36.3".to_owned())]),
        layers: Vec::new(),
        tags: vec!["coracle/node:v1.36.3".to_owned()],
        environment: Vec::new(),
        size: 1,
        ..Image::default()
    }
}

fn options(directory: &Path) -> Options {
    Options {
        wait: Duration::ZERO,
        is_awaited: true,
        retain: false,
        logs: None,
        cache: None,
        kubeconfig: Location::new(Some(&directory.join("config")), None, None).unwrap(),
        proxy: ProxySettings::default(),
        local: true,
        docker_config: None,
        written: None,
        logins: Vec::new(),
    }
}

fn cluster() -> ClusterConfig {
    let mut cluster = ClusterConfig::new("t-fake".parse::<ClusterName>().unwrap());
    cluster.nodes.push(Node::new(Role::Worker));
    cluster
}

/// Creates on this engine, where no API server ever answers, and returns the error.
async fn failure(engine: &Arc<FakeEngine>, options: &Options) -> Error {
    let shared: SharedEngine = engine.clone();
    let (ui, _) = Ui::captured(UiOptions::default());
    create(&shared, cluster(), options, &ui, &CancellationToken::new()).await.unwrap_err()
}

/// How many calls a create makes until it waits for the API server.
async fn calls(options: &Options) -> usize {
    let engine = Arc::new(engine());
    failure(&engine, options).await;
    engine.transcript().len()
}

#[tokio::test]
async fn nothing_is_left_whichever_engine_call_fails() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let calls = calls(&options).await;
    assert!(calls > 10, "{calls} calls are too few to be a create");
    for n in 1..=calls {
        let engine = Arc::new(engine().failing_at(n));
        let error = failure(&engine, &options).await;
        assert_eq!(engine.left(), Vec::<String>::new(), "call {n} failed: {error}\n{:#?}", engine.transcript());
        assert!(!directory.path().join("config").exists());
    }
}

#[tokio::test]
async fn nothing_is_left_whichever_answer_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    for n in 1..=calls(&options).await {
        let engine = Arc::new(engine().losing_answer_at(n));
        let error = failure(&engine, &options).await;
        assert_eq!(engine.left(), Vec::<String>::new(), "answer {n} was lost: {error}\n{:#?}", engine.transcript());
    }
}

#[tokio::test]
async fn a_network_of_an_earlier_cluster_stays() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Arc::new(engine());
    let mine = NetworkSpec {
        name: "coracle-t-fake".to_owned(),
        pools: vec![AddressPool {
            subnet: "172.18.0.0/22".parse().unwrap(),
            gateway: "172.18.0.1".parse().unwrap(),
            dynamic_range: "172.18.2.0/23".parse().unwrap(),
        }],
        mtu: None,
        labels: Labels::from([(labels::CLUSTER.to_owned(), "t-fake".to_owned())]),
    };
    engine.create_network(&mine).await.unwrap();
    let error = failure(&engine, &options(directory.path())).await;
    assert_eq!(error.message(), "network `coracle-t-fake` exists and belongs to cluster `t-fake`");
    assert!(error.hints().iter().any(|hint| hint.contains("coracle delete cluster --name t-fake")), "{error:?}");
    assert_eq!(engine.left(), ["network coracle-t-fake"]);
}

#[tokio::test]
async fn a_cluster_of_the_same_name_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Arc::new(engine());
    let mut retained = options(directory.path());
    retained.retain = true;
    failure(&engine, &retained).await;
    let before = engine.left();
    assert!(before.contains(&"container t-fake-worker".to_owned()), "{before:?}");
    let error = failure(&engine, &options(directory.path())).await;
    assert_eq!(error.code(), Code::ClusterExists);
    assert_eq!(engine.left(), before);
}

#[tokio::test]
async fn one_of_two_runs_of_a_name_gets_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Arc::new(engine());
    let mut retained = options(directory.path());
    retained.retain = true;
    let (one, other) = tokio::join!(failure(&engine, &retained), failure(&engine, &retained));
    let codes = [one.code(), other.code()];
    // No API server answers here: that is how the winner ends.
    assert!(codes.contains(&Code::ClusterExists) && codes.contains(&Code::NotReady), "{one}; {other}");
    let started = engine.transcript().iter().filter(|call| call.starts_with("start_container")).count();
    assert_eq!(started, 2, "{:#?}", engine.transcript());
}

#[tokio::test]
async fn the_data_of_an_earlier_cluster_is_not_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Arc::new(engine());
    let mut retained = options(directory.path());
    retained.retain = true;
    failure(&engine, &retained).await;
    for container in engine.containers(&[format!("{}=t-fake", labels::CLUSTER)]).await.unwrap() {
        engine.remove_container(&container.id).await.unwrap();
    }
    let before = engine.left();
    let error = failure(&engine, &options(directory.path())).await;
    assert_eq!(error.code(), Code::ClusterExists);
    assert!(error.hints()[0].contains("coracle delete cluster --name t-fake"));
    assert_eq!(engine.left(), before);
}

#[tokio::test]
async fn the_logs_of_a_failed_create_are_kept_and_its_nodes_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Arc::new(engine());
    let mut options = options(directory.path());
    options.logs = Some(directory.path().join("logs"));
    failure(&engine, &options).await;
    assert_eq!(engine.left(), Vec::<String>::new());
    for node in ["t-fake-control-plane", "t-fake-worker"] {
        assert!(directory.path().join("logs").join(node).join("inspect.json").exists(), "{node}");
    }
    // They are kept in the cache if the options name no place.
    (options.logs, options.cache) = (None, Some(directory.path().join("cache")));
    failure(&engine, &options).await;
    let kept = std::fs::read_dir(directory.path().join("cache/logs")).unwrap().next().unwrap().unwrap();
    assert!(kept.file_name().to_string_lossy().starts_with("t-fake-2"), "{kept:?}");
    assert!(kept.path().join("t-fake-worker/inspect.json").exists());
    // A cluster of someone else that has the name is none of this run.
    options.retain = true;
    failure(&engine, &options).await;
    options.logs = Some(directory.path().join("others"));
    assert_eq!(failure(&engine, &options).await.code(), Code::ClusterExists);
    assert!(!directory.path().join("others").exists());
}

#[tokio::test]
async fn an_interruption_removes_what_was_made() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Arc::new(engine());
    let shared: SharedEngine = engine.clone();
    let (ui, _) = Ui::captured(UiOptions::default());
    let stop = CancellationToken::new();
    let mut options = options(directory.path());
    options.wait = Duration::from_secs(60);
    let work = create(&shared, cluster(), &options, &ui, &stop);
    let (result, ()) = tokio::join!(work, async {
        sleep(Duration::from_millis(300)).await;
        assert!(engine.left().len() > 3, "{:?}", engine.left());
        stop.cancel();
    });
    assert_eq!(result.unwrap_err().code(), Code::Interrupted);
    assert_eq!(engine.left(), Vec::<String>::new());
}

#[tokio::test]
async fn every_node_is_started_before_the_api_is_awaited() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Arc::new(engine());
    let error = failure(&engine, &options(directory.path())).await;
    // No API server answers on this engine; everything before that worked.
    assert_eq!(error.code(), Code::NotReady, "{error}");
    assert_eq!(error.message(), "the cluster is not usable after 0s");
    assert!(error.cause().is_some_and(|cause| cause.contains("cannot create Node")), "{error}");
    let started = engine.transcript().iter().filter(|call| call.starts_with("start_container")).count();
    assert_eq!(started, 2, "{:#?}", engine.transcript());
}

/// What a create of this file says on an engine whose node image has these labels: its error, and its warnings.
async fn told(file: &str, labels: &[(&str, String)]) -> (Option<Error>, String, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nname: t-fake\n{file}");
    let cluster = crate::config::load(&text, "c.yaml", &crate::config::Overrides::default()).unwrap();
    let mut image = node_image();
    image.labels.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let engine = Arc::new(FakeEngine::new(&[]).with_image(image));
    let written = Some(crate::config::upstream::Written { file: "c.yaml".to_owned(), text });
    let options = Options { written, ..options(directory.path()) };
    let (ui, capture) = Ui::captured(UiOptions::default());
    let shared: SharedEngine = engine.clone();
    let planned = dry_run(&shared, cluster.clone(), &options, &ui).await.err();
    let created = create(&shared, cluster, &options, &ui, &CancellationToken::new()).await.unwrap_err();
    let problems = |error: &Error| error.problems().iter().map(|problem| problem.place.clone()).collect::<Vec<_>>();
    if let Some(planned) = &planned {
        assert_eq!(problems(planned), problems(&created), "a dry run tells the same");
    }
    (planned, capture.stderr(), engine.transcript())
}

#[tokio::test]
async fn what_the_image_does_not_know_is_refused_before_anything_is_made() {
    let label = [(labels::SETTINGS, crate::config::known::tests::label("v1.36.3"))];
    let file = "kubelet:\n  maxPodz: 50\napiServer:\n  profilin: x\n";
    let (error, warnings, calls) = Box::pin(told(file, &label)).await;
    let error = error.unwrap();
    assert_eq!((error.code(), error.message()), (Code::ConfigInvalid, "the configuration `c.yaml` has 2 problems"));
    assert_eq!(error.problems()[0].place, "c.yaml:5:3");
    assert!(error.problems()[0].message.ends_with("did you mean `maxPods`?"));
    assert!(!warnings.contains("not checked"), "{warnings}");
    assert!(!calls.iter().any(|call| call.contains("create")), "{calls:#?}");
}

#[tokio::test]
async fn an_image_without_a_list_is_warned_about_only_if_it_matters() {
    let (error, warnings, _) = Box::pin(told("kubelet: {maxPodz: 50}\netcd: {v: 1}\n", &[])).await;
    assert!(error.is_none(), "{error:?}");
    assert!(warnings.contains("`coracle/node:v1.36.3` does not list"), "{warnings}");
    assert!(warnings.contains("the fields of `kubelet`, `etcd` are not checked"), "{warnings}");
    let (error, warnings, _) = Box::pin(told("image: coracle/node:v1.36.3\n", &[])).await;
    assert!(error.is_none() && !warnings.contains("not checked"), "{warnings}");
}
