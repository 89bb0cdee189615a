//! The CNI configuration of a node. The command writes it before the node boots; the agent writes it where there is none,
//! as in clusters of kind, or where the cluster gave the node other addresses.

use ipnet::IpNet;
use serde::Serialize;

/// Name of the file in the CNI directory.
pub const FILE: &str = "10-coracle.conflist";
/// The CNI plugin by which a pod waits for its network policies: the agent's program under another name.
pub const POLICY_PLUGIN: &str = "coracle-policy";
/// The CNI plugin by which a pod's IPv6 addresses are usable at once: the same program.
pub const IPV6_PLUGIN: &str = "coracle-ipv6";

/// The network of a node's pods.
#[derive(Debug, Clone, Copy)]
pub struct PodNetwork<'a> {
    /// The node's pod subnets, the one of the primary family first.
    pub subnets: &'a [IpNet],
    /// The largest packet, bytes.
    pub mtu: u32,
    /// The node image has [`POLICY_PLUGIN`].
    pub policy_plugin: bool,
    /// The node image has [`IPV6_PLUGIN`].
    pub ipv6_plugin: bool,
}

// Structures, and not JSON values: both programs write the same bytes, whatever order their JSON maps have.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    cni_version: &'static str,
    name: &'static str,
    plugins: Vec<Plugin>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Plugin {
    Simple {
        #[serde(rename = "type")]
        kind: &'static str,
    },
    #[serde(rename_all = "camelCase")]
    PointToPoint {
        #[serde(rename = "type")]
        kind: &'static str,
        ip_masq: bool,
        mtu: u32,
        ipam: Addresses,
    },
    PortMap {
        #[serde(rename = "type")]
        kind: &'static str,
        capabilities: Capabilities,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Addresses {
    #[serde(rename = "type")]
    kind: &'static str,
    data_dir: &'static str,
    routes: Vec<Route>,
    ranges: Vec<[Range; 1]>,
}

#[derive(Serialize)]
struct Route {
    dst: &'static str,
}

#[derive(Serialize)]
struct Range {
    subnet: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    port_mappings: bool,
}

impl PodNetwork<'_> {
    /// The configuration, in JSON.
    pub fn render(&self) -> String {
        let default = |subnet: &IpNet| if subnet.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let mut plugins = Vec::new();
        if self.ipv6_plugin && self.subnets.iter().any(|subnet| subnet.addr().is_ipv6()) {
            // First, before the pod has an interface: `ptp` would wait 2 s until the kernel trusts its addresses.
            plugins.push(Plugin::Simple { kind: IPV6_PLUGIN });
        }
        plugins.push(Plugin::PointToPoint {
            kind: "ptp",
            ip_masq: false,
            mtu: self.mtu,
            ipam: Addresses {
                kind: "host-local",
                // On a tmpfs: after a restart of the node, no address is held by a pod that no longer exists.
                data_dir: "/run/cni-ipam-state",
                routes: self.subnets.iter().map(|subnet| Route { dst: default(subnet) }).collect(),
                // A range set for each family: a pod gets an address of each, and its first one is of the primary family.
                ranges: self.subnets.iter().map(|subnet| [Range { subnet: subnet.to_string() }]).collect(),
            },
        });
        plugins.push(Plugin::PortMap { kind: "portmap", capabilities: Capabilities { port_mappings: true } });
        if self.policy_plugin {
            // Last, when the pod's network is complete: the pod starts when its policies are in force.
            plugins.push(Plugin::Simple { kind: POLICY_PLUGIN });
        }
        let configuration = Configuration { cni_version: "0.4.0", name: "coracle", plugins };
        // Texts, numbers and lists can always be written.
        let text = serde_json::to_string_pretty(&configuration).unwrap_or_default();
        format!("{text}\n")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rendered(subnets: &[&str]) -> Value {
        let subnets: Vec<IpNet> = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
        let network = PodNetwork { subnets: &subnets, mtu: 1450, policy_plugin: true, ipv6_plugin: true };
        serde_json::from_str(&network.render()).unwrap()
    }

    #[test]
    fn a_dual_stack_node_has_a_range_and_a_default_route_of_each_family() {
        let value = rendered(&["10.244.1.0/24", "fd00:0:0:1::/64"]);
        assert_eq!(value["plugins"][0], json!({"type": "coracle-ipv6"}));
        let ptp = &value["plugins"][1];
        assert_eq!(ptp["mtu"], 1450);
        assert_eq!(ptp["ipam"]["ranges"], json!([[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]));
        assert_eq!(ptp["ipam"]["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
        assert_eq!(value["plugins"][2], json!({"type": "portmap", "capabilities": {"portMappings": true}}));
        assert_eq!(value["plugins"][3]["type"], "coracle-policy");
    }

    #[test]
    fn an_ipv6_node_has_no_ipv4_route() {
        assert_eq!(rendered(&["fd00:0:0:1::/64"])["plugins"][1]["ipam"]["routes"], json!([{"dst": "::/0"}]));
    }

    #[test]
    fn plugins_that_the_node_image_lacks_are_left_out() {
        let subnets = ["fd00:0:0:1::/64".parse().unwrap()];
        let network = PodNetwork { subnets: &subnets, mtu: 1500, policy_plugin: false, ipv6_plugin: false };
        let value: Value = serde_json::from_str(&network.render()).unwrap();
        let kinds: Vec<&str> =
            value["plugins"].as_array().unwrap().iter().filter_map(|one| one["type"].as_str()).collect();
        assert_eq!(kinds, ["ptp", "portmap"]);
    }
}
