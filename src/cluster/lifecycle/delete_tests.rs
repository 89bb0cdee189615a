//! What is left of a cluster is found and removed, also while another command removes it.

use std::sync::Arc;

use super::*;
use crate::engine::Engine;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, Mount, NetworkSpec};

fn of_cluster(name: &str) -> Labels {
    Labels::from([(labels::CLUSTER.to_owned(), name.to_owned())])
}

/// An engine with a container and its volume of one cluster, the volume of a second one, and the network of a third.
async fn engine() -> (Arc<FakeEngine>, SharedEngine) {
    let fake = Arc::new(FakeEngine::new(&["node"]));
    for name in ["t-one", "t-two"] {
        let volume = Mount::Volume { name: format!("{name}-var"), target: "/var".to_owned(), labels: of_cluster(name) };
        let labels = of_cluster(name);
        let spec = ContainerSpec { mounts: vec![volume], labels, ..ContainerSpec::new(format!("{name}-a"), "node") };
        fake.create_container(&spec).await.unwrap();
    }
    fake.remove_container("t-two-a").await.unwrap();
    let network =
        NetworkSpec { name: "coracle-t-three".to_owned(), pools: Vec::new(), mtu: None, labels: of_cluster("t-three") };
    fake.create_network(&network).await.unwrap();
    (fake.clone(), fake)
}

fn scope(name: &str) -> Scope {
    Scope::Cluster(name.parse().unwrap())
}

#[tokio::test]
async fn a_cluster_of_which_only_a_network_or_a_volume_is_left_is_one() {
    let (fake, shared) = engine().await;
    let names = names(&shared).await.unwrap();
    assert_eq!(names.iter().map(ClusterName::as_str).collect::<Vec<_>>(), ["t-one", "t-three", "t-two"]);
    for name in names {
        assert!(!is_absent(&shared, &Scope::Cluster(name.clone())).await.unwrap());
        assert!(!delete(&shared, &Scope::Cluster(name.clone())).await.unwrap().is_empty());
        assert!(is_absent(&shared, &Scope::Cluster(name)).await.unwrap());
    }
    assert_eq!(fake.left(), Vec::<String>::new());
}

#[tokio::test]
async fn what_fails_once_is_removed_the_second_time() {
    let calls = {
        let (fake, shared) = engine().await;
        let before = fake.transcript().len();
        delete(&shared, &scope("t-one")).await.unwrap();
        fake.transcript()[before..].to_vec()
    };
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.starts_with("remove")) {
        let (fake, _) = engine().await;
        let done = fake.transcript().len();
        let fake = Arc::new(Arc::into_inner(fake).unwrap().failing_at(done + at + 1));
        let shared: SharedEngine = fake.clone();
        delete(&shared, &scope("t-one")).await.unwrap_or_else(|error| panic!("{call}: {error}"));
        assert_eq!(fake.left(), ["network coracle-t-three", "volume t-two-var"], "{call}");
    }
}

#[tokio::test]
async fn a_volume_that_is_in_use_is_told_with_how_to_find_its_user() {
    let (fake, shared) = engine().await;
    let volume = Mount::Volume { name: "t-one-var".to_owned(), target: "/data".to_owned(), labels: Labels::new() };
    let spec = ContainerSpec { mounts: vec![volume], ..ContainerSpec::new("t-mine", "node") };
    fake.create_container(&spec).await.unwrap();
    let error = delete(&shared, &scope("t-one")).await.unwrap_err();
    assert!(error.hints()[0].contains("docker ps --all --filter volume=t-one-var"), "{error:?}");
    assert!(fake.left().contains(&"container t-mine".to_owned()));
}
