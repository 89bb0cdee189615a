//! The load balancer in front of several control planes. Pure.

use std::fmt::Write as _;

use crate::engine::spec::ContainerSpec;
use crate::plan::facts::{Facts, NodeImage};
use crate::plan::files::{FileTree, NodePlan};
use crate::plan::labels::ContainerRole;
use crate::plan::layout::{API_PORT, BalancerLayout, Layout, api_endpoint};
use crate::plan::node::container::{api_port, container_labels, network_name, sysctls};
use crate::plan::node::lifetime::{BALANCER_PROGRAM, balancer_files};

const HAPROXY: &str = "/usr/sbin/haproxy";
/// HAProxy's configuration file in the load balancer.
pub const CONFIG: &str = "/etc/haproxy/haproxy.cfg";

/// The load balancer's container and its file: HAProxy from the node image.
pub(crate) fn plan(layout: &Layout, balancer: &BalancerLayout, image: &NodeImage, facts: &Facts) -> NodePlan {
    let program = ["/bin/bash", BALANCER_PROGRAM, HAPROXY].map(str::to_owned);
    let spec = ContainerSpec {
        entrypoint: Some(if facts.expires.is_some() { program.to_vec() } else { vec![HAPROXY.to_owned()] }),
        command: Some(vec!["-W".to_owned(), "-db".to_owned(), "-f".to_owned(), CONFIG.to_owned()]),
        // The image's signal is systemd's, which HAProxy ignores.
        stop_signal: Some("SIGTERM"),
        image_name: Some(image.reference.clone()),
        labels: container_labels(layout, facts, ContainerRole::LoadBalancer, &balancer.addresses, image),
        joins: layout.cluster.kind_network.iter().cloned().collect(),
        network: Some(network_name(layout.cluster.name.as_str())),
        addresses: balancer.addresses.clone(),
        sysctls: sysctls(layout),
        limits: facts.limits.iter().map(|(name, both)| (name.clone(), (*both).into())).collect(),
        ports: vec![api_port(layout)],
        restart: true,
        ends: facts.expires.is_some(),
        private_cgroup_namespace: true,
        ..ContainerSpec::new(&balancer.name, &image.id)
    };
    let mut files = FileTree::default();
    files.text(CONFIG, configuration(layout));
    balancer_files(&mut files, facts);
    NodePlan { spec, files }
}

/// HAProxy's configuration: it forwards TCP to every control plane whose API reports that it is ready.
fn configuration(layout: &Layout) -> String {
    // Host ports lead to the container's IPv4 address, even if nodes use its IPv6 address.
    let bind = if layout.has_ipv6() { format!("bind :::{API_PORT} v4v6") } else { format!("bind :{API_PORT}") };
    // A control plane on the same machine accepts a connection within a millisecond, or it is gone: the next one is tried at
    // once, before the client waits for seconds.
    let mut text = format!(
        "global\n  maxconn 4096\n  log stdout format raw local0 notice\n\n\
         defaults\n  mode tcp\n  log global\n  option redispatch 1\n  retries 3\n  timeout connect 300ms\n  timeout client 24h\n  timeout server 24h\n\n\
         frontend api\n  {bind}\n  default_backend control-planes\n\n\
         backend control-planes\n  balance roundrobin\n  default-server on-marked-down shutdown-sessions\n"
    );
    let servers: Vec<String> =
        layout.control_planes().map(|plane| format!("{} {}", plane.name, api_endpoint(plane.address))).collect();
    for (server, plane) in servers.iter().zip(layout.control_planes()) {
        let _ = writeln!(text, "  server {server} track checks/{}", plane.name);
    }
    // One that is frozen accepts connections, and then says nothing: it is out after two checks in a row that got no TLS
    // connection, 1.9 s after the fault at most. Shorter ones take one for dead that only waits for a processor. What it then
    // says of itself may take longer, as while etcd elects a leader.
    text.push_str(
        "\nbackend checks\n  option httpchk GET /readyz\n  http-check expect status 200\n  timeout connect 600ms\n  \
         timeout check 2s\n  default-server check check-ssl verify none inter 600ms fastinter 100ms fall 2 rise 1\n",
    );
    for server in servers {
        let _ = writeln!(text, "  server {server}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::layout::tests::layout;

    #[test]
    fn a_connection_is_tried_at_once_at_the_next_control_plane() {
        let text = configuration(&layout(3, 0));
        // Without the number, HAProxy stays with a dead server until the last attempt.
        assert!(text.contains("option redispatch 1\n") && text.contains("timeout connect 300ms\n"), "{text}");
    }

    #[test]
    fn every_control_plane_is_checked_and_follows_its_check() {
        let layout = layout(3, 0);
        let text = configuration(&layout);
        let (ways, checks) = text.split_once("\nbackend checks\n").unwrap();
        for plane in layout.control_planes() {
            let server = format!("  server {} {}", plane.name, api_endpoint(plane.address));
            assert!(ways.contains(&format!("{server} track checks/{}\n", plane.name)), "{text}");
            assert!(checks.contains(&format!("{server}\n")), "{text}");
        }
    }
}
