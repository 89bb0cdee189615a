//! The rules of one node as a value, between the cluster's objects and the input of nft.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::objects::Protocol;

/// Everything that is enforced on one node. If two are equal, the kernel needs no change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RuleSet {
    /// Groups of addresses, by name; a new or removed pod changes nothing else.
    pub(crate) sets: BTreeMap<String, Set>,
    /// Lists of ports that rules share; as with selections, the name identifies the content.
    pub(crate) services: BTreeMap<String, Vec<Service>>,
    /// What each policy accepts, by the name of its chain.
    pub(crate) policies: BTreeMap<String, Chain>,
    /// The chains for pods that the same policies select, in order. What none of them accepts is dropped.
    pub(crate) selections: BTreeMap<String, Vec<String>>,
    /// The selection for each address of a pod of this node that is isolated for ingress.
    pub(crate) ingress: BTreeMap<IpAddr, String>,
    /// The selection for each address of a pod of this node that is isolated for egress.
    pub(crate) egress: BTreeMap<IpAddr, String>,
}

impl RuleSet {
    /// Whether all connections are allowed.
    pub(crate) fn is_empty(&self) -> bool {
        self.ingress.is_empty() && self.egress.is_empty()
    }
}

/// A group of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Set {
    /// Pods.
    Addresses(BTreeSet<IpAddr>),
    /// Ports of pods: a named port may have another number in each pod.
    Sockets(BTreeSet<(IpAddr, u16)>),
}

/// Which side of a connection the selected pod is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

/// What one policy accepts in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) direction: Direction,
    pub(crate) accepts: Vec<Accept>,
}

/// Connections that are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accept {
    /// The peer.
    pub(crate) remote: Remote,
    /// The target port, on whichever side that is.
    pub(crate) service: Service,
}

/// The peer of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remote {
    Any,
    /// Members of the set with this name.
    Set(String),
    Block {
        cidr: IpNet,
        except: Vec<IpNet>,
    },
}

/// The target of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    Any,
    Protocol(Protocol),
    Ports(Protocol, u16, u16),
    /// Members of the set with this name.
    Set(Protocol, String),
    /// Any of the list with this name: the kernel then checks the peer once and not for each port.
    List(String),
}
