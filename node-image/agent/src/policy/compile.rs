//! From the objects of the cluster to the rules of one node. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::rc::Rc;

use super::objects::{Namespaces, Pod, Pods, Protocol};
use super::records::Records;
use super::rules::{Accept, Chain, Direction, Remote, RuleSet, Service, Set};
use super::selector::Selector;
use super::spec::{Numbers, Peer, Policies, Port, Rule};
use crate::object::NamespacedName;

/// The kernel accepts names of up to 255 bytes.
const MAX_NAME: usize = 200;

/// The input from which the rules of a node are computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cluster<'a> {
    /// Name of the node.
    pub(crate) node: &'a str,
    pub(crate) policies: &'a Policies,
    pub(crate) pods: &'a Pods,
    pub(crate) namespaces: &'a Namespaces,
    /// Addresses that were assigned to pods of this node, and that the API may not know yet.
    pub(crate) records: &'a Records,
}

/// A pod with addresses.
#[derive(Debug)]
struct Member<'a> {
    pod: &'a Pod,
    addresses: Vec<IpAddr>,
    /// Whether it runs on the node of the rules.
    is_own: bool,
}

/// The pods with addresses, by namespace.
type Members<'a> = BTreeMap<&'a str, Vec<Member<'a>>>;

/// The rules of the node: incoming connections are checked on the node of their target, outgoing ones on the node of
/// their source.
pub(crate) fn compile(cluster: &Cluster<'_>) -> RuleSet {
    let members = members(cluster);
    let mut compiler = Compiler { namespaces: cluster.namespaces, members: &members, rules: RuleSet::default() };
    // For each isolated pod, identified by its addresses, the chains that accept connections; there may be none.
    let mut selected = BTreeMap::<(Direction, &[IpAddr]), Vec<Rc<str>>>::new();
    for (name, policy) in cluster.policies {
        let on_node = members.get(name.namespace.as_str()).into_iter().flatten().filter(|member| member.is_own);
        let matching: Vec<_> = on_node.filter(|member| policy.selector.matches(&member.pod.labels)).collect();
        if matching.is_empty() {
            continue;
        }
        for (direction, allowed) in [(Direction::Ingress, &policy.ingress), (Direction::Egress, &policy.egress)] {
            let Some(allowed) = allowed else { continue };
            let chain = compiler.policy(direction, name, allowed);
            for member in &matching {
                let chains = selected.entry((direction, &member.addresses)).or_default();
                chains.extend(chain.clone());
            }
        }
    }
    for (direction, addresses) in orphans(cluster, &members) {
        selected.entry((direction, addresses)).or_default();
    }
    for ((direction, addresses), chains) in selected {
        compiler.select(direction, addresses, &chains);
    }
    compiler.rules
}

/// Addresses of sandboxes whose pod the API does not have (any longer), such as one that was deleted by force and still
/// runs: nothing is allowed if the policies of its namespace isolate any pod.
fn orphans<'a>(cluster: &Cluster<'a>, members: &Members<'_>) -> Vec<(Direction, &'a [IpAddr])> {
    let taken: BTreeSet<&IpAddr> = members.values().flatten().flat_map(|member| &member.addresses).collect();
    let mut orphans = Vec::new();
    for (name, record) in cluster.records {
        let is_there = cluster.pods.get(name).is_some_and(|pod| pod.node == cluster.node);
        if is_there || record.addresses.iter().any(|address| taken.contains(address)) {
            continue;
        }
        let policies = cluster.policies.iter().filter(|(policy, _)| policy.namespace == name.namespace);
        for (_, policy) in policies {
            let directions = [(Direction::Ingress, &policy.ingress), (Direction::Egress, &policy.egress)];
            let directions = directions.into_iter().filter(|(_, allowed)| allowed.is_some());
            orphans.extend(directions.map(|(direction, _)| (direction, record.addresses.as_slice())));
        }
    }
    orphans
}

fn members<'a>(cluster: &Cluster<'a>) -> Members<'a> {
    // An address that was just assigned to a pod may still be in the status of a pod that has ended.
    let recorded: BTreeSet<IpAddr> = cluster.records.values().flat_map(|record| record.addresses.clone()).collect();
    let mut members = Members::new();
    for (name, pod) in cluster.pods {
        let is_own = pod.node == cluster.node;
        let addresses = match cluster.records.get(name).filter(|_| is_own) {
            Some(record) => record.addresses.clone(),
            None => pod.addresses.iter().copied().filter(|address| !recorded.contains(address)).collect(),
        };
        if !addresses.is_empty() {
            members.entry(name.namespace.as_str()).or_default().push(Member { pod, addresses, is_own });
        }
    }
    members
}

struct Compiler<'a> {
    namespaces: &'a Namespaces,
    members: &'a Members<'a>,
    rules: RuleSet,
}

impl Compiler<'_> {
    /// Adds the chain of a policy, unless the policy accepts nothing.
    fn policy(&mut self, direction: Direction, name: &NamespacedName, allowed: &[Rule]) -> Option<Rc<str>> {
        let mut accepts = Vec::new();
        for rule in allowed {
            let remotes = self.remotes(&name.namespace, rule);
            if let Some(service) = self.service(rule) {
                accepts.extend(remotes.into_iter().map(|remote| Accept { remote, service: service.clone() }));
            }
        }
        if accepts.is_empty() {
            return None;
        }
        let chain = chain_name(direction, name);
        self.rules.policies.insert(chain.clone(), Chain { direction, accepts });
        Some(chain.into())
    }

    /// The peers that a rule allows: one set for all its pods, and each block of addresses.
    fn remotes(&mut self, namespace: &str, rule: &Rule) -> Vec<Remote> {
        let Some(peers) = &rule.peers else { return vec![Remote::Any] };
        let (pods, blocks): (Vec<&Peer>, Vec<&Peer>) = peers.iter().partition(|peer| matches!(peer, Peer::Pods { .. }));
        let mut remotes = Vec::new();
        if !pods.is_empty() {
            // Policies of all namespaces share the sets that do not depend on their namespace.
            let is_own = |peer: &&Peer| matches!(peer, Peer::Pods { namespaces: None, .. });
            let name = set_name("peers", &(pods.iter().any(is_own).then_some(namespace), &pods));
            if !self.rules.sets.contains_key(&name) {
                let addresses = pods.iter().flat_map(|peer| self.peer_members(namespace, peer));
                let addresses = addresses.flat_map(|member| member.addresses.iter().copied()).collect();
                self.rules.sets.insert(name.clone(), Set::Addresses(addresses));
            }
            remotes.push(Remote::Set(name));
        }
        for block in blocks {
            if let Peer::Block { cidr, except } = block {
                remotes.push(Remote::Block { cidr: *cidr, except: except.clone() });
            }
        }
        remotes
    }

    /// The ports to which a rule allows connections.
    fn service(&mut self, rule: &Rule) -> Option<Service> {
        let Some(ports) = &rule.ports else { return Some(Service::Any) };
        let service = |Port { protocol, numbers }: &Port| match numbers {
            Numbers::All => Service::Protocol(*protocol),
            Numbers::Range(first, last) => Service::Ports(*protocol, *first, *last),
            Numbers::Named(name) => Service::Set(*protocol, self.sockets(*protocol, name)),
        };
        let mut services: Vec<Service> = ports.iter().map(service).collect();
        if services.len() < 2 {
            return services.pop();
        }
        let name = set_name("services", &services);
        self.rules.services.insert(name.clone(), services);
        Some(Service::List(name))
    }

    /// The set of the ports with a name. It has those of all pods: the rest of the rule restricts the pods.
    fn sockets(&mut self, protocol: Protocol, name: &str) -> String {
        let set = set_name("ports", &(protocol, name));
        if !self.rules.sets.contains_key(&set) {
            let sockets = self.members.values().flatten().flat_map(|member| {
                let ports = member.pod.ports.iter().filter(|port| port.protocol == protocol && port.name == name);
                ports.flat_map(|port| member.addresses.iter().map(|address| (*address, port.number)))
            });
            self.rules.sets.insert(set.clone(), Set::Sockets(sockets.collect()));
        }
        set
    }

    /// The pods that match a peer of a policy in `namespace`.
    fn peer_members<'b>(&'b self, namespace: &'b str, peer: &'b Peer) -> impl Iterator<Item = &'b Member<'b>> {
        let (namespaces, pods) = match peer {
            Peer::Pods { namespaces, pods } => (namespaces.as_ref(), Some(pods)),
            Peer::Block { .. } => (None, None),
        };
        let is_meant = move |candidate: &str| match namespaces {
            None => candidate == namespace,
            Some(selector) => self.namespaces.get(candidate).is_some_and(|labels| selector.matches(labels)),
        };
        let members = self.members.iter().filter(move |(candidate, _)| is_meant(candidate));
        let selects = move |member: &&Member<'_>| pods.is_some_and(|pods: &Selector| pods.matches(&member.pod.labels));
        members.flat_map(|(_, members)| members).filter(selects)
    }

    /// Isolates a pod, except for what the chains accept.
    fn select(&mut self, direction: Direction, addresses: &[IpAddr], chains: &[Rc<str>]) {
        let name = set_name("pods", &(direction, chains));
        let rules = &mut self.rules;
        if !rules.selections.contains_key(&name) {
            rules.selections.insert(name.clone(), chains.iter().map(ToString::to_string).collect());
        }
        let verdicts = match direction {
            Direction::Ingress => &mut rules.ingress,
            Direction::Egress => &mut rules.egress,
        };
        verdicts.extend(addresses.iter().map(|address| (*address, name.clone())));
    }
}

/// It is readable, for users of `nft list`.
fn chain_name(direction: Direction, policy: &NamespacedName) -> String {
    let word = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let mut name = format!("{word}/{policy}");
    if name.len() > MAX_NAME {
        let hash = hash(policy);
        name.truncate(MAX_NAME);
        name.push_str(&hash);
    }
    name
}

fn set_name(word: &str, of: &impl Hash) -> String {
    format!("{word}-{}", hash(of))
}

/// Equal for equal values, while this program runs.
fn hash(value: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
