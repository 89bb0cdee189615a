//! What a cluster as a whole does: whether it runs, and what to do where it does not.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::cluster::found::Cluster;
use crate::config::{ClusterName, Role};
use crate::engine::spec::{Container, State};
use crate::error::{Code, Error, Result};

/// The state of a cluster, from those of its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// Every container runs.
    Running,
    /// Every container is frozen.
    Paused,
    /// No container runs.
    Stopped,
    /// Some containers run and others do not.
    Partial,
}

impl ClusterState {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Partial => "partial",
        }
    }
}

impl fmt::Display for ClusterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for ClusterState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Cluster {
    /// What its nodes and its load balancer do together. The tunnel comes and goes with a command, and does not count.
    pub fn state(&self) -> ClusterState {
        let states: Vec<State> = self.parts().map(|container| container.state).collect();
        let all = |state| states.iter().all(|found| *found == state);
        let alive =
            |state: &State| matches!(state, State::Running | State::Paused | State::Restarting | State::Unknown);
        if all(State::Running) {
            ClusterState::Running
        } else if all(State::Paused) {
            ClusterState::Paused
        } else if states.iter().any(alive) {
            ClusterState::Partial
        } else {
            ClusterState::Stopped
        }
    }

    /// An error, with what to run next, if no API server can answer because its container or that of another part is stopped
    /// or paused: otherwise a request would wait for its time to be over.
    pub fn require_api(&self) -> Result<()> {
        match self.state() {
            ClusterState::Running => return Ok(()),
            ClusterState::Paused => return Err(paused(&self.name)),
            ClusterState::Stopped => return Err(stopped(&self.name)),
            ClusterState::Partial => {}
        }
        let planes: Vec<_> = self.nodes.iter().filter(|node| node.role == Role::ControlPlane).collect();
        let running = planes.iter().filter(|node| node.is_running()).count();
        let needed = planes.len() / 2 + 1;
        let idle = self.balancer.as_ref().filter(|balancer| !balancer.is_running());
        let cause = match (idle, planes.iter().find(|node| !node.is_running())) {
            (Some(balancer), _) => format!("its load balancer `{}` is {}", balancer.name, word(balancer.state)),
            (None, Some(plane)) if running == 0 => {
                format!("its control plane `{}` is {}", plane.name, word(plane.state()))
            }
            (None, Some(_)) if running < needed => {
                format!("{running} of {} control planes run, and etcd needs {needed}", planes.len())
            }
            _ => return Ok(()),
        };
        let is_frozen = self.parts().any(|container| container.state == State::Paused);
        let verb = if is_frozen { "unpause" } else { "start" };
        let error = Error::new(Code::ClusterStopped, format!("the API server of cluster `{}` does not run", self.name));
        Err(error.because(cause).hint(format!("`coracle {verb} {}` brings it back", self.name)))
    }

    /// Its nodes and its load balancer.
    fn parts(&self) -> impl Iterator<Item = &Container> {
        self.nodes.iter().map(|node| &node.container).chain(&self.balancer)
    }
}

/// The error of a command that needs the API of a paused cluster.
pub fn paused(name: &ClusterName) -> Error {
    Error::new(Code::ClusterStopped, format!("cluster `{name}` is paused"))
        .hint(format!("`coracle unpause {name}` resumes it"))
}

/// The error of a command that needs the API of a stopped cluster.
pub fn stopped(name: &ClusterName) -> Error {
    Error::new(Code::ClusterStopped, format!("cluster `{name}` is stopped"))
        .hint(format!("`coracle start {name}` starts it, with all its data"))
}

/// A container's state in words that are said of people's things.
fn word(state: State) -> &'static str {
    match state {
        State::Exited | State::Created | State::Dead => "stopped",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::found::group;
    use crate::engine::spec::Labels;
    use crate::plan::labels;

    fn cluster(parts: &[(&str, &str, State)]) -> Cluster {
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
        group(parts.iter().map(container).collect()).pop().unwrap()
    }

    #[test]
    fn a_cluster_is_what_all_of_its_containers_are() {
        let of = |plane, worker| cluster(&[("p", "control-plane", plane), ("w", "worker", worker)]).state();
        assert_eq!(of(State::Running, State::Running), ClusterState::Running);
        assert_eq!(of(State::Paused, State::Paused), ClusterState::Paused);
        assert_eq!(of(State::Exited, State::Created), ClusterState::Stopped);
        assert_eq!(of(State::Running, State::Exited), ClusterState::Partial);
        assert_eq!(of(State::Paused, State::Exited), ClusterState::Partial);
    }

    #[test]
    fn who_needs_the_api_of_what_does_not_run_is_told_how_to_go_on() {
        let error_of = |parts: &[(&str, &str, State)]| match cluster(parts).require_api() {
            Ok(()) => String::new(),
            Err(error) => format!("{error}; {}", error.hints().join(" ")),
        };
        let plane = |state| ("p", "control-plane", state);
        assert!(error_of(&[plane(State::Paused)]).contains("is paused; `coracle unpause dev`"));
        assert!(error_of(&[plane(State::Exited)]).contains("is stopped; `coracle start dev`"));
        assert_eq!(error_of(&[plane(State::Running), ("w", "worker", State::Exited)]), "");
        assert!(
            error_of(&[plane(State::Exited), ("w", "worker", State::Running)]).contains("control plane `p` is stopped")
        );
        let three = |balancer, second, third| {
            [
                ("b", "load-balancer", balancer),
                ("p", "control-plane", State::Running),
                ("p2", "control-plane", second),
                ("p3", "control-plane", third),
            ]
        };
        assert_eq!(error_of(&three(State::Running, State::Running, State::Exited)), "");
        assert!(error_of(&three(State::Running, State::Paused, State::Exited)).contains("1 of 3 control planes run"));
        assert!(
            error_of(&three(State::Exited, State::Running, State::Running)).contains("load balancer `b` is stopped")
        );
    }
}
