//! Rules by which the first packets of pods arrive, although kube-proxy and the agent have not set theirs yet.

use std::fmt::Write as _;

use crate::plan::layout::Layout;

/// The rules as `nft --file` reads them, for a node's boot.
///
/// A connection keeps what its first packet met. Without these rules, the first packet of a pod that starts before kube-proxy
/// or the agent would be lost, and so would all that follow: a pod waits for 30 s then, as `CoreDNS` did.
/// So the `kubernetes` service leads to the API's endpoint, in a chain behind that of kube-proxy (priority -100), which sees
/// only what kube-proxy ignores; and what leaves the pods' subnets has the node's address, as the agent sees to later.
pub(super) fn rules(layout: &Layout) -> String {
    let networking = &layout.cluster.networking;
    let (service, endpoint) = (layout.service_address(1), layout.endpoint());
    let mut rules = String::new();
    for ip in ["ip", "ip6"] {
        let mut chains = String::new();
        if family(&service) == ip {
            for hook in ["prerouting", "output"] {
                let _ = write!(
                    chains,
                    "  chain {hook} {{\n    type nat hook {hook} priority -99;\n    \
                     {ip} daddr {service} tcp dport 443 dnat to {endpoint}\n  }}\n"
                );
            }
        }
        let pods = networking.pod_subnet.iter().map(|subnet| subnet.to_string());
        let pods: Vec<_> = pods.filter(|subnet| family(subnet) == ip).collect();
        if !networking.disable_default_cni && !pods.is_empty() {
            let pods = pods.join(", ");
            let _ = write!(
                chains,
                "  chain postrouting {{\n    type nat hook postrouting priority 100;\n    \
                 {ip} saddr {{ {pods} }} {ip} daddr != {{ {pods} }} masquerade fully-random\n  }}\n"
            );
        }
        if !chains.is_empty() {
            let table = format!("table {ip} coracle-boot");
            let _ = write!(rules, "{table}\ndelete {table}\n{table} {{\n{chains}}}\n");
        }
    }
    rules
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "ip6" } else { "ip" }
}
