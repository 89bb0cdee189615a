//! The cluster that add-ons are for.

use crate::cluster::found::Cluster;
use crate::cluster::run::Run;
use crate::kubernetes::Client;

/// The cluster that add-ons are for.
pub struct Target<'a> {
    pub run: &'a Run,
    /// A client of its API.
    pub client: &'a Client,
    /// Its nodes, the first control plane first, with those of their ports that the host publishes.
    pub nodes: Vec<(String, Vec<u16>)>,
}

impl<'a> Target<'a> {
    /// The running nodes of a cluster.
    pub fn new(run: &'a Run, client: &'a Client, cluster: &Cluster) -> Self {
        let nodes = cluster.running().map(|node| {
            let ports = node.container.ports.iter().map(|port| port.container_port);
            (node.name.clone(), ports.collect())
        });
        Self { run, client, nodes: nodes.collect() }
    }

    /// Names of its nodes.
    pub fn node_names(&self) -> Vec<String> {
        self.nodes.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The node on which most of the ports are published; the first one if none is.
    pub(super) fn node_for(&self, ports: &[u16]) -> &str {
        let mut best: Option<(usize, &str)> = None;
        for (name, published) in &self.nodes {
            let count = ports.iter().filter(|port| published.contains(port)).count();
            if best.is_none_or(|(most, _)| count > most) {
                best = Some((count, name));
            }
        }
        best.map_or("", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::engine::SharedEngine;
    use crate::engine::fake::FakeEngine;
    use crate::ui::{Ui, UiOptions};

    #[tokio::test]
    async fn a_program_runs_where_its_ports_are_published() {
        let client = Client::anonymous("http://127.0.0.1:1");
        let engine: SharedEngine = Arc::new(FakeEngine::new(&[]));
        let run = Run::new(&engine, &Ui::captured(UiOptions::default()).0, "run", Duration::ZERO);
        let node = |name: &str, ports: &[u16]| (name.to_owned(), ports.to_vec());
        let nodes = vec![node("a", &[6443]), node("b", &[80]), node("c", &[80, 443])];
        let mut target = Target { run: &run, client: &client, nodes };
        assert_eq!(target.node_for(&[80, 443]), "c");
        assert_eq!(target.node_for(&[]), "a");
        target.nodes.truncate(1);
        assert_eq!(target.node_for(&[80, 443]), "a");
    }
}
