//! Tars and conversations of the fake engine, and its tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::io::{ReaderStream, SyncIoBridge};

use crate::engine::{ByteStream, Conversation, Said};
use crate::error::{Code, Error, Result};

/// Answers an interactive command: container, command, its input and its output.
pub(crate) type OnConverse = Arc<dyn Fn(&str, &[String], &mut dyn BufRead, &mut dyn Write) + Send + Sync>;

/// Answers nothing.
pub(crate) fn nobody() -> OnConverse {
    Arc::new(|_, _, _, _| {})
}

/// Runs the answer on a thread and gives the other ends of its input and output.
pub(crate) fn conversation(container: &str, command: &[&str], answer: &OnConverse) -> Conversation {
    let (input, its_input) = tokio::io::duplex(64 << 10);
    let (its_output, output) = tokio::io::duplex(64 << 10);
    let (container, answer) = (container.to_owned(), Arc::clone(answer));
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        let mut input = BufReader::new(SyncIoBridge::new(its_input));
        answer(&container, &command, &mut input, &mut SyncIoBridge::new(its_output));
    });
    Conversation { input: Box::pin(input), output: ReaderStream::new(output).map_ok(Said::Output).boxed() }
}

/// Reads the files of a tar, by absolute path.
pub(crate) fn unpack(tar: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let broken = |source: &std::io::Error| Error::new(Code::EngineFailed, "the tar is broken").with_cause(source);
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().map_err(|source| broken(&source))? {
        let mut entry = entry.map_err(|source| broken(&source))?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            continue;
        }
        let path = entry.path().map_err(|source| broken(&source))?.to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|source| broken(&source))?;
        files.insert(format!("/{}", path.trim_start_matches("./").trim_start_matches('/')), content);
    }
    Ok(files)
}

/// The tar that an engine returns for a path: names begin with the last part of the path.
pub(crate) fn pack(files: &BTreeMap<String, Vec<u8>>, path: &str) -> Option<Vec<u8>> {
    let base = path.trim_end_matches('/').rsplit_once('/').map_or(0, |(parent, _)| parent.len() + 1);
    let below = format!("{}/", path.trim_end_matches('/'));
    let mut builder = tar::Builder::new(Vec::new());
    let mut found = false;
    for (name, content) in files.iter().filter(|(name, _)| *name == path || name.starts_with(&below)) {
        found = true;
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, &name[base..], content.as_slice()).unwrap();
    }
    found.then(|| builder.into_inner().unwrap())
}

/// Bytes in small pieces.
pub(crate) fn stream(bytes: &[u8]) -> ByteStream {
    let chunks: Vec<std::io::Result<Bytes>> =
        bytes.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    Box::pin(futures_util::stream::iter(chunks))
}

/// The names in the manifest of an archive in the format of `docker save`.
pub(crate) fn tags_of_archive(archive: &[u8]) -> Option<Vec<String>> {
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries().ok()?.flatten();
    let manifest = entries.find(|entry| entry.path().is_ok_and(|path| path.ends_with("manifest.json")))?;
    let manifest: serde_json::Value = serde_json::from_reader(manifest).ok()?;
    let tags = manifest.as_array()?.iter().filter_map(|image| image["RepoTags"].as_array()).flatten();
    Some(tags.filter_map(|tag| Some(tag.as_str()?.to_owned())).collect())
}

mod tests {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::engine::Engine;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::{AddressPool, ContainerSpec, Mount, NetworkSpec, PortBinding, Privilege, Protocol};
    use crate::error::Reason;

    fn network(name: &str, subnet: &str) -> NetworkSpec {
        NetworkSpec {
            name: name.to_owned(),
            pools: vec![AddressPool {
                subnet: subnet.parse().unwrap(),
                gateway: "10.0.0.1".parse().unwrap(),
                dynamic_range: subnet.parse().unwrap(),
            }],
            mtu: None,
            labels: BTreeMap::from([("run".to_owned(), "1".to_owned())]),
        }
    }

    fn container(name: &str, port: u16) -> ContainerSpec {
        ContainerSpec {
            labels: BTreeMap::from([("run".to_owned(), "1".to_owned())]),
            network: Some("net".to_owned()),
            addresses: vec![format!("10.0.0.{port}").parse().unwrap()],
            mounts: vec![Mount::Volume {
                name: format!("{name}-data"),
                target: "/data".to_owned(),
                labels: BTreeMap::new(),
            }],
            ports: vec![PortBinding {
                host_address: "127.0.0.1".parse().unwrap(),
                host_port: port,
                container_port: 6443,
                protocol: Protocol::Tcp,
            }],
            privilege: Privilege::Privileged,
            restart: true,
            private_cgroup_namespace: true,
            ..ContainerSpec::new(name, "node:1")
        }
    }

    async fn made(engine: &FakeEngine) -> Result<()> {
        engine.create_network(&network("net", "10.0.0.0/24")).await?;
        engine.create_container(&container("a", 80)).await?;
        engine.start_container("a").await
    }

    #[tokio::test]
    async fn it_refuses_what_docker_refuses() {
        let engine = FakeEngine::new(&["node:1"]).with_taken_port(82);
        made(&engine).await.unwrap();
        let code = |result: Result<String>| result.unwrap_err().code();
        assert_eq!(code(engine.create_network(&network("other", "10.0.0.128/25")).await), Code::SubnetClash);
        let taken = engine.create_container(&container("a", 81)).await.unwrap_err();
        assert_eq!(taken.reason(), Some(Reason::NameTaken));
        assert_eq!(code(engine.create_container(&container("b", 80)).await), Code::EngineFailed);
        let other_image = ContainerSpec { image: "other".to_owned(), ..container("b", 81) };
        assert_eq!(code(engine.create_container(&other_image).await), Code::ImageMissing);
        let same_port = ContainerSpec { addresses: Vec::new(), ..container("b", 80) };
        engine.create_container(&same_port).await.unwrap();
        assert_eq!(engine.start_container("b").await.unwrap_err().code(), Code::PortTaken);
        engine.create_container(&container("c", 82)).await.unwrap();
        assert_eq!(engine.start_container("c").await.unwrap_err().code(), Code::PortTaken);
        assert!(engine.remove_network("net").await.is_err());
        assert!(engine.remove_volume("a-data").await.is_err());
        assert!(engine.exec("b", &["true"], None).await.unwrap_err().reason() == Some(Reason::NotRunning));
        for name in ["a", "b", "c", "absent"] {
            engine.remove_container(name).await.unwrap();
            engine.remove_volume(&format!("{name}-data")).await.unwrap();
        }
        engine.remove_network("net").await.unwrap();
        assert_eq!(engine.left(), [""; 0]);
    }

    #[tokio::test]
    async fn a_call_fails_before_or_after_its_work() {
        let engine = FakeEngine::new(&["node:1"]).failing_at(2);
        assert!(made(&engine).await.unwrap_err().to_string().contains("call 2"));
        assert_eq!(engine.left(), ["network net"]);
        let engine = FakeEngine::new(&["node:1"]).losing_answer_at(2);
        assert!(made(&engine).await.is_err());
        assert_eq!(engine.left().len(), 3, "the container and its volumes are there");
        assert_eq!(engine.transcript(), ["create_network net", "create_container a"]);
    }

    #[tokio::test]
    async fn what_is_uploaded_can_be_downloaded() {
        let engine = FakeEngine::new(&["node:1"]);
        made(&engine).await.unwrap();
        let files = BTreeMap::from([("/etc/coracle/cluster.yaml".to_owned(), b"name: a\n".to_vec())]);
        engine.upload("a", Bytes::from(pack(&files, "/etc").unwrap())).await.unwrap();
        assert_eq!(engine.files("a"), files);
        let tar = engine.download("a", "/etc/coracle/cluster.yaml").await.unwrap().unwrap();
        let tar: Vec<u8> =
            tar.try_fold(Vec::new(), |all, part| async move { Ok([all, part.to_vec()].concat()) }).await.unwrap();
        assert_eq!(unpack(&tar).unwrap().keys().collect::<Vec<_>>(), ["/cluster.yaml"]);
        assert!(engine.download("a", "/absent").await.unwrap().is_none());
        assert_eq!(engine.containers(&["run=1".to_owned()]).await.unwrap().len(), 1);
        assert_eq!(engine.containers(&["run=2".to_owned()]).await.unwrap().len(), 0);
    }
}
