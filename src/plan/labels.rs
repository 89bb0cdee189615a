//! The labels by which coracle recognises what it made: every role, and every key on what the engine has but two, which the
//! engine needs itself and which are named here too. `node-image/shared` has those inside nodes, and `plan/objects` and
//! `cluster/addon` those of objects in the API.

use crate::config::{ClusterConfig, Role};
use crate::engine::spec::Labels;
use crate::plan::lifetime::Expiry;

pub use crate::engine::spec::{HELPER_LABEL as HELPER, PROCESS_LABEL as PROCESS};

/// Label with the cluster's name, on everything that coracle makes.
pub const CLUSTER: &str = "dev.coracle.cluster";
/// Label with the container's role, such as `control-plane`, `worker` or `load-balancer`.
pub const ROLE: &str = "dev.coracle.role";
/// Label with the ID of the run of a command that made it.
pub const RUN: &str = "dev.coracle.run";
/// Label with the moment at which a cluster's time is over, in UTC, on everything that belongs to it.
pub const EXPIRES: &str = "dev.coracle.expires";
/// Label with the time after which an unused cluster stops, such as `30m`.
pub const IDLE_STOP: &str = "dev.coracle.idle-stop";
/// Label with the node's fixed addresses, separated by commas, the one of the primary family first.
pub const ADDRESS: &str = "dev.coracle.address";
/// Label with the Kubernetes version.
pub const VERSION: &str = "dev.coracle.kubernetes-version";
/// Label with the name of the node image, which the engine does not keep because containers are created from its ID.
pub const IMAGE: &str = "dev.coracle.image";
/// Label of a node image with the name of its CNI plugin by which a pod waits for its network policies.
pub const POLICY_PLUGIN: &str = "dev.coracle.policy-plugin";
/// Label of a node image with the name of its CNI plugin by which a pod's IPv6 addresses are usable at once.
pub const IPV6_PLUGIN: &str = "dev.coracle.ipv6-plugin";
/// Label of a node image whose etcd elects itself at once if it is the only member, with the word `at-once`.
pub const ELECTION: &str = "dev.coracle.etcd-election";
/// Label of a node image with the container runtimes that it has besides runc, separated by commas.
pub const RUNTIMES: &str = "dev.coracle.runtimes";
/// Label of a node image with what can be set in its Kubernetes version.
pub const SETTINGS: &str = "dev.coracle.settings";
/// Label with the host endpoint of the API server.
pub const ENDPOINT: &str = "dev.coracle.api-endpoint";
/// Label with the directory of the host that keeps the cluster's volumes.
pub const PERSIST: &str = "dev.coracle.persist";
/// Label of a registry's container and volume, with the registry's name.
pub const REGISTRY: &str = "dev.coracle.registry";
/// Label of a registry's container with its port on the host.
pub const PORT: &str = "dev.coracle.port";

/// Label of a forwarder with what its port leads to.
pub const TARGET: &str = "dev.coracle.target";
/// Label of a forwarder with its port on the host, `ADDRESS:PORT/PROTOCOL`: the engine shows no ports of what is stopped.
pub const PUBLISHED: &str = "dev.coracle.published";
/// Label of a tunnel with the services behind its ports, in the order of the ports.
pub const TUNNEL: &str = "dev.coracle.tunnel";
/// Label of an image that coracle builds: the hash of everything that it was built from.
pub const INPUTS: &str = "dev.coracle.inputs";
/// Label of a registry's container and volume with the ID of the run that made them. It is not [`RUN`]: a registry does not
/// go when that run is rolled back.
pub const MADE_BY: &str = "dev.coracle.made-by";

/// Label of the network that coracle has made for clusters that look like those of kind. It belongs to none of them.
pub const KIND_NETWORK: &str = "dev.coracle.kind-network";
/// kind's own label with the cluster's name, by which its users' tools and scripts find nodes.
pub const KIND_CLUSTER: &str = "io.x-k8s.kind.cluster";
/// kind's own label with the role of a node.
pub const KIND_ROLE: &str = "io.x-k8s.kind.role";

/// kind's labels of a node or load balancer, if the cluster is to look like one of kind.
pub(crate) fn of_kind(cluster: &ClusterConfig, role: ContainerRole) -> Labels {
    let role = match role {
        ContainerRole::Node(role) => role.as_str(),
        ContainerRole::LoadBalancer => "external-load-balancer",
        ContainerRole::Tunnel | ContainerRole::Port | ContainerRole::Reader => return Labels::new(),
    };
    let labels = [(KIND_CLUSTER.to_owned(), cluster.name.to_string()), (KIND_ROLE.to_owned(), role.to_owned())];
    labels.into_iter().filter(|_| cluster.kind_network.is_some()).collect()
}

/// Labels of everything that belongs to the cluster.
pub fn of_cluster(cluster: &ClusterConfig, run: &str, expires: Option<Expiry>) -> Labels {
    let mut labels = Labels::from([(CLUSTER.to_owned(), cluster.name.to_string()), (RUN.to_owned(), run.to_owned())]);
    labels.extend(expires.map(|expiry| (EXPIRES.to_owned(), expiry.to_string())));
    labels
}

/// What a container does for a cluster, as its label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerRole {
    /// It is a node.
    Node(Role),
    /// It stands in front of several control planes.
    LoadBalancer,
    /// It leads ports of the host to services.
    Tunnel,
    /// It leads one port of the host into the cluster, also after restarts.
    Port,
    /// It reads the engine's layers while images are loaded.
    Reader,
}

impl ContainerRole {
    const ALL: [Self; 6] = [
        Self::Node(Role::ControlPlane),
        Self::Node(Role::Worker),
        Self::LoadBalancer,
        Self::Tunnel,
        Self::Port,
        Self::Reader,
    ];

    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node(role) => role.as_str(),
            Self::LoadBalancer => "load-balancer",
            Self::Tunnel => "tunnel",
            Self::Port => "port",
            Self::Reader => "reader",
        }
    }

    /// The role that these labels say; `None` if they are no container's of coracle, or of another version of it.
    pub fn of(labels: &Labels) -> Option<Self> {
        let value = labels.get(ROLE)?;
        Self::ALL.into_iter().find(|role| role.as_str() == value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_found_by_its_label_and_by_no_other() {
        let of = |value: &str| ContainerRole::of(&[(ROLE.to_owned(), value.to_owned())].into());
        for role in ContainerRole::ALL {
            assert_eq!(of(role.as_str()), Some(role));
        }
        assert_eq!((of(""), ContainerRole::of(&Labels::new())), (None, None));
    }
}
