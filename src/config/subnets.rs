//! Address families, and the one or two subnets that pods, services and nodes have.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::reader::{Field, Fields, Reader};
use super::value::{Value, quoted};
use super::{IpFamily, Networking, syntax};

const FAMILIES: &[(&str, IpFamily)] = &[("ipv4", IpFamily::Ipv4), ("ipv6", IpFamily::Ipv6), ("dual", IpFamily::Dual)];

/// Default subnets of pods, IPv4 first.
const PODS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/56"];
/// Default subnets of services, IPv4 first.
const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];

/// Subnets of different families, the primary one first; separated by a comma when written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subnets(Vec<IpNet>);

impl Subnets {
    /// The subnets, the primary one first.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.0.iter().copied()
    }

    /// The subnet of a family.
    pub fn of(&self, v4: bool) -> Option<IpNet> {
        self.iter().find(|subnet| is_v4(subnet) == v4)
    }

    /// Whether there is no subnet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<IpNet>> for Subnets {
    fn from(subnets: Vec<IpNet>) -> Self {
        Self(subnets)
    }
}

impl fmt::Display for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl Serialize for Subnets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn is_v4(subnet: &IpNet) -> bool {
    matches!(subnet, IpNet::V4(_))
}

/// The name of a family in messages.
pub(super) fn family_name(v4: bool) -> &'static str {
    if v4 { "IPv4" } else { "IPv6" }
}

impl IpFamily {
    /// Whether it includes a family.
    pub fn has(self, v4: bool) -> bool {
        match self {
            Self::Ipv4 => v4,
            Self::Ipv6 => !v4,
            Self::Dual => true,
        }
    }

    /// The word in configuration files.
    pub(super) fn as_str(self) -> &'static str {
        FAMILIES.iter().find(|(_, family)| *family == self).map_or("", |(word, _)| word)
    }
}

/// The default subnets for a family, in the order of `like`, so that setting one of two fields sets the order of both.
fn defaults(texts: [&str; 2], family: IpFamily, like: &Subnets) -> Subnets {
    let parsed = texts.iter().filter_map(|text| text.parse().ok());
    let mut subnets: Vec<IpNet> = parsed.filter(|subnet| family.has(is_v4(subnet))).collect();
    if like.0.first().is_some_and(|first| !is_v4(first)) {
        subnets.sort_by_key(is_v4);
    }
    Subnets(subnets)
}

impl Networking {
    /// Sets the subnets of pods and services that the file does not set.
    pub(super) fn with_default_subnets(mut self) -> Self {
        if self.pod_subnet.is_empty() {
            self.pod_subnet = defaults(PODS, self.ip_family, &self.service_subnet);
        }
        if self.service_subnet.is_empty() {
            self.service_subnet = defaults(SERVICES, self.ip_family, &self.pod_subnet);
        }
        self
    }

    /// The host's loopback address on which ports of nodes are published: IPv6 if nodes can be reached only with it.
    pub(super) fn loopback(&self) -> IpAddr {
        if self.ip_family.has(true) { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) }
    }

    /// The families of the cluster's addresses, as whether each is IPv4; services get the first one by default.
    pub fn families(&self) -> impl Iterator<Item = bool> {
        self.pod_subnet.iter().map(|subnet| is_v4(&subnet))
    }
}

impl Reader<'_> {
    /// Reads the family and all subnets; what is wrong keeps its default.
    pub(super) fn subnets(&mut self, fields: &Fields<'_>, networking: &mut Networking) {
        if let Some(family) = fields.get("ipFamily").and_then(|value| self.choice(value, FAMILIES)) {
            networking.ip_family = family;
        }
        for (name, subnets, exact) in [
            ("podSubnet", &mut networking.pod_subnet, true),
            ("serviceSubnet", &mut networking.service_subnet, true),
            ("nodeSubnet", &mut networking.node_subnet, false),
        ] {
            *subnets = Subnets::default();
            let Some(value) = fields.get(name) else { continue };
            if let Some(found) = self.subnet_list(value)
                && self.fits(value, &found, networking.ip_family, exact)
            {
                *subnets = found;
            }
        }
        *networking = std::mem::take(networking).with_default_subnets();
        if networking.service_subnet.iter().map(|subnet| is_v4(&subnet)).ne(networking.families()) {
            let first = networking.families().next().map_or("", family_name);
            let message = format!("`podSubnet` begins with {first}; write `serviceSubnet` in the same order");
            self.problem_at("networking.serviceSubnet", message);
        }
    }

    /// One or two subnets, as a list or separated by a comma.
    fn subnet_list(&mut self, field: &Field<'_>) -> Option<Subnets> {
        let mut subnets = Vec::new();
        if let Value::List(_) = field.node.value {
            for item in self.items(field)? {
                subnets.push(self.parsed(&item, syntax::subnet));
            }
        } else {
            for part in self.string(field)?.split(',') {
                let subnet = syntax::subnet(part.trim());
                subnets.push(subnet.map_err(|message| self.problem(field.node.mark, message)).ok());
            }
        }
        subnets.into_iter().collect::<Option<Vec<IpNet>>>().map(Subnets)
    }

    /// Whether there is one subnet of each family of the cluster (`exact`), or at most one of each.
    fn fits(&mut self, field: &Field<'_>, subnets: &Subnets, family: IpFamily, exact: bool) -> bool {
        let (name, word) = (&field.name, family.as_str());
        let count = |v4: bool| subnets.iter().filter(|subnet| is_v4(subnet) == v4).count();
        let excess = |v4: bool| {
            let of = family_name(v4);
            match count(v4) {
                0 => None,
                // The engine's networks always have IPv4.
                _ if !family.has(v4) && (exact || !v4) => {
                    let instead = if family == IpFamily::Ipv4 { "; set it to `ipv6` or `dual`" } else { "" };
                    Some(format!("{name} has an {of} subnet, but `ipFamily` is `{word}`{instead}"))
                }
                1 => None,
                _ => Some(format!("{name} has more than one {of} subnet: {}", quoted(&subnets.to_string()))),
            }
        };
        let missing = |v4: bool| {
            let is_missing = exact && family.has(v4) && count(v4) == 0;
            is_missing.then(|| format!("{name} has no {} subnet, but `ipFamily` is `{word}`", family_name(v4)))
        };
        let both = [true, false];
        let message = both.into_iter().find_map(excess).or_else(|| both.into_iter().find_map(missing));
        let fits = message.is_none();
        if let Some(message) = message {
            self.problem(field.node.mark, message);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{ClusterConfig, Overrides, load};

    fn read(networking: &str) -> Result<ClusterConfig, Vec<String>> {
        let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnetworking: {networking}\n");
        load(&text, "c.yaml", &Overrides::default()).map_err(|error| {
            error.problems().iter().map(|problem| format!("{} {}", problem.place, problem.message)).collect()
        })
    }

    fn subnets(networking: &str) -> (String, String, String) {
        let networking = read(networking).unwrap().networking;
        let text = |subnets: &super::Subnets| subnets.to_string();
        (text(&networking.pod_subnet), text(&networking.service_subnet), text(&networking.node_subnet))
    }

    #[test]
    fn each_family_has_its_defaults() {
        let none = String::new();
        let v4 = ("10.244.0.0/16".to_owned(), "10.96.0.0/16".to_owned(), none.clone());
        let v6 = ("fd00:10:244::/56".to_owned(), "fd00:10:96::/112".to_owned(), none.clone());
        assert_eq!(subnets("{}"), v4);
        assert_eq!(subnets("{ipFamily: ipv4}"), v4);
        assert_eq!(subnets("{ipFamily: ipv6}"), v6);
        assert_eq!(subnets("{ipFamily: dual}"), (format!("{},{}", v4.0, v6.0), format!("{},{}", v4.1, v6.1), none));
    }

    #[test]
    fn two_subnets_are_a_list_or_separated_by_a_comma() {
        let text = subnets("{ipFamily: dual, podSubnet: '10.1.0.0/16, fd01::/48', nodeSubnet: fd02::/64}");
        let list = subnets("{ipFamily: dual, podSubnet: [10.1.0.0/16, 'fd01::/48'], nodeSubnet: ['fd02::/64']}");
        assert_eq!(text, list);
        assert_eq!((text.0.as_str(), text.2.as_str()), ("10.1.0.0/16,fd01::/48", "fd02::/64"));
    }

    #[test]
    fn the_family_that_is_given_first_is_the_primary_one() {
        let (_, services, _) = subnets("{ipFamily: dual, podSubnet: 'fd01::/48,10.1.0.0/16'}");
        assert_eq!(services, "fd00:10:96::/112,10.96.0.0/16");
        let (pods, ..) = subnets("{ipFamily: dual, serviceSubnet: 'fd01::/112,10.1.0.0/16'}");
        assert_eq!(pods, "fd00:10:244::/56,10.244.0.0/16");
        assert_eq!(
            read("{ipFamily: dual, podSubnet: 'fd01::/48,10.1.0.0/16', serviceSubnet: '10.2.0.0/16,fd02::/112'}"),
            Err(vec!["c.yaml:3:81 `podSubnet` begins with IPv6; write `serviceSubnet` in the same order".to_owned()])
        );
    }

    #[test]
    fn subnets_must_be_of_the_clusters_family() {
        let problems = |text: &str| read(text).unwrap_err();
        assert_eq!(
            problems("{podSubnet: 'fd01::/48', serviceSubnet: 'fd02::/112', nodeSubnet: 'fd03::/64'}"),
            [
                "c.yaml:3:25 `podSubnet` has an IPv6 subnet, but `ipFamily` is `ipv4`; set it to `ipv6` or `dual`",
                "c.yaml:3:53 `serviceSubnet` has an IPv6 subnet, but `ipFamily` is `ipv4`; set it to `ipv6` or `dual`",
                "c.yaml:3:79 `nodeSubnet` has an IPv6 subnet, but `ipFamily` is `ipv4`; set it to `ipv6` or `dual`",
            ]
        );
        assert_eq!(
            problems("{ipFamily: dual, podSubnet: 10.1.0.0/16, serviceSubnet: '10.2.0.0/16,10.3.0.0/16'}"),
            [
                "c.yaml:3:41 `podSubnet` has no IPv6 subnet, but `ipFamily` is `dual`",
                "c.yaml:3:69 `serviceSubnet` has more than one IPv4 subnet: `10.2.0.0/16,10.3.0.0/16`",
            ]
        );
        assert_eq!(problems("{ipFamily: ipv6, podSubnet: 10.1.0.0/16}").len(), 1);
        assert!(read("{ipFamily: ipv6, nodeSubnet: 172.30.0.0/24}").is_ok(), "the engine's networks always have IPv4");
    }

    #[test]
    fn ipv6_subnets_have_masks_that_kubernetes_accepts() {
        let problems = |text: &str| read(text).unwrap_err();
        assert_eq!(
            problems("{ipFamily: ipv6, podSubnet: 'fd01::/40', serviceSubnet: 'fd02::/64', nodeSubnet: 'fd03::/120'}"),
            [
                "c.yaml:3:41 the mask of fd01::/40 must be between /48 and /64",
                "c.yaml:3:69 the mask of fd02::/64 must be between /108 and /120",
                "c.yaml:3:94 the mask of fd03::/120 must be between /64 and /112",
            ]
        );
        for subnet in ["::/64", "fe80::/64", "ff00::/64", "fd00::1/64"] {
            assert_eq!(problems(&format!("{{ipFamily: ipv6, podSubnet: '{subnet}'}}")).len(), 1, "{subnet}");
        }
        assert_eq!(
            problems("{ipFamily: ipv6, podSubnet: 'fd01::/64', serviceSubnet: 'fd01::/112'}"),
            ["c.yaml:3:69 `serviceSubnet` fd01::/112 and `podSubnet` fd01::/64 overlap"]
        );
    }

    #[test]
    fn what_is_written_out_reads_back_the_same() {
        let cluster =
            read("{ipFamily: dual, nodeSubnet: 'fd03::/64,172.30.0.0/24', podSubnet: 'fd01::/48,10.1.0.0/16'}");
        let cluster = cluster.unwrap();
        let text = cluster.to_text().unwrap();
        assert_eq!(load(&text, "c.yaml", &Overrides::default()).unwrap(), cluster);
    }

    #[test]
    fn ports_of_an_ipv6_cluster_are_published_where_its_nodes_can_be_reached() {
        let ports = |networking: &str, more: &str| {
            let text = format!(
                "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnetworking: {networking}\nnodes: \
                 [{{role: control-plane, extraPortMappings: [{{containerPort: 30080{more}}}]}}]\n"
            );
            load(&text, "c.yaml", &Overrides::default()).unwrap()
        };
        let listen = |cluster: &ClusterConfig| cluster.nodes[0].extra_port_mappings[0].listen_address.to_string();
        assert_eq!(listen(&ports("{}", "")), "127.0.0.1");
        assert_eq!(listen(&ports("{ipFamily: dual}", "")), "127.0.0.1");
        assert_eq!(listen(&ports("{ipFamily: ipv6}", "")), "::1");
        let cut_off = ports("{ipFamily: ipv6}", ", listenAddress: 127.0.0.1");
        assert!(crate::config::warnings(&cut_off)[0].contains("only on an IPv6 `listenAddress`"));
        assert!(crate::config::warnings(&ports("{ipFamily: ipv6}", "")).is_empty());
    }
}
