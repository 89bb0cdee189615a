//! Closing ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::future::try_join_all;
use serde::Serialize;

use crate::cluster::found::Cluster;
use crate::cluster::port::list::{Listed, Made, list};
use crate::engine::Engine;
use crate::engine::spec::Protocol;
use crate::error::{Code, Error, Problem, Result, counted};

/// Which ports are meant: `8080`, `8080/udp`, `127.0.0.1:8080`.
#[derive(Debug, PartialEq, Eq)]
struct Selection {
    address: Option<IpAddr>,
    port: u16,
    protocol: Option<Protocol>,
}

impl Selection {
    fn parse(text: &str) -> Option<Self> {
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, word)) => (rest, Some(word.to_lowercase().parse().ok()?)),
            None => (text, None),
        };
        let (address, port) = match rest.rsplit_once(':') {
            Some((address, port)) => (Some(address.trim_start_matches('[').trim_end_matches(']').parse().ok()?), port),
            None => (None, rest),
        };
        Some(Self { address, port: port.parse().ok().filter(|port| *port > 0)?, protocol })
    }

    fn means(&self, port: &Listed) -> bool {
        self.port == port.host_port
            && self.protocol.is_none_or(|protocol| protocol == port.protocol)
            && self.address.is_none_or(|address| address.to_string() == port.host_address)
    }
}

/// What was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortRemoval {
    /// The ports that were open.
    pub removed: Vec<Listed>,
    /// What was named and was not open.
    pub absent: Vec<String>,
}

/// Closes the ports that are named, or all that were added.
pub async fn remove(engine: &dyn Engine, cluster: &Cluster, texts: &[String], all: bool) -> Result<PortRemoval> {
    let mut removal = PortRemoval { removed: Vec::new(), absent: Vec::new() };
    let mut problems = Vec::new();
    let open = list(cluster);
    for text in texts {
        let mut problem = |message: String| problems.push(Problem { place: text.clone(), message, snippet: None });
        let Some(selection) = Selection::parse(text) else {
            problem("write the port on the host: `8080`, `8080/udp` or `127.0.0.1:8080`".to_owned());
            continue;
        };
        let found: Vec<&Listed> = open.iter().filter(|port| selection.means(port)).collect();
        let added: Vec<Listed> =
            found.iter().filter(|port| port.made == Made::Added).map(|port| (*port).clone()).collect();
        match found.first() {
            None => removal.absent.push(text.clone()),
            Some(port) if added.is_empty() => {
                problem(format!(
                    "it was created with the container `{}` and can only be removed with it",
                    port.container
                ));
            }
            Some(_) => removal.removed.extend(added),
        }
    }
    if !problems.is_empty() {
        let message = format!("no port was removed: {}", counted(problems.len(), "problem"));
        return Err(Error::new(Code::UsageInvalid, message).with_problems(problems));
    }
    if all {
        removal.removed = open.into_iter().filter(|port| port.made == Made::Added).collect();
    }
    let mut names = BTreeSet::new();
    removal.removed.retain(|port| names.insert(port.container.clone()));
    let forwarders = cluster.ports.iter().filter(|forwarder| names.contains(&forwarder.name));
    try_join_all(forwarders.map(|forwarder| engine.remove_container(&forwarder.id))).await?;
    Ok(removal)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::found;
    use crate::engine::SharedEngine;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::{ContainerSpec, Labels};
    use crate::plan::labels;

    async fn engine() -> SharedEngine {
        let engine: SharedEngine = Arc::new(FakeEngine::new(&["app"]));
        for (name, role, published) in [
            ("dev-control-plane", "control-plane", ""),
            ("one", "port", "127.0.0.1:8080/tcp"),
            ("two", "port", "127.0.0.1:8080/udp"),
            ("three", "port", "[::1]:9090/tcp"),
        ] {
            let labels = [(labels::CLUSTER, "dev"), (labels::ROLE, role), (labels::PUBLISHED, published)];
            let labels = Labels::from(labels.map(|(key, value)| (key.to_owned(), value.to_owned())));
            engine.create_container(&ContainerSpec { labels, ..ContainerSpec::new(name, "app") }).await.unwrap();
        }
        // Someone else's container that only has such a name.
        engine.create_container(&ContainerSpec::new("dev-port-8080-tcp", "app")).await.unwrap();
        engine
    }

    async fn left(texts: &[&str], all: bool) -> Vec<String> {
        let engine = engine().await;
        let cluster = found::get(&*engine, &"dev".parse().unwrap()).await.unwrap();
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        remove(&*engine, &cluster, &texts, all).await.unwrap();
        let containers = engine.containers(&[]).await.unwrap();
        let mut names: Vec<String> = containers.into_iter().map(|container| container.name).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn only_the_ports_that_are_named_are_removed() {
        assert_eq!(left(&["8080/udp"], false).await, ["dev-control-plane", "dev-port-8080-tcp", "one", "three"]);
        assert_eq!(left(&["8080", "8080/tcp"], false).await, ["dev-control-plane", "dev-port-8080-tcp", "three"]);
        assert_eq!(
            left(&["[::1]:9090", "7070"], false).await,
            ["dev-control-plane", "dev-port-8080-tcp", "one", "two"]
        );
        assert_eq!(left(&[], true).await, ["dev-control-plane", "dev-port-8080-tcp"]);
    }

    #[test]
    fn a_port_is_named_as_it_is_published() {
        let selection = |text: &str| Selection::parse(text).map(|selection| (selection.port, selection.protocol));
        assert_eq!(selection("8080"), Some((8080, None)));
        assert_eq!(selection("127.0.0.1:8080/UDP"), Some((8080, Some(Protocol::Udp))));
        for wrong in ["", "0", "web", "8080/icmp", "host:8080", "8080:80"] {
            assert_eq!(selection(wrong), None, "{wrong}");
        }
    }
}
