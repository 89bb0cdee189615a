//! The configuration of a cluster whose nodes come and go: each node has its own part, so that it goes with the node, and the
//! control planes have the whole.

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::cluster::found::{self, Cluster};
use crate::cluster::upload::write_files;
use crate::config::{self, ClusterConfig, Node, Overrides, Role, Taint, TaintEffect};
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::engine::spec::State;
use crate::error::{Code, Error, Result};
use crate::plan::{CLUSTER_CONFIG, FileTree, NODE_CONFIG};
use crate::yaml;

/// What the nodes of a cluster have.
pub(super) struct Members {
    /// The configuration of the cluster, with the nodes that exist, in the order of the cluster's.
    pub(super) config: ClusterConfig,
    /// The text of each node's own part; `None` for a node that was made before nodes had one.
    parts: Vec<Option<String>>,
    /// The number of nodes that the control planes' file has.
    recorded: usize,
}

/// Reads the configuration of a cluster from its nodes.
pub(super) async fn read(engine: &dyn Engine, cluster: &Cluster) -> Result<Members> {
    let recorded = cluster.require_configuration(engine).await?;
    let parts = cluster.nodes.iter().map(|node| read_file(engine, &node.name, NODE_CONFIG));
    let parts: Vec<Option<String>> = try_join_all(parts)
        .await?
        .into_iter()
        .map(|part| part.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        .collect();
    let places: Vec<(Role, usize)> = cluster.nodes.iter().map(place).collect();
    Ok(Members { config: combined(&recorded, &places, &parts)?, parts, recorded: recorded.nodes.len() })
}

impl Members {
    /// The configuration with more nodes.
    pub(super) fn with(&self, new: &[Node]) -> ClusterConfig {
        let mut config = self.config.clone();
        config.nodes.extend(new.iter().cloned());
        keep_taints(&mut config.nodes, self.recorded);
        config
    }
}

/// Writes the configuration that the nodes of a cluster make now to all control planes.
pub(super) async fn record(engine: &dyn Engine, cluster: &Cluster) -> Result<()> {
    let members = read(engine, cluster).await?;
    let config = members.with(&[]);
    let whole = config.to_text()?;
    let mut work = Vec::new();
    for ((node, part), before) in cluster.nodes.iter().zip(&config.nodes).zip(&members.parts) {
        let mut files = FileTree::default();
        let part = yaml::to_string(part)?;
        // Another command is about to give a node that was never started its own part.
        if before.as_ref() != Some(&part) && node.state() != State::Created {
            files.text(NODE_CONFIG, part);
        }
        if node.role == Role::ControlPlane {
            files.text(CLUSTER_CONFIG, &whole);
        }
        if files.iter().next().is_some() {
            work.push(async move { write_files(engine, &node.container.id, &files).await });
        }
    }
    try_join_all(work).await.map(drop)
}

/// The role of a node, and its place among those of its role when the cluster was made: `worker` was the first, `worker2` the
/// second, whichever of them are left.
fn place(node: &found::Node) -> (Role, usize) {
    let digits = node.name.trim_end_matches(|digit: char| digit.is_ascii_digit()).len();
    (node.role, node.name[digits..].parse::<usize>().unwrap_or(1).saturating_sub(1))
}

/// The recorded configuration with these nodes. A node without a part of its own has the one of its place among the recorded
/// nodes of its role.
fn combined(recorded: &ClusterConfig, places: &[(Role, usize)], parts: &[Option<String>]) -> Result<ClusterConfig> {
    let unreadable = |source: &dyn std::error::Error| {
        Error::new(Code::ConfigInvalid, "cannot read the configuration of a node").with_cause(source)
    };
    let mut nodes = Vec::new();
    for ((role, place), part) in places.iter().zip(parts) {
        nodes.push(if let Some(text) = part {
            serde_yaml::from_str(text).map_err(|source| unreadable(&source))?
        } else {
            let node = recorded.nodes.iter().filter(|node| node.role == *role).nth(*place).cloned();
            json!(node.unwrap_or_else(|| Node::new(*role)))
        });
    }
    let mut document: Value = serde_yaml::from_str(&recorded.to_text()?).map_err(|source| unreadable(&source))?;
    document["nodes"] = Value::Array(nodes);
    config::load(&yaml::to_string(&document)?, CLUSTER_CONFIG, &Overrides::default())
}

/// A control plane takes workloads by default only if it is the only node. What that meant when it was made stays when the
/// number of nodes changes, and is written out.
fn keep_taints(nodes: &mut [Node], recorded: usize) {
    if (recorded == 1) == (nodes.len() == 1) {
        return;
    }
    let taint = || Taint {
        key: "node-role.kubernetes.io/control-plane".to_owned(),
        value: String::new(),
        effect: TaintEffect::NoSchedule,
    };
    for node in nodes.iter_mut().filter(|node| node.role == Role::ControlPlane && node.taints.is_none()) {
        node.taints = Some(if recorded == 1 { Vec::new() } else { vec![taint()] });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(nodes: Vec<Node>) -> ClusterConfig {
        ClusterConfig { nodes, ..ClusterConfig::new("t-one".parse().unwrap()) }
    }

    fn labelled(role: Role, value: &str) -> Node {
        Node { labels: [("tier".to_owned(), value.to_owned())].into(), ..Node::new(role) }
    }

    #[test]
    fn each_node_brings_its_own_part_and_older_nodes_have_their_place() {
        let recorded = config(vec![
            labelled(Role::Worker, "first"),
            labelled(Role::ControlPlane, "plane"),
            labelled(Role::Worker, "second"),
        ]);
        let part = yaml::to_string(&labelled(Role::Worker, "new")).unwrap();
        // The first worker is gone.
        let places = [(Role::ControlPlane, 0), (Role::Worker, 1), (Role::Worker, 2), (Role::Worker, 3)];
        let combined = combined(&recorded, &places, &[None, None, Some(part), None]).unwrap();
        let tiers: Vec<&str> =
            combined.nodes.iter().map(|node| node.labels.get("tier").map_or("none", String::as_str)).collect();
        assert_eq!(tiers, ["plane", "second", "new", "none"]);
        // What is written is read back as it was.
        let again = config::load(&combined.to_text().unwrap(), "c.yaml", &Overrides::default()).unwrap();
        assert_eq!(again, combined);
    }

    #[test]
    fn a_control_plane_stays_what_it_was_when_the_number_of_nodes_changes() {
        let taints = |count: usize, recorded: usize| {
            let workers = std::iter::repeat_n(Node::new(Role::Worker), count - 1);
            let mut nodes: Vec<Node> = std::iter::once(Node::new(Role::ControlPlane)).chain(workers).collect();
            keep_taints(&mut nodes, recorded);
            nodes[0].taints.as_ref().map(Vec::len)
        };
        assert_eq!(taints(2, 1), Some(0));
        assert_eq!(taints(1, 2), Some(1));
        assert_eq!((taints(1, 1), taints(3, 2)), (None, None));
    }
}
