//! What clusters that exist can lack, in an engine in memory.

use std::net::TcpListener;
use std::sync::Arc;

use super::*;
use crate::cluster::upload::write_files;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, Labels, NetworkSpec, PortBinding, Protocol};
use crate::plan::{FileTree, lifetime};

fn labels(values: &[(&str, &str)]) -> Labels {
    values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A container of a cluster; it has the name of its role.
fn part(cluster: &str, role: &str) -> ContainerSpec {
    let labels = labels(&[(labels::CLUSTER, cluster), (labels::ROLE, role), (labels::VERSION, "v1.36.3")]);
    ContainerSpec { labels, ..ContainerSpec::new(format!("{cluster}-{role}"), "node") }
}

async fn network(engine: &FakeEngine, cluster: &str, mark: Option<&str>) {
    let mut labels = labels(&[(labels::CLUSTER, cluster)]);
    labels.extend(mark.map(|mark| (labels::PROCESS.to_owned(), mark.to_owned())));
    let spec = NetworkSpec { name: network_name(cluster), pools: Vec::new(), mtu: None, labels };
    engine.create_network(&spec).await.unwrap();
}

async fn examined(engine: &Arc<FakeEngine>) -> Vec<Finding> {
    let engine: SharedEngine = engine.clone();
    findings(&engine, None, Vec::new()).await.unwrap()
}

/// The failed ones of the clusters: ID and words.
fn failed(findings: &[Finding]) -> Vec<(&'static str, String)> {
    let failed = findings.iter().filter(|finding| finding.check.id != Id::KubectlSkew);
    failed.filter_map(|one| Some((one.check.id.row().id, one.check.result.as_ref().err()?.in_words()))).collect()
}

#[tokio::test]
async fn clusters_that_run_in_part_or_not_at_all_are_told() {
    let engine = Arc::new(FakeEngine::new(&["node"]));
    for cluster in ["idle", "half", "well"] {
        network(&engine, cluster, None).await;
        for role in ["control-plane", "worker"] {
            engine.create_container(&part(cluster, role)).await.unwrap();
        }
    }
    for name in ["half-control-plane", "well-control-plane", "well-worker"] {
        engine.start_container(name).await.unwrap();
    }
    let found = failed(&examined(&engine).await);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], ("cluster-stopped", "cluster `idle` is stopped".to_owned()));
    assert_eq!(found[1].0, "cluster-partial");
    assert!(found[1].1.contains("`half-worker` is created"), "{found:?}");
}

#[tokio::test]
async fn what_a_stopped_cluster_lacks_to_start_is_told() {
    let engine = Arc::new(FakeEngine::new(&["node"]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = PortBinding {
        host_address: [127, 0, 0, 1].into(),
        host_port: listener.local_addr().unwrap().port(),
        container_port: 6443,
        protocol: Protocol::Tcp,
    };
    engine.create_container(&ContainerSpec { ports: vec![port], ..part("idle", "control-plane") }).await.unwrap();
    let ids = |found: &[Finding]| failed(found).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids(&examined(&engine).await), ["cluster-stopped", "network-missing", "port-lost"]);
    drop(listener);
    network(&engine, "idle", None).await;
    assert_eq!(ids(&examined(&engine).await), ["cluster-stopped"]);
}

#[tokio::test]
async fn what_is_left_is_told_and_mended() {
    let engine = Arc::new(FakeEngine::new(&["node"]));
    let own = process::own();
    let parts: Vec<&str> = own.split('-').collect();
    network(&engine, "torn", Some(&format!("{}-1-{}", parts[0], parts[2]))).await;
    network(&engine, "unknown", None).await;
    let registry = labels(&[(labels::REGISTRY, "t-registry"), (labels::PORT, "5001")]);
    engine
        .create_container(&ContainerSpec { labels: registry, ..ContainerSpec::new("t-registry", "node") })
        .await
        .unwrap();
    let found = examined(&engine).await;
    let ids: Vec<&str> = failed(&found).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["leftovers", "cluster-unfinished", "registry-stopped"]);
    let unknown = found.iter().find(|finding| finding.check.id == Id::ClusterUnfinished).unwrap();
    assert_eq!(unknown.command().as_deref(), Some("coracle delete cluster --name unknown"));
    let shared: SharedEngine = engine.clone();
    for fix in found.iter().filter_map(|finding| finding.fix.as_ref()) {
        fix.apply(Some(&shared)).await.unwrap();
    }
    let ids: Vec<&str> = failed(&examined(&engine).await).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["cluster-unfinished"]);
}

#[tokio::test]
async fn a_cluster_whose_time_is_over_is_told() {
    let engine = Arc::new(FakeEngine::new(&["node"]));
    let expiry = "2026-01-02T03:04:05Z";
    let mut spec = part("over", "control-plane");
    spec.labels.insert(labels::EXPIRES.to_owned(), expiry.to_owned());
    engine.create_container(&spec).await.unwrap();
    network(&engine, "over", None).await;
    let mut files = FileTree::default();
    files.text(lifetime::EXPIRES, lifetime::file(Some(expiry.parse().unwrap())));
    write_files(&*engine, &spec.name, &files).await.unwrap();
    engine.start_container(&spec.name).await.unwrap();
    engine.stop_container(&spec.name, 1).await.unwrap();
    let found = failed(&examined(&engine).await);
    assert_eq!(found[0].0, "cluster-expired");
    assert!(found[0].1.contains("cluster `over`: it expired at 2026-01-02"), "{found:?}");
}

#[tokio::test]
async fn a_kubectl_of_another_time_is_told() {
    let engine = FakeEngine::new(&["node"]);
    engine.create_container(&part("dev", "control-plane")).await.unwrap();
    let clusters = found::list(&engine).await.unwrap();
    for (version, told) in [("v1.34.1", 1), ("v1.35.0", 0), ("v1.37.2+k3s1", 0), ("v1.38.0", 1), ("unknown", 0)] {
        assert_eq!(skew(version, &clusters).len(), told, "{version}");
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("kubectl");
    // Another process writes it: a program that this one has open for writing cannot run, and a test beside may just start
    // something that inherits the file.
    let script = r#"printf '#!/bin/sh\necho %s\n' "'{\"clientVersion\": {\"gitVersion\": \"v1.30.1\"}}'" >"$0" && chmod 755 "$0""#;
    let written = std::process::Command::new("sh").args(["-c", script]).arg(&program).status().unwrap();
    assert!(written.success());
    assert_eq!(kubectl_version(&program).await.as_deref(), Some("v1.30.1"));
    assert_eq!(kubectl_version(&directory.path().join("absent")).await, None);
}

#[test]
fn a_node_that_is_started_again_and_again_is_told() {
    let container = |state| crate::engine::spec::Container {
        id: String::new(),
        name: "dev-control-plane".to_owned(),
        image: String::new(),
        state,
        labels: part("dev", "control-plane").labels,
        addresses: Vec::new(),
        networks: Vec::new(),
        network_ids: Vec::new(),
        volumes: Vec::new(),
        ports: Vec::new(),
        created: 0,
    };
    let findings = |state| {
        let clusters = found::group(vec![container(state)]);
        let found = states(&clusters.iter().collect::<Vec<_>>());
        failed(&found).into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(findings(State::Restarting), ["node-restarting"]);
    assert_eq!(findings(State::Dead), ["cluster-stopped", "node-restarting"]);
    assert_eq!(findings(State::Paused), ["cluster-stopped"]);
    assert_eq!(findings(State::Running), [""; 0]);
}
