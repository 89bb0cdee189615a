//! What may leave the node, and with which source: packets of pods to the outside are masqueraded, and packets to a service
//! that does not exist are dropped. The rules are in nftables tables of the agent itself.

use std::fmt::Write as _;

use ipnet::IpNet;

use crate::nft;

/// The name of the agent's table in each address family.
pub(crate) const TABLE: &str = "coracle-masquerade";

/// The rules as `nft -f -` reads them: one transaction, with the same result however often it runs.
///
/// Pods see each other's real addresses; all other peers of a pod see the address of the pod's node. The address of a
/// service is translated before this hook, so it counts as the pod behind it. Each family has its own table, because
/// `inet` supports `nat` only since Linux 5.2.
///
/// For the same reason, a packet that still has the address of a service is for a service or a port that does not exist.
/// kube-proxy in its iptables mode lets it go to the default gateway, and a machine behind that may answer. It is dropped
/// after kube-proxy has rejected what it rejects, and not rejected here: a client that is faster than kube-proxy on a new
/// node retries and then succeeds, because a dropped packet leaves no connection behind.
pub(crate) fn ruleset(pod_subnets: &[IpNet], service_subnets: &[IpNet]) -> String {
    let mut rules = String::new();
    let services = families(service_subnets);
    for (family, subnets) in families(pod_subnets) {
        let subnets = subnets.join(", ");
        let services = services.iter().find(|(other, _)| *other == family);
        let unserved = services.map_or_else(String::new, |(_, services)| {
            format!(
                "\tchain unserved {{\n\
                 \t\ttype filter hook postrouting priority 90; policy accept;\n\
                 \t\t{family} daddr {{ {} }} drop\n\
                 \t}}\n",
                services.join(", ")
            )
        });
        // The table must exist to be deleted, so it is added first: an empty one changes nothing.
        let _ = write!(
            rules,
            "add table {family} {TABLE}\n\
             delete table {family} {TABLE}\n\
             table {family} {TABLE} {{\n\
             \tchain postrouting {{\n\
             \t\ttype nat hook postrouting priority 100; policy accept;\n\
             \t\t{family} saddr {{ {subnets} }} {family} daddr != {{ {subnets} }} masquerade fully-random\n\
             \t}}\n\
             {unserved}}}\n"
        );
    }
    rules
}

/// The address families in use, by their names in nft, with their subnets in order and without those inside another one.
fn families(subnets: &[IpNet]) -> Vec<(&'static str, Vec<String>)> {
    let subnets = IpNet::aggregate(&subnets.to_vec());
    let (four, six): (Vec<_>, Vec<_>) = subnets.into_iter().partition(|subnet| subnet.addr().is_ipv4());
    let families = [("ip", four), ("ip6", six)];
    let families = families.into_iter().filter(|(_, subnets)| !subnets.is_empty());
    families.map(|(family, subnets)| (family, subnets.iter().map(ToString::to_string).collect())).collect()
}

/// Sets all rules, or none.
pub(crate) async fn apply(pod_subnets: &[IpNet], service_subnets: &[IpNet]) -> Result<(), String> {
    nft::run(&ruleset(pod_subnets, service_subnets)).await
}

/// Whether the tables exist; `nft flush ruleset` may have removed them.
pub(crate) async fn is_applied(pod_subnets: &[IpNet]) -> bool {
    for (family, _) in families(pod_subnets) {
        if nft::call(&["list", "chain", family, TABLE, "postrouting"], "").await.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_gets_its_table_and_only_traffic_that_leaves_the_pod_subnets_is_masqueraded() {
        let subnets = ["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/56".parse().unwrap()];
        assert_eq!(
            ruleset(&subnets, &[]),
            "add table ip coracle-masquerade
delete table ip coracle-masquerade
table ip coracle-masquerade {
\tchain postrouting {
\t\ttype nat hook postrouting priority 100; policy accept;
\t\tip saddr { 10.244.0.0/16 } ip daddr != { 10.244.0.0/16 } masquerade fully-random
\t}
}
add table ip6 coracle-masquerade
delete table ip6 coracle-masquerade
table ip6 coracle-masquerade {
\tchain postrouting {
\t\ttype nat hook postrouting priority 100; policy accept;
\t\tip6 saddr { fd00:10:244::/56 } ip6 daddr != { fd00:10:244::/56 } masquerade fully-random
\t}
}
"
        );
    }

    #[test]
    fn what_is_addressed_to_a_service_that_nobody_serves_stays_on_the_node() {
        let pods = ["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/56".parse().unwrap()];
        let rules = ruleset(&pods, &["10.96.0.0/16".parse().unwrap(), "fd00:10:96::/112".parse().unwrap()]);
        let chain = "\t}
\tchain unserved {
\t\ttype filter hook postrouting priority 90; policy accept;
\t\tip daddr { 10.96.0.0/16 } drop
\t}
}
";
        assert!(rules.contains(chain), "{rules}");
        assert!(rules.contains("ip6 daddr { fd00:10:96::/112 } drop"), "{rules}");
    }

    #[test]
    fn overlapping_subnets_become_one_because_nft_refuses_them_in_a_set() {
        let subnets = ["10.244.0.0/16".parse().unwrap(), "10.244.3.0/24".parse().unwrap()];
        assert!(ruleset(&subnets, &[]).contains("saddr { 10.244.0.0/16 }"));
        assert!(!ruleset(&subnets, &[]).contains("ip6"));
    }
}
