//! The names, addresses and pod subnets that are free in a cluster: new nodes get them, and existing nodes keep theirs. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Role, Subnets};
use crate::error::{Code, Error, Result};
use crate::plan::subnet::{Division, overlaps};

/// The load balancer's slot; nodes have the ones behind it.
const BALANCER_SLOT: usize = 0;

/// What the containers of a cluster have taken, and the pools that new ones get theirs from.
///
/// The n-th slot is the n-th address of each family, so that all addresses of a container have the same ending. The lowest
/// free slot is taken first; in a new cluster this gives the order of the nodes.
pub(crate) struct Allocation {
    /// The parts of the network that fixed addresses come from, the primary family first.
    divisions: Vec<Division>,
    /// The subnets of which each node has a part.
    pod_subnets: Subnets,
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    pod_cidrs: Vec<IpNet>,
    nodes: usize,
}

impl Allocation {
    /// An allocation in which everything is free.
    pub(crate) fn new(divisions: Vec<Division>, pod_subnets: Subnets) -> Self {
        let (names, addresses, pod_cidrs) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Self { divisions, pod_subnets, names, addresses, pod_cidrs, nodes: 0 }
    }

    /// Marks what an existing node has as taken.
    pub(crate) fn take(&mut self, name: &str, addresses: &[IpAddr], pod_cidrs: &[IpNet]) {
        self.names.insert(name.to_owned());
        self.pod_cidrs.extend(pod_cidrs);
        self.take_addresses(addresses);
        self.nodes += 1;
    }

    /// Marks the addresses of a container as taken.
    pub(crate) fn take_addresses(&mut self, addresses: &[IpAddr]) {
        self.addresses.extend(addresses);
    }

    /// Allocates the name, the addresses and the pod subnets of a new node.
    pub(crate) fn node(&mut self, cluster: &str, role: Role) -> Result<(String, Vec<IpAddr>, Vec<IpNet>)> {
        let name = self.name(cluster, role);
        let addresses = self.addresses(BALANCER_SLOT + 1)?;
        let pod_cidrs = self.pod_cidrs()?;
        self.take(&name, &addresses, &pod_cidrs);
        Ok((name, addresses, pod_cidrs))
    }

    /// Allocates the addresses of a new load balancer.
    pub(crate) fn balancer(&mut self) -> Result<Vec<IpAddr>> {
        let addresses = self.addresses(BALANCER_SLOT)?;
        self.take_addresses(&addresses);
        Ok(addresses)
    }

    /// The first free name of `NAME-worker`, `NAME-worker2`, `NAME-worker3` and so on.
    fn name(&self, cluster: &str, role: Role) -> String {
        let first = format!("{cluster}-{}", role.as_str());
        // There is one candidate more than there are names, so one is free.
        let numbered = (2..self.names.len() + 2).map(|number| format!("{first}{number}"));
        let free = std::iter::once(first.clone()).chain(numbered).find(|name| !self.names.contains(name));
        free.unwrap_or(first)
    }

    /// The addresses of the lowest slot, from `first` on, of which no address is taken in any family.
    fn addresses(&self, first: usize) -> Result<Vec<IpAddr>> {
        if self.divisions.is_empty() {
            return Err(Error::new(Code::ConfigInvalid, "the cluster has no pod subnet"));
        }
        let mut slot = first;
        loop {
            let addresses =
                self.divisions.iter().map(|division| address(division, slot)).collect::<Result<Vec<_>>>()?;
            if addresses.iter().all(|address| !self.addresses.contains(address)) {
                return Ok(addresses);
            }
            slot += 1;
        }
    }

    /// The lowest /24 (/64 of IPv6) of each pod subnet that overlaps no other node's; kube-controller-manager divides them alike.
    fn pod_cidrs(&self) -> Result<Vec<IpNet>> {
        let mut parts = Vec::new();
        for subnet in self.pod_subnets.iter() {
            let mask = if subnet.addr().is_ipv4() { 24 } else { 64 };
            let free = |part: &IpNet| !self.pod_cidrs.iter().any(|taken| overlaps(taken, part));
            let part = subnet.subnets(mask).ok().and_then(|mut parts| parts.find(free));
            parts.push(part.ok_or_else(|| {
                let nodes = self.nodes + 1;
                Error::new(Code::ConfigInvalid, format!("the pod subnet {subnet} is too small for {nodes} nodes"))
                    .hint(format!("each node takes a /{mask} of `networking.podSubnet`"))
            })?);
        }
        Ok(parts)
    }
}

fn address(division: &Division, slot: usize) -> Result<IpAddr> {
    division.address(slot).ok_or_else(|| {
        Error::new(Code::SubnetClash, format!("the subnet {} has no room for another node", division.subnet))
    })
}
