//! Keeps pods away from the port of the heartbeats: only what the node's own link brings reaches it. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::announcer::PORT;

/// The agent's table for it.
const TABLE: &str = "coracle-heartbeats";

/// The rules as `nft -f -` reads them: one transaction, with the same result however often it runs.
///
/// A pod may give its packets any source, so what counts is the link by which a packet arrives. The chain comes before
/// everything that translates addresses, and looks only at packets for nodes: a pod may use the port for itself.
pub(crate) fn ruleset<'a>(link: u32, nodes: impl Iterator<Item = &'a IpAddr>) -> String {
    let (four, six): (BTreeSet<&IpAddr>, BTreeSet<&IpAddr>) = nodes.partition(|address| address.is_ipv4());
    let mut rules = format!("add table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    rules.push_str("\tchain prerouting {\n\t\ttype filter hook prerouting priority -310; policy accept;\n");
    for (family, addresses) in [("ip", four), ("ip6", six)] {
        let addresses: Vec<String> = addresses.into_iter().map(ToString::to_string).collect();
        if !addresses.is_empty() {
            let nodes = addresses.join(", ");
            let _ = writeln!(
                rules,
                "\t\tiifname != \"lo\" iif != {link} {family} daddr {{ {nodes} }} udp dport {PORT} counter drop"
            );
        }
    }
    rules.push_str("\t}\n}\n");
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nodes_own_link_leads_to_the_port() {
        let nodes: Vec<IpAddr> = ["172.18.0.3", "fd00::2", "172.18.0.2"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(
            ruleset(7, nodes.iter()),
            "add table inet coracle-heartbeats
delete table inet coracle-heartbeats
table inet coracle-heartbeats {
\tchain prerouting {
\t\ttype filter hook prerouting priority -310; policy accept;
\t\tiifname != \"lo\" iif != 7 ip daddr { 172.18.0.2, 172.18.0.3 } udp dport 10290 counter drop
\t\tiifname != \"lo\" iif != 7 ip6 daddr { fd00::2 } udp dport 10290 counter drop
\t}
}
"
        );
        assert!(!ruleset(7, nodes[..1].iter()).contains("ip6"), "nft refuses an empty set");
    }
}
