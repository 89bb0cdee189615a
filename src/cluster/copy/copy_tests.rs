use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;
use crate::cluster::target;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, Labels};
use crate::plan::labels;

/// A stopped node.
async fn node() -> (FakeEngine, Target) {
    let engine = FakeEngine::new(&["node"]);
    let labels = [(labels::CLUSTER, "dev"), (labels::ROLE, "worker")];
    let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    engine.create_container(&ContainerSpec { labels, ..ContainerSpec::new("dev-worker", "node") }).await.unwrap();
    let target = target::find(&engine, None, "dev-worker").await.unwrap();
    (engine, target)
}

/// A directory with a program, a link and a file in a directory that no one may write.
fn tree() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs::create_dir_all(tree.join("closed")).unwrap();
    fs::write(tree.join("closed/file"), "content").unwrap();
    fs::write(tree.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("run"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(tree.join("closed"), Permissions::from_mode(0o555)).unwrap();
    symlink("run", tree.join("link")).unwrap();
    place
}

#[tokio::test]
async fn what_is_packed_is_unpacked_as_it_was() {
    let place = tree();
    let (stream, packing) = local::pack(place.path().join("tree"), "other".to_owned(), true);
    let end = place.path().join("copy");
    let copied = local::unpack(stream, "other".to_owned(), end.clone()).await.unwrap();
    assert_eq!(packing.await.unwrap().unwrap(), copied);
    assert_eq!((copied.files, copied.bytes, copied.skipped), (3, 17, 0));
    assert_eq!(fs::read_to_string(end.join("closed/file")).unwrap(), "content");
    assert_eq!(fs::read_link(end.join("link")).unwrap(), Path::new("run"));
    let mode = |path: &str| fs::metadata(end.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run"), mode("closed")), (0o755, 0o555));
    fs::set_permissions(end.join("closed"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(place.path().join("tree/closed"), Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn an_archive_writes_nothing_outside_of_its_place() {
    let place = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "x/out", place.path()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    builder.append_data(&mut header, "x/out/evil", &b"evil"[..]).unwrap();
    let bytes = builder.into_inner().unwrap();
    let end = place.path().join("end");
    fs::create_dir(&end).unwrap();
    let stream: ByteStream = Box::pin(futures_util::stream::iter([Ok(bytes.into())]));
    let error = local::unpack(stream, "x".to_owned(), end).await.unwrap_err();
    assert!(error.to_string().contains("is a link"), "{error}");
    assert!(!place.path().join("evil").exists());
}

#[tokio::test]
async fn files_of_a_stopped_node_are_copied_by_the_engine() {
    let (engine, target) = node().await;
    engine.upload("dev-worker", tar_of("etc/old", "old").into()).await.unwrap();
    let place = tree();
    let at = |name: &str| place.path().join(name);
    into(&engine, &at("tree/run"), (&target, "/etc")).await.unwrap();
    assert_eq!(engine.files("dev-worker")["/etc/run"], b"#!/bin/sh\n");
    into(&engine, &at("tree/run"), (&target, "/etc/new")).await.unwrap();
    assert!(engine.files("dev-worker").contains_key("/etc/new"));
    out(&engine, (&target, "/etc"), &at("etc")).await.unwrap();
    assert_eq!(fs::read_to_string(at("etc/old")).unwrap(), "old");
    out(&engine, (&target, "/etc/old"), place.path()).await.unwrap();
    assert_eq!(fs::read_to_string(at("old")).unwrap(), "old");
    fs::set_permissions(at("tree/closed"), Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_named_with_its_node() {
    let (engine, target) = node().await;
    let error = out(&engine, (&target, "/no/such"), Path::new("x")).await.err().unwrap();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Code::NotFound, "there is no `/no/such` on node `dev-worker`")
    );
    let error = into(&engine, Path::new("/no/such"), (&target, "/etc")).await.err().unwrap();
    assert_eq!(error.to_string(), "there is no `/no/such` on this host");
    let place = tree();
    let error = into(&engine, &place.path().join("tree/run"), (&target, "/no/such")).await.err().unwrap();
    assert_eq!(error.to_string(), "there is no directory `/no` on node `dev-worker`");
    // What is in memory is not there while the node is stopped.
    let error = out(&engine, (&target, "/tmp/x"), Path::new("x")).await.err().unwrap();
    assert_eq!(error.code(), Code::ClusterStopped);
    assert!(error.hints()[0].contains("coracle start dev"), "{:?}", error.hints());
    fs::set_permissions(place.path().join("tree/closed"), Permissions::from_mode(0o755)).unwrap();
}

fn tar_of(name: &str, content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}
