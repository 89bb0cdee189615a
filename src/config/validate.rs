//! Checks across fields, and warnings about what is allowed but unusual.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use ipnet::IpNet;

use super::reader::Reader;
use super::{ClusterConfig, ExtraMount, FlagValue, IpFamily, Networking, Protocol, Role};

/// More control planes make etcd neither safer nor faster.
pub const MAX_CONTROL_PLANES: usize = 9;
/// Names of nodes have room for two digits: `NAME-worker99`.
pub const MAX_WORKERS: usize = 99;

/// Port of the API server in a control plane.
const API_SERVER_PORT: u16 = 6443;
/// Longest mask of an IPv4 node network.
const MAX_NODE_NETWORK_MASK: u8 = 26;
/// Addresses in the nodes' quarter of their network that nodes cannot have: the network's, the gateway's and the load balancer's.
const TAKEN_ADDRESSES: u64 = 3;

/// Reports every conflict between fields that are correct by themselves.
///
/// `places` has the index in the file of each node; `complete` is whether all nodes could be read.
pub(super) fn run(reader: &mut Reader<'_>, cluster: &ClusterConfig, places: &[Option<usize>], complete: bool) {
    if complete {
        counts(reader, cluster);
    }
    subnets(reader, &cluster.networking, cluster.nodes.len());
    ports(reader, cluster, places);
    files(reader, cluster, places);
}

/// Checks that every control plane has the extra mounts with the files that flags of its components name.
fn files(reader: &mut Reader<'_>, cluster: &ClusterConfig, places: &[Option<usize>]) {
    let control_planes = || places.iter().zip(&cluster.nodes).filter(|(_, node)| node.role == Role::ControlPlane);
    let components = [&cluster.api_server, &cluster.controller_manager, &cluster.scheduler, &cluster.etcd];
    let values = components.into_iter().flat_map(|flags| flags.values()).flat_map(FlagValue::parts);
    for path in values.filter(|part| part.starts_with('/')).map(Path::new) {
        let is_in = |mount: &ExtraMount| path.starts_with(&mount.container_path);
        let Some(mount) = control_planes().flat_map(|(_, node)| &node.extra_mounts).find(|mount| is_in(mount)) else {
            continue;
        };
        for (place, _) in control_planes().filter(|(_, node)| !node.extra_mounts.iter().any(is_in)) {
            let what = format!("needs a mount at `{}` as well, for `{}`", mount.container_path, path.display());
            match place {
                Some(index) => reader.problem_at(&format!("nodes[{index}]"), format!("this control plane {what}")),
                None => reader.flag_problem("--control-planes", format!("each added control plane {what}")),
            }
        }
    }
}

fn counts(reader: &mut Reader<'_>, cluster: &ClusterConfig) {
    let control_planes = cluster.control_planes();
    let workers = cluster.nodes.len() - control_planes;
    if control_planes == 0 {
        reader.problem_at("nodes#key", "no node has the role `control-plane`");
    }
    if control_planes > MAX_CONTROL_PLANES {
        reader.problem_at(
            "nodes#key",
            format!("{control_planes} control planes are too many; the maximum is {MAX_CONTROL_PLANES}"),
        );
    }
    if workers > MAX_WORKERS {
        reader.problem_at("nodes#key", format!("{workers} workers are too many; the maximum is {MAX_WORKERS}"));
    }
}

fn subnets(reader: &mut Reader<'_>, networking: &Networking, nodes: usize) {
    let fields = [
        ("podSubnet", &networking.pod_subnet),
        ("serviceSubnet", &networking.service_subnet),
        ("nodeSubnet", &networking.node_subnet),
    ];
    let named: Vec<(&str, IpNet)> =
        fields.iter().flat_map(|(name, subnets)| subnets.iter().map(|subnet| (*name, subnet))).collect();
    for (index, (name, subnet)) in named.iter().enumerate() {
        for (other_name, other) in &named[..index] {
            if subnet.contains(other) || other.contains(subnet) {
                let message = format!("`{name}` {subnet} and `{other_name}` {other} overlap");
                // The problem is reported at the one of the two that the file sets.
                let place = if reader.has(&format!("networking.{name}")) { name } else { other_name };
                reader.problem_at(&format!("networking.{place}"), message);
            }
        }
    }
    for (name, subnet) in named {
        let message = match name {
            "podSubnet" => pod_subnet(subnet, nodes),
            "serviceSubnet" => masks(subnet, 12..=28, 108..=120),
            _ => node_subnet(subnet, nodes),
        };
        if let Some(message) = message {
            reader.problem_at(&format!("networking.{name}"), message);
        }
    }
}

/// What is wrong with a mask, if anything.
fn masks(subnet: IpNet, v4: RangeInclusive<u8>, v6: RangeInclusive<u8>) -> Option<String> {
    let range = if subnet.addr().is_ipv4() { v4 } else { v6 };
    let message = || format!("the mask of {subnet} must be between /{} and /{}", range.start(), range.end());
    (!range.contains(&subnet.prefix_len())).then(message)
}

/// What is wrong with a subnet of pods, of which each node gets a part, if anything.
fn pod_subnet(subnet: IpNet, nodes: usize) -> Option<String> {
    let mask: u8 = if subnet.addr().is_ipv4() { 24 } else { 64 };
    let bits = mask.checked_sub(subnet.prefix_len()).unwrap_or(u8::MAX);
    let room = 1_u64.checked_shl(bits.into()).unwrap_or(0);
    if room < nodes as u64 {
        return Some(format!("{subnet} has room for {room} nodes with a /{mask} each, but the cluster has {nodes}"));
    }
    // kube-controller-manager divides a subnet into 65,536 parts at most.
    masks(subnet, 8..=24, 48..=64)
}

/// What is wrong with a subnet of the nodes' network, if anything.
fn node_subnet(subnet: IpNet, nodes: usize) -> Option<String> {
    if !subnet.addr().is_ipv4() {
        return masks(subnet, 0..=0, 64..=112);
    }
    let mask = (8..=MAX_NODE_NETWORK_MASK).rev().find(|mask| (1_u64 << (30 - mask)) >= nodes as u64 + TAKEN_ADDRESSES);
    let mask = mask.unwrap_or(8);
    let message = || format!("{subnet} is too small for {nodes} nodes; it must be /{mask} or larger");
    (subnet.prefix_len() > mask).then(message)
}

/// A host port in use, and what uses it.
struct Taken {
    address: IpAddr,
    port: u16,
    protocol: Protocol,
    by: String,
}

fn ports(reader: &mut Reader<'_>, cluster: &ClusterConfig, places: &[Option<usize>]) {
    let networking = &cluster.networking;
    let mut taken = vec![Taken {
        address: networking.api_server_address,
        port: networking.api_server_port,
        protocol: Protocol::Tcp,
        by: "the API server".to_owned(),
    }];
    for (place, node) in places.iter().zip(&cluster.nodes) {
        // Only nodes of the file have port mappings.
        let Some(node_index) = place else { continue };
        for (index, mapping) in node.extra_port_mappings.iter().enumerate() {
            let path = format!("nodes[{node_index}].extraPortMappings[{index}]");
            let reserved = node.role == Role::ControlPlane && mapping.protocol == Protocol::Tcp;
            if reserved && mapping.container_port == API_SERVER_PORT {
                let message = "port 6443 of a control plane belongs to the API server; use `networking.apiServerPort`";
                reader.problem_at(&format!("{path}.containerPort"), message);
            }
            let clash = taken.iter().find(|other| {
                mapping.host_port != 0
                    && other.port == mapping.host_port
                    && other.protocol == mapping.protocol
                    && conflict(other.address, mapping.listen_address)
            });
            if let Some(other) = clash {
                let message = format!("host port {} is already used by {}", mapping.host_port, other.by);
                reader.problem_at(&format!("{path}.hostPort"), message);
            }
            taken.push(Taken {
                address: mapping.listen_address,
                port: mapping.host_port,
                protocol: mapping.protocol,
                by: format!("`{path}`"),
            });
        }
    }
}

/// Whether two sockets with these addresses cannot share a port.
fn conflict(first: IpAddr, second: IpAddr) -> bool {
    first == second || (first.is_ipv4() == second.is_ipv4() && (first.is_unspecified() || second.is_unspecified()))
}

/// Warnings about what is allowed but may not be intended, one line each.
pub fn warnings(cluster: &ClusterConfig) -> Vec<String> {
    let mut warnings = cluster.notes.clone();
    let control_planes = cluster.control_planes();
    if control_planes > 0 && control_planes.is_multiple_of(2) {
        let survives = (control_planes - 1) / 2;
        let fewer = control_planes - 1;
        warnings.push(format!(
            "{control_planes} control planes survive the loss of {survives}, no more than {fewer} would; use an odd number"
        ));
    }
    if !cluster.networking.api_server_address.is_loopback() {
        warnings.push(format!(
            "the API server listens on {}: other machines can reach it",
            cluster.networking.api_server_address
        ));
    }
    let mut mappings = cluster.nodes.iter().flat_map(|node| &node.extra_port_mappings);
    if let (IpFamily::Ipv6, Some(mapping)) =
        (cluster.networking.ip_family, mappings.find(|mapping| mapping.listen_address.is_ipv4()))
    {
        warnings.push(format!(
            "port {} of a node is published on {}: NodePorts of an IPv6 cluster answer only on an IPv6 `listenAddress`",
            mapping.container_port, mapping.listen_address
        ));
    }
    for registry in cluster.registries.iter().filter(|registry| registry.login) {
        // Another host never gets them.
        let own = format!("http://{}", registry.host);
        let is_open = |mirror: &&String| **mirror == own || mirror.starts_with(&format!("{own}/"));
        if let Some(mirror) = registry.mirrors.iter().find(is_open) {
            warnings.push(format!("the credentials for `{}` go to {mirror} unencrypted", registry.host));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, load};

    #[test]
    fn a_file_in_a_flag_is_on_every_control_plane() {
        let mount = "extraMounts: [{hostPath: /h, containerPath: /files}]";
        let text = |more: &str| {
            format!(
                "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes:\n- role: control-plane\n  {mount}\n{more}\
                 apiServer: {{audit-policy-file: /files/audit.yaml}}\n"
            )
        };
        let flags = |control_planes| Overrides { control_planes, ..Overrides::default() };
        assert!(load(&text("- role: worker\n"), "c.yaml", &flags(None)).is_ok());
        let error = load(&text("- role: control-plane\n"), "c.yaml", &flags(None)).unwrap_err();
        let problem = &error.problems()[0];
        assert_eq!(problem.place, "c.yaml:6:3");
        assert!(problem.message.contains("needs a mount at `/files`"), "{}", problem.message);
        let error = load(&text(""), "c.yaml", &flags(Some(3))).unwrap_err();
        assert_eq!(error.problems()[0].place, "--control-planes");
    }
}
