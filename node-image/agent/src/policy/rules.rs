//! The rules of one node as a value, between what the cluster says and what nft reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::objects::Protocol;

/// Everything that is enforced on one node. Two that are equal need no change in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RuleSet {
    /// Groups of addresses by name; a pod that comes or goes changes nothing else.
    pub(crate) sets: BTreeMap<String, Set>,
    /// Lists of ports that rules share; as with selections, the name says all that is in it.
    pub(crate) services: BTreeMap<String, Vec<Service>>,
    /// What each policy accepts, by the chain's name.
    pub(crate) policies: BTreeMap<String, Chain>,
    /// For pods that are selected by the same policies: their chains, in order. What none of them accepts is dropped.
    pub(crate) selections: BTreeMap<String, Vec<String>>,
    /// The selection for each address of a pod of this node that only some may connect to.
    pub(crate) ingress: BTreeMap<IpAddr, String>,
    /// The selection for each address of a pod of this node that may only connect to some.
    pub(crate) egress: BTreeMap<IpAddr, String>,
}

impl RuleSet {
    /// Whether everything may connect to everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.ingress.is_empty() && self.egress.is_empty()
    }
}

/// A group of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Set {
    /// Pods.
    Addresses(BTreeSet<IpAddr>),
    /// Ports of pods: what a named port means, which can be another number in each pod.
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
    /// The other side.
    pub(crate) remote: Remote,
    /// The port connected to, on whichever side that is.
    pub(crate) service: Service,
}

/// The other side of a connection.
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

/// What is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    Any,
    Protocol(Protocol),
    Ports(Protocol, u16, u16),
    /// Members of the set with this name.
    Set(Protocol, String),
    /// Any of the list with this name: the kernel then asks for the other side once and not for each port.
    List(String),
}
