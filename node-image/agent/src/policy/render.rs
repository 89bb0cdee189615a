//! From the rules of a node to the input of `nft -f -`: one transaction with only what has changed. Pure.
//!
//! The rules match connections, not packets: their source (`ct original saddr`), and their target after all translation
//! (`ct reply saddr`, `ct reply proto-src`). So one rule covers both directions of a connection, replies need no rule of
//! their own, and a connection ends with the rule that allowed it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::objects::Protocol;
use super::rules::{Accept, Direction, Remote, RuleSet, Service, Set};

/// The name of the agent's tables, which exist only while a pod of the node is selected by a policy.
///
/// There is one for each address family: the kernel finds a set by comparing its name with all sets of the table, so two
/// small tables are created in half the time of a large one.
pub(crate) const TABLE: &str = "coracle-policy";

/// An address family of the cluster's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Four,
    Six,
}

/// The families of the pod subnets.
pub(crate) fn families(pod_subnets: &[IpNet]) -> Vec<Family> {
    let is_used = |family: &Family| pod_subnets.iter().any(|subnet| family.has(&subnet.addr()));
    [Family::Four, Family::Six].into_iter().filter(is_used).collect()
}

impl Family {
    /// Its name in nft.
    fn name(self) -> &'static str {
        match self {
            Self::Four => "ip",
            Self::Six => "ip6",
        }
    }

    fn address_type(self) -> &'static str {
        match self {
            Self::Four => "ipv4_addr",
            Self::Six => "ipv6_addr",
        }
    }

    fn has(self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self == Self::Four)
    }
}

/// The complete rules, whatever existed before.
pub(crate) fn full(rules: &RuleSet, families: &[Family]) -> String {
    let mut script = String::new();
    for family in families {
        let name = family.name();
        // The table must exist to be deleted, so it is added first: an empty one changes nothing.
        let _ = write!(script, "add table {name} {TABLE}\ndelete table {name} {TABLE}\n");
        if !rules.is_empty() {
            script.push_str(&base(*family));
            script.push_str(&update(&RuleSet::default(), rules, &[*family]));
        }
    }
    script
}

/// The chains at which the kernel enters.
///
/// Connections of the node itself to its pods, such as the kubelet's probes, are always allowed. `input` and `output-egress`
/// are for pods that connect to their own node. A pod may connect to itself through its service. Packets without a connection
/// cannot be checked, and nothing needs them.
///
/// IPVS takes a packet for a Service out of `input`, at priority 98, and sends it from `output`, translated: what is not yet
/// translated is not checked there, and what leaves with somebody else's source address is checked like what is forwarded.
fn base(family: Family) -> String {
    let (ip, kind) = (family.name(), family.address_type());
    format!(
        "table {ip} {TABLE} {{
 map ingress {{ type {kind} : verdict; }}
 map egress {{ type {kind} : verdict; }}
 set own {{ type {kind} . {kind}; }}
 chain forward-egress {{
  type filter hook forward priority 0; policy accept;
  ct state invalid,untracked drop
  ct original {ip} saddr . ct reply {ip} saddr @own accept
  ct original {ip} saddr vmap @egress
 }}
 chain forward-ingress {{
  type filter hook forward priority 1; policy accept;
  ct original {ip} saddr . ct reply {ip} saddr @own accept
  ct reply {ip} saddr vmap @ingress
 }}
 chain input {{
  type filter hook input priority 110; policy accept;
  ct original {ip} saddr vmap @egress
 }}
 chain output-egress {{
  type filter hook output priority 0; policy accept;
  ct original {ip} saddr . ct reply {ip} saddr @own accept
  ct original {ip} saddr vmap @egress
 }}
 chain output-ingress {{
  type filter hook output priority 1; policy accept;
  fib saddr type local accept
  ct original {ip} saddr . ct reply {ip} saddr @own accept
  ct reply {ip} saddr vmap @ingress
 }}
}}
"
    )
}

/// The changes that turn `old`, which is in the kernel, into `new`. Neither may be empty, except `old` right after the table was created.
pub(crate) fn update(old: &RuleSet, new: &RuleSet, families: &[Family]) -> String {
    let mut script = Script { text: String::new(), family: Family::Four };
    for family in families {
        script.family = *family;
        script.chains(old, new);
        script.members(old, new);
        script.verdicts("ingress", &old.ingress, &new.ingress);
        script.verdicts("egress", &old.egress, &new.egress);
        script.own(old, new);
        script.unneeded(old, new);
    }
    script.text
}

struct Script {
    text: String,
    family: Family,
}

impl Script {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.text, "{text}");
    }

    /// A command for an element of the table.
    fn command(&mut self, verb: &str, thing: &str, rest: &str) {
        let family = self.family.name();
        self.line(format_args!("{verb} {thing} {family} {TABLE} {rest}"));
    }

    /// New sets and chains, and chains that have changed.
    fn chains(&mut self, old: &RuleSet, new: &RuleSet) {
        let mut sets: Vec<_> = new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)).collect();
        // The kernel searches sets from the first one on: the few that many policies use come first.
        sets.sort_by_key(|(_, set)| matches!(set, Set::Addresses(_)));
        let changed = new.policies.iter().filter(|(name, chain)| old.policies.get(*name) != Some(chain));
        let changed: Vec<_> = changed.collect();
        // The name of a selection identifies its content, so an existing one is right.
        let selections = new.selections.iter().filter(|(name, _)| !old.selections.contains_key(*name));
        let selections: Vec<_> = selections.collect();
        let services = new.services.iter().filter(|(name, _)| !old.services.contains_key(*name));
        let services: Vec<_> = services.collect();
        if [sets.len(), changed.len(), selections.len(), services.len()] == [0; 4] {
            return;
        }
        for (name, _) in changed.iter().filter(|(name, _)| old.policies.contains_key(*name)) {
            self.command("flush", "chain", name);
        }
        let family = self.family.name();
        self.line(format_args!("table {family} {TABLE} {{"));
        for (name, set) in sets {
            self.new_set(name, set);
        }
        for (name, services) in services {
            self.line(format_args!(" chain {name} {{"));
            for each in services {
                let service = service(each, self.family);
                self.line(format_args!("  {service}"));
            }
            self.line(format_args!(" }}"));
        }
        for (name, chain) in changed {
            self.line(format_args!(" chain {name} {{"));
            for accept in &chain.accepts {
                self.accept(chain.direction, accept);
            }
            self.line(format_args!(" }}"));
        }
        for (name, chains) in selections {
            self.line(format_args!(" chain {name} {{"));
            for chain in chains {
                self.line(format_args!("  jump {chain}"));
            }
            self.line(format_args!("  drop\n }}"));
        }
        self.line(format_args!("}}"));
    }

    fn new_set(&mut self, name: &str, set: &Set) {
        let kind = self.family.address_type();
        let (kind, elements) = match set {
            Set::Addresses(addresses) => (kind.to_owned(), addresses_of(addresses, self.family)),
            Set::Sockets(sockets) => (format!("{kind} . inet_service"), sockets_of(sockets, self.family)),
        };
        let elements =
            if elements.is_empty() { String::new() } else { format!(" elements = {{ {} }};", elements.join(", ")) };
        self.line(format_args!(" set {name} {{ type {kind};{elements} }}"));
    }

    fn accept(&mut self, direction: Direction, accept: &Accept) {
        if let Some(remote) = remote(direction, &accept.remote, self.family) {
            let service = service(&accept.service, self.family);
            self.line(format_args!("  {remote}{service}"));
        }
    }

    /// New and removed members of sets.
    fn members(&mut self, old: &RuleSet, new: &RuleSet) {
        let family = self.family;
        for (name, set) in &new.sets {
            let (gone, come) = match (old.sets.get(name), set) {
                (Some(Set::Addresses(before)), Set::Addresses(after)) if before != after => {
                    (addresses_of(before.difference(after), family), addresses_of(after.difference(before), family))
                }
                (Some(Set::Sockets(before)), Set::Sockets(after)) if before != after => {
                    (sockets_of(before.difference(after), family), sockets_of(after.difference(before), family))
                }
                _ => continue,
            };
            self.elements("delete", name, &gone);
            self.elements("add", name, &come);
        }
    }

    fn verdicts(&mut self, map: &str, old: &BTreeMap<IpAddr, String>, new: &BTreeMap<IpAddr, String>) {
        let family = self.family;
        let gone = old.iter().filter(|(address, chain)| family.has(address) && new.get(*address) != Some(chain));
        let gone: Vec<String> = gone.map(|(address, _)| address.to_string()).collect();
        let come = new.iter().filter(|(address, chain)| family.has(address) && old.get(*address) != Some(chain));
        let come: Vec<String> = come.map(|(address, chain)| format!("{address} : goto {chain}")).collect();
        self.elements("delete", map, &gone);
        self.elements("add", map, &come);
    }

    fn own(&mut self, old: &RuleSet, new: &RuleSet) {
        let (family, before, after) = (self.family, isolated(old), isolated(new));
        let pairs = |addresses: &mut dyn Iterator<Item = &IpAddr>| -> Vec<String> {
            addresses.filter(|address| family.has(address)).map(|address| format!("{address} . {address}")).collect()
        };
        self.elements("delete", "own", &pairs(&mut before.difference(&after)));
        self.elements("add", "own", &pairs(&mut after.difference(&before)));
    }

    fn elements(&mut self, verb: &str, name: &str, elements: &[String]) {
        if !elements.is_empty() {
            self.command(verb, "element", &format!("{name} {{ {} }}", elements.join(", ")));
        }
    }

    /// Removes what nothing refers to any longer: a chain before those that it refers to.
    fn unneeded(&mut self, old: &RuleSet, new: &RuleSet) {
        let selections = old.selections.keys().filter(|name| !new.selections.contains_key(*name));
        let policies = old.policies.keys().filter(|name| !new.policies.contains_key(*name));
        let services = old.services.keys().filter(|name| !new.services.contains_key(*name));
        for name in selections.chain(policies).chain(services) {
            self.command("flush", "chain", name);
            self.command("delete", "chain", name);
        }
        for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
            self.command("delete", "set", name);
        }
    }
}

fn isolated(rules: &RuleSet) -> BTreeSet<IpAddr> {
    rules.ingress.keys().chain(rules.egress.keys()).copied().collect()
}

fn addresses_of<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>, family: Family) -> Vec<String> {
    addresses.into_iter().filter(|address| family.has(address)).map(ToString::to_string).collect()
}

fn sockets_of<'a>(sockets: impl IntoIterator<Item = &'a (IpAddr, u16)>, family: Family) -> Vec<String> {
    let sockets = sockets.into_iter().filter(|(address, _)| family.has(address));
    sockets.map(|(address, port)| format!("{address} . {port}")).collect()
}

/// The condition on the peer, followed by a blank; `None` if the family has no such peer.
fn remote(direction: Direction, remote: &Remote, family: Family) -> Option<String> {
    let ip = family.name();
    let address = match direction {
        Direction::Ingress => format!("ct original {ip} saddr"),
        Direction::Egress => format!("ct reply {ip} saddr"),
    };
    match remote {
        Remote::Any => Some(String::new()),
        Remote::Set(name) => Some(format!("{address} @{name} ")),
        Remote::Block { cidr, .. } if !family.has(&cidr.addr()) => None,
        Remote::Block { cidr, except } => {
            let mut text = format!("{address} {cidr} ");
            for except in except {
                let _ = write!(text, "{address} != {except} ");
            }
            Some(text)
        }
    }
}

/// The condition on the target, and the verdict if it is met.
fn service(service: &Service, family: Family) -> String {
    let protocol = |protocol: &Protocol| match protocol {
        Protocol::Tcp => "meta l4proto tcp ",
        Protocol::Udp => "meta l4proto udp ",
        Protocol::Sctp => "meta l4proto sctp ",
    };
    match service {
        Service::Any => "accept".to_owned(),
        Service::List(name) => format!("jump {name}"),
        Service::Protocol(of) => format!("{}accept", protocol(of)),
        Service::Ports(of, first, last) if first == last => {
            format!("{}ct reply proto-src {first} accept", protocol(of))
        }
        Service::Ports(of, first, last) => format!("{}ct reply proto-src {first}-{last} accept", protocol(of)),
        Service::Set(of, name) => {
            let ip = family.name();
            format!("{}ct reply {ip} saddr . ct reply proto-src @{name} accept", protocol(of))
        }
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
