//! What is coracle's, and whose: decided by labels, never by names, here and nowhere else. Pure.

use std::collections::BTreeSet;
use std::fmt;

use crate::engine::spec::{Container, ContainerSpec, Labels, Mount, Network, NetworkSpec, Volume};
use crate::plan::labels;

/// Whose a container, volume or network of coracle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A cluster of this name.
    Cluster(String),
    /// A local registry of this name.
    Registry(String),
    /// A command of coracle that runs, or was killed.
    Helper,
}

impl Owner {
    /// The owner of what has these labels; `None` for what coracle did not make.
    pub fn of(labels: &Labels) -> Option<Self> {
        let named = |key: &str, owner: fn(String) -> Self| labels.get(key).cloned().map(owner);
        named(labels::CLUSTER, Self::Cluster).or_else(|| named(labels::REGISTRY, Self::Registry)).or_else(|| {
            [labels::HELPER, labels::RUN].iter().any(|key| labels.contains_key(*key)).then_some(Self::Helper)
        })
    }
}

/// Whether coracle has built the image with these labels.
pub fn is_built_image(labels: &Labels) -> bool {
    labels.contains_key(labels::INPUTS)
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(name) => write!(f, "cluster `{name}`"),
            Self::Registry(name) => write!(f, "registry `{name}`"),
            Self::Helper => f.write_str("another command of coracle"),
        }
    }
}

/// What a name of the engine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Container,
    Volume,
    Network,
}

impl Kind {
    /// The word for it, which is also docker's command.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Volume => "volume",
            Self::Network => "network",
        }
    }
}

/// Names in the engine that something needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(BTreeSet<(Kind, String)>);

/// Something that has one of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub kind: Kind,
    pub name: String,
    /// Whose it is; `None` if it is not coracle's.
    pub owner: Option<Owner>,
    pub labels: Labels,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` exists and ", self.kind.as_str(), self.name)?;
        match &self.owner {
            Some(owner) => write!(f, "belongs to {owner}"),
            None => f.write_str("does not belong to coracle"),
        }
    }
}

impl Names {
    /// All names that these containers bring: their own, and those of their volumes.
    pub fn of<'spec>(containers: impl IntoIterator<Item = &'spec ContainerSpec>) -> Self {
        let mut names = BTreeSet::new();
        for spec in containers {
            names.insert((Kind::Container, spec.name.clone()));
            for mount in &spec.mounts {
                match mount {
                    Mount::Volume { name, .. } => names.insert((Kind::Volume, name.clone())),
                    Mount::Bind { .. } | Mount::Directory { .. } => false,
                };
            }
        }
        Self(names)
    }

    /// The name of this network too.
    #[must_use]
    pub fn and_network(mut self, network: &NetworkSpec) -> Self {
        self.0.insert((Kind::Network, network.name.clone()));
        self
    }

    /// What has one of the names now, containers first.
    pub fn taken(&self, containers: Vec<Container>, volumes: Vec<Volume>, networks: Vec<Network>) -> Vec<Taken> {
        let containers = containers.into_iter().map(|found| (Kind::Container, found.name, found.labels));
        let volumes = volumes.into_iter().map(|found| (Kind::Volume, found.name, found.labels));
        let networks = networks.into_iter().map(|found| (Kind::Network, found.name, found.labels));
        let all = containers.chain(volumes).chain(networks);
        let taken = all.filter(|(kind, name, _)| self.0.contains(&(*kind, name.clone())));
        taken.map(|(kind, name, labels)| Taken { kind, name, owner: Owner::of(&labels), labels }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_say_whose_something_is() {
        let owner = |key: &str, value: &str| Owner::of(&Labels::from([(key.to_owned(), value.to_owned())]));
        assert_eq!(Owner::of(&Labels::new()), None);
        assert_eq!(owner("com.example.cluster", "dev"), None);
        assert_eq!(owner(labels::ROLE, "worker"), None);
        assert_eq!(owner(labels::CLUSTER, "dev"), Some(Owner::Cluster("dev".to_owned())));
        assert_eq!(owner(labels::REGISTRY, "mine"), Some(Owner::Registry("mine".to_owned())));
        assert_eq!(owner(labels::HELPER, "1"), Some(Owner::Helper));
    }
}
