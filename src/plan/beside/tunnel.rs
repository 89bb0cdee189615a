//! The tunnel: a container whose ports on the host lead to services, for hosts that cannot reach the cluster's network.
//! Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use crate::engine::spec::{ContainerSpec, Labels, PortBinding, Privilege, Protocol};
use crate::plan::files::{FileTree, NodePlan};
use crate::plan::labels::{self, ContainerRole};
use crate::plan::node::container::network_name;

const RULES: &str = "/etc/coracle/tunnel.nft";
/// The first port in the container.
const FIRST_PORT: u16 = 20_000;

/// A port of the host that leads to a port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The service, as `NAMESPACE/NAME`.
    pub service: String,
    /// The service's port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The scheme of its URLs, such as `https`.
    pub scheme: String,
    /// The service's address in the cluster's network.
    pub address: Ipv4Addr,
    /// Port on the host.
    pub host_port: u16,
}

impl Forward {
    /// The URL at which the host reaches it.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.host_port)
    }
}

/// Name of the container.
pub fn name(cluster: &str) -> String {
    format!("{cluster}-tunnel")
}

/// The container: the shell and nft of the node image, which may change no network but its own.
pub fn plan(cluster: &str, image: &str, run: &str, forwards: &[Forward]) -> NodePlan {
    let binding = |(container_port, forward): (u16, &Forward)| PortBinding {
        host_address: IpAddr::from([127, 0, 0, 1]),
        host_port: forward.host_port,
        container_port,
        protocol: forward.protocol,
    };
    let entries: Vec<String> = forwards.iter().map(|to| entry(&to.service, to.port, to.protocol.as_str())).collect();
    let mut files = FileTree::default();
    files.text(RULES, rules(forwards));
    let spec = ContainerSpec {
        entrypoint: Some(vec!["/bin/sh".to_owned()]),
        command: Some(vec!["-c".to_owned(), format!("nft -f {RULES} && exec sleep infinity")]),
        // The first process of a container gets no other signal that it does not handle, and the image's is systemd's.
        stop_signal: Some("SIGKILL"),
        labels: Labels::from([
            (labels::CLUSTER.to_owned(), cluster.to_owned()),
            (labels::ROLE.to_owned(), ContainerRole::Tunnel.as_str().to_owned()),
            (labels::RUN.to_owned(), run.to_owned()),
            (labels::TUNNEL.to_owned(), entries.join(",")),
        ]),
        network: Some(network_name(cluster)),
        ports: (FIRST_PORT..).zip(forwards).map(binding).collect(),
        privilege: Privilege::Network,
        sysctls: BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "1".to_owned())]),
        ..ContainerSpec::new(name(cluster), image)
    };
    NodePlan { spec, files }
}

/// Rules that lead each port to its service, and replies back.
fn rules(forwards: &[Forward]) -> String {
    let mut text =
        "table ip coracle-tunnel {\n\tchain prerouting {\n\t\ttype nat hook prerouting priority -100;\n".to_owned();
    for (port, forward) in (FIRST_PORT..).zip(forwards) {
        let _ = writeln!(text, "\t\t{} dport {port} dnat to {}:{}", forward.protocol, forward.address, forward.port);
    }
    text.push_str("\t}\n\tchain postrouting {\n\t\ttype nat hook postrouting priority 100;\n\t\tct status dnat masquerade\n\t}\n}\n");
    text
}

fn entry(service: &str, port: u16, protocol: &str) -> String {
    format!("{service}/{port}/{protocol}")
}

/// The port of a tunnel's container that leads to this port of a service, if there is one.
pub fn container_port(labels: &Labels, service: &str, port: u16, protocol: &str) -> Option<u16> {
    let wanted = entry(service, port, protocol);
    let entries = labels.get(labels::TUNNEL)?.split(',');
    (FIRST_PORT..).zip(entries).find(|(_, entry)| *entry == wanted).map(|(port, _)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(service: &str, port: u16, protocol: &str) -> Forward {
        let address = Ipv4Addr::new(172, 18, 1, 1);
        let (service, protocol, scheme) = (service.to_owned(), protocol.parse().unwrap(), "http".to_owned());
        Forward { service, port, protocol, scheme, address, host_port: 8080 }
    }

    #[test]
    fn each_port_leads_to_its_service() {
        let plan = plan("dev", "image", "run", &[forward("default/a", 80, "tcp"), forward("n/b", 53, "udp")]);
        let rules = rules(&[forward("default/a", 80, "tcp"), forward("n/b", 53, "udp")]);
        assert!(rules.contains("tcp dport 20000 dnat to 172.18.1.1:80\n"), "{rules}");
        assert!(rules.contains("udp dport 20001 dnat to 172.18.1.1:53\n"), "{rules}");
        assert_eq!((plan.spec.ports[1].container_port, plan.spec.ports[1].protocol.as_str()), (20001, "udp"));
        assert_eq!(plan.spec.privilege, Privilege::Network);
        let port = |service, port, protocol| container_port(&plan.spec.labels, service, port, protocol);
        assert_eq!(port("n/b", 53, "udp"), Some(20001));
        assert_eq!(port("n/b", 53, "tcp"), None);
        assert_eq!(container_port(&Labels::new(), "n/b", 53, "udp"), None);
    }
}
