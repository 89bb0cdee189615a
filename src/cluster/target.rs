//! One container of a cluster that a command is about, by its name: mostly a node.

use crate::cluster::found::{self, Cluster};
use crate::cluster::state::ClusterState;
use crate::config::ClusterName;
use crate::engine::Engine;
use crate::engine::spec::{Container, State};
use crate::error::{Code, Error, Result, closest};

/// A container and the cluster that it belongs to.
#[derive(Debug, Clone)]
pub struct Target {
    pub cluster: Cluster,
    pub container: Container,
    /// Whether it is a node, and not something beside the nodes.
    pub is_node: bool,
}

/// The container of this name, in the given cluster or in any.
pub async fn find(engine: &dyn Engine, cluster: Option<&ClusterName>, name: &str) -> Result<Target> {
    choose(found::list(engine).await?, cluster, name)
}

fn choose(clusters: Vec<Cluster>, of: Option<&ClusterName>, name: &str) -> Result<Target> {
    let mut names: Vec<String> = Vec::new();
    for cluster in clusters.into_iter().filter(|cluster| of.is_none_or(|of| cluster.name == *of)) {
        let found = cluster.containers().find(|container| container.name == name).cloned();
        if let Some(container) = found {
            let is_node = cluster.nodes.iter().any(|node| node.name == name);
            return Ok(Target { cluster, container, is_node });
        }
        names.extend(cluster.containers().map(|container| container.name.clone()));
    }
    let place = of.map(|of| format!(" in cluster `{of}`")).unwrap_or_default();
    let error = Error::new(Code::NotFound, format!("there is no node `{name}`{place}"));
    // `worker2` for `dev-worker2` is too far away to be a typing mistake.
    let short = names.iter().find(|full| full.ends_with(&format!("-{name}"))).map(String::as_str);
    Err(match short.or_else(|| closest(name, names.iter().map(String::as_str))) {
        Some(meant) => error.hint(format!("`{meant}` is one")),
        None if names.is_empty() => error.hint("`coracle get clusters` lists the clusters"),
        None => error.hint(format!("there are: {}", names.join(", "))),
    })
}

impl Target {
    /// An error that says what starts it, unless it runs.
    pub fn require_running(&self) -> Result<()> {
        let (name, cluster) = (&self.container.name, &self.cluster.name);
        let is_alone = self.is_node && self.cluster.state() != ClusterState::Stopped;
        let (word, hint) = match self.container.state {
            State::Running => return Ok(()),
            State::Paused => ("paused", format!("`coracle unpause {cluster}` resumes it")),
            State::Restarting => {
                ("just being started", format!("`coracle status --name {cluster}` shows when it runs"))
            }
            _ if is_alone => ("stopped", format!("`coracle node start {name}` starts it")),
            _ => ("stopped", format!("`coracle start {cluster}` starts it, with all of its cluster")),
        };
        Err(Error::new(Code::ClusterStopped, format!("`{name}` is {word}")).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::found::group;
    use crate::engine::spec::Labels;
    use crate::plan::labels;

    fn clusters(parts: &[(&str, &str, State)]) -> Vec<Cluster> {
        let container = |(name, role, state): &(&str, &str, State)| Container {
            id: String::new(),
            name: (*name).to_owned(),
            image: String::new(),
            state: *state,
            labels: Labels::from([
                (labels::CLUSTER.to_owned(), "dev".to_owned()),
                (labels::ROLE.to_owned(), (*role).to_owned()),
            ]),
            addresses: Vec::new(),
            networks: Vec::new(),
            network_ids: Vec::new(),
            volumes: Vec::new(),
            ports: Vec::new(),
            created: 0,
        };
        group(parts.iter().map(container).collect())
    }

    #[test]
    fn a_name_that_is_almost_right_is_told() {
        let all = || {
            clusters(&[
                ("dev-control-plane", "control-plane", State::Running),
                ("dev-worker2", "worker", State::Running),
                ("dev-load-balancer", "load-balancer", State::Running),
            ])
        };
        let hint = |name: &str| choose(all(), None, name).unwrap_err().hints()[0].clone();
        assert_eq!(hint("worker2"), "`dev-worker2` is one");
        assert_eq!(hint("dev-control-plain"), "`dev-control-plane` is one");
        assert_eq!(hint("x"), "there are: dev-control-plane, dev-worker2, dev-load-balancer");
        assert!(!choose(all(), None, "dev-load-balancer").unwrap().is_node);
        let other = "other".parse().unwrap();
        let error = choose(all(), Some(&other), "dev-worker2").unwrap_err();
        assert_eq!(error.message(), "there is no node `dev-worker2` in cluster `other`");
    }

    #[test]
    fn who_wants_something_of_a_node_that_does_not_run_is_told_what_starts_it() {
        let error_of = |plane, worker| {
            let all = clusters(&[("p", "control-plane", plane), ("w", "worker", worker)]);
            match choose(all, None, "w").unwrap().require_running() {
                Ok(()) => String::new(),
                Err(error) => format!("{}, {}", error.message(), error.hints()[0]),
            }
        };
        assert_eq!(error_of(State::Exited, State::Running), "");
        assert_eq!(error_of(State::Running, State::Exited), "`w` is stopped, `coracle node start w` starts it");
        assert_eq!(
            error_of(State::Exited, State::Exited),
            "`w` is stopped, `coracle start dev` starts it, with all of its cluster"
        );
        assert_eq!(error_of(State::Paused, State::Paused), "`w` is paused, `coracle unpause dev` resumes it");
    }
}
