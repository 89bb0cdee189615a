use std::sync::Arc;

use super::*;
use crate::engine::Engine;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, Mount, NetworkSpec};

/// The mark of a process that has ended, on this machine.
fn gone() -> String {
    let own = process::own();
    let parts: Vec<&str> = own.split('-').collect();
    format!("{}-1-{}", parts[0], parts[2])
}

fn of_cluster(name: &str, run: &str, mark: Option<&str>) -> Labels {
    let all = [(labels::CLUSTER, name), (labels::RUN, run), (labels::ROLE, "control-plane")];
    let mark = mark.map(|mark| (labels::PROCESS, mark));
    all.into_iter().chain(mark).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

async fn cluster(engine: &FakeEngine, name: &str, mark: Option<&str>) {
    let run = format!("run-of-{name}");
    let labels = of_cluster(name, &run, mark);
    let volume = Mount::Volume { name: format!("{name}-var"), target: "/var".to_owned(), labels: labels.clone() };
    let spec = ContainerSpec { labels, mounts: vec![volume], ..ContainerSpec::new(format!("{name}-plane"), "node") };
    engine.create_container(&spec).await.unwrap();
}

async fn network(engine: &FakeEngine, name: &str, mark: Option<&str>) {
    let labels = of_cluster(name, "run", mark);
    let spec = NetworkSpec { name: format!("coracle-{name}"), pools: Vec::new(), mtu: None, labels };
    engine.create_network(&spec).await.unwrap();
}

#[tokio::test]
async fn only_what_certainly_nobody_needs_is_removed() {
    let fake = Arc::new(FakeEngine::new(&["node"]));
    let engine: SharedEngine = fake.clone();
    let (gone, own) = (gone(), process::own());
    cluster(&fake, "t-killed", Some(&gone)).await;
    cluster(&fake, "t-making", Some(&own)).await;
    cluster(&fake, "t-elsewhere", Some("1-1-abc")).await;
    cluster(&fake, "t-old", None).await;
    cluster(&fake, "t-finished", Some(&gone)).await;
    finished::mark(&*engine, "run-of-t-finished").await.unwrap();
    network(&fake, "t-torn", Some(&gone)).await;
    network(&fake, "t-beginning", Some(&own)).await;
    network(&fake, "t-unknown", None).await;
    // Someone else's.
    fake.create_container(&ContainerSpec::new("t-killed-worker", "node")).await.unwrap();

    let items = find(&engine, Vec::new()).await.unwrap();
    let lines = |goes: bool| -> Vec<String> {
        items.iter().filter(|item| item.goes() == goes).map(|item| format!("{} {}", item.kind, item.name)).collect()
    };
    assert_eq!(lines(true), ["cluster t-killed", "network coracle-t-torn"]);
    assert_eq!(lines(false), ["cluster t-elsewhere", "network coracle-t-unknown"]);
    for item in &items {
        remove(&engine, item).await.unwrap();
    }
    let left = fake.left();
    for name in ["t-making-plane", "t-elsewhere-plane", "t-old-plane", "t-finished-plane", "t-killed-worker"] {
        assert!(left.contains(&format!("container {name}")), "{name}: {left:?}");
    }
    assert!(!left.iter().any(|line| line.contains("t-killed-plane") || line.contains("t-killed-var")), "{left:?}");
    assert!(!left.iter().any(|line| line.contains("t-torn")), "{left:?}");
}

#[tokio::test]
async fn a_cluster_whose_files_cannot_be_read_just_now_is_left_alone() {
    // After the making of the container and the look for it.
    let engine = FakeEngine::new(&["node"]).failing_at(3);
    cluster(&engine, "t-going", Some(&gone())).await;
    let found = found::get(&engine, &"t-going".parse().unwrap()).await.unwrap();
    assert_eq!(finished::of(&engine, &found).await.unwrap(), Creation::Running);
    assert_eq!(finished::of(&engine, &found).await.unwrap(), Creation::Killed);
}
