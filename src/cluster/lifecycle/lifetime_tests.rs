use std::sync::Arc;

use super::*;
use crate::cluster::lifecycle::delete::delete;
use crate::engine::SharedEngine;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, Labels, Mount};

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_900_000).unwrap()
}

fn moment(seconds: i64) -> Expiry {
    let at = now() + time::Duration::seconds(seconds);
    at.format(&time::format_description::well_known::Rfc3339).unwrap().parse().unwrap()
}

/// A cluster of one node with this label, whose file says something of its own.
async fn cluster(engine: &FakeEngine, name: &str, label: Option<Expiry>, file: Limit) -> String {
    let mut labels = Labels::from([
        (labels::CLUSTER.to_owned(), name.to_owned()),
        (labels::ROLE.to_owned(), "control-plane".to_owned()),
    ]);
    labels.extend(label.map(|expiry| (labels::EXPIRES.to_owned(), expiry.to_string())));
    let volume = Mount::Volume { name: format!("{name}-var"), target: "/var".to_owned(), labels: labels.clone() };
    let node = format!("{name}-control-plane");
    let spec = ContainerSpec { labels, mounts: vec![volume], ..ContainerSpec::new(&node, "node") };
    engine.create_container(&spec).await.unwrap();
    engine.start_container(&node).await.unwrap();
    let text = match file {
        Limit::None | Limit::Unknown => return node,
        Limit::At(expiry) => lifetime::file(Some(expiry)),
        Limit::Lifted => lifetime::file(None),
    };
    let mut files = FileTree::default();
    files.text(EXPIRES, text);
    write_files(engine, &node, &files).await.unwrap();
    node
}

async fn names(engine: &FakeEngine) -> Vec<String> {
    over(engine, now()).await.unwrap().iter().map(|over| over.cluster.name.to_string()).collect()
}

#[tokio::test]
async fn only_what_is_over_by_its_label_and_by_its_nodes_is_removed() {
    let engine = FakeEngine::new(&["node"]);
    let (past, future) = (moment(-600), moment(600));
    let all = [
        ("t-over", Some(past), Limit::At(past)),
        ("t-lives", Some(future), Limit::At(future)),
        ("t-extended", Some(past), Limit::At(future)),
        ("t-lifted", Some(past), Limit::Lifted),
        // A node that was not given its files yet, and one whose file is earlier than its label.
        ("t-silent", Some(past), Limit::None),
        ("t-early", Some(future), Limit::At(past)),
        ("t-endless", None, Limit::At(past)),
    ];
    for (name, label, file) in all {
        let node = cluster(&engine, name, label, file).await;
        engine.stop_container(&node, 1).await.unwrap();
    }
    assert_eq!(names(&engine).await, ["t-over"]);
    let limit = async |name: &str| {
        let cluster = found::get(&engine, &name.parse().unwrap()).await.unwrap();
        limit(&engine, &cluster).await
    };
    assert_eq!(limit("t-extended").await, Limit::At(future));
    assert_eq!(limit("t-lifted").await, Limit::Lifted);
    assert_eq!((limit("t-silent").await, limit("t-endless").await), (Limit::Unknown, Limit::None));
}

#[tokio::test]
async fn a_cluster_whose_nodes_still_run_is_kept() {
    let engine = FakeEngine::new(&["node"]);
    let node = cluster(&engine, "t-late", Some(moment(-600)), Limit::At(moment(-600))).await;
    let kept = over(&engine, now()).await.unwrap().remove(0).kept.unwrap().to_string();
    assert!(kept.contains("clock"), "{kept}");
    engine.stop_container(&node, 1).await.unwrap();
    assert_eq!(over(&engine, now()).await.unwrap().remove(0).kept, None);
    cluster(&engine, "t-now", Some(moment(-1)), Limit::At(moment(-1))).await;
    assert_eq!(over(&engine, now()).await.unwrap().remove(1).kept, Some(Kept::Stopping));
}

#[tokio::test]
async fn a_cluster_that_got_the_name_meanwhile_is_not_removed() {
    let fake = Arc::new(FakeEngine::new(&["node"]));
    let engine: SharedEngine = fake.clone();
    let node = cluster(&fake, "t-again", Some(moment(-600)), Limit::At(moment(-600))).await;
    engine.stop_container(&node, 1).await.unwrap();
    let scope = over(&*engine, now()).await.unwrap().remove(0).scope().unwrap();
    // Another command removed it, and someone made one of the same name.
    delete(&engine, &scope).await.unwrap();
    assert_eq!(fake.left(), [""; 0]);
    cluster(&fake, "t-again", Some(moment(600)), Limit::At(moment(600))).await;
    assert!(delete(&engine, &scope).await.unwrap().is_empty());
    assert_eq!(fake.left(), ["container t-again-control-plane", "volume t-again-var"]);
}

#[tokio::test]
async fn more_time_is_given_and_none_is_taken() {
    let engine = FakeEngine::new(&["node"]);
    cluster(&engine, "t-more", Some(moment(60)), Limit::At(moment(60))).await;
    cluster(&engine, "t-endless", None, Limit::None).await;
    let extend = async |name: &str, seconds: Option<u64>| {
        let cluster = found::get(&engine, &name.parse().unwrap()).await.unwrap();
        let result = extend(&engine, &cluster, seconds.map(Period::of_seconds), now()).await;
        (result.map_err(|error| error.to_string()), limit(&engine, &cluster).await)
    };
    assert_eq!(extend("t-more", Some(600)).await, (Ok(Some(moment(600))), Limit::At(moment(600))));
    let (refused, left) = extend("t-more", Some(300)).await;
    assert!(refused.unwrap_err().contains("lives longer"));
    assert_eq!(left, Limit::At(moment(600)));
    assert_eq!(extend("t-more", None).await, (Ok(None), Limit::Lifted));
    assert!(extend("t-endless", Some(600)).await.0.unwrap_err().contains("no limit"));
}
