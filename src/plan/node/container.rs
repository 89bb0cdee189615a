//! The containers and the network of a cluster. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::{ExtraPortMapping, Propagation, Protocol, Role, is_cdi};
use crate::engine::spec::{self, AddressPool, ContainerSpec, Labels, Mount, NetworkSpec, PortBinding};
use crate::plan::facts::{Facts, NodeImage};
use crate::plan::labels::{self, ContainerRole};
use crate::plan::layout::{API_PORT, HOST_NAME, Layout, NodeLayout};
use crate::plan::node::{entrypoint, lifetime, proxy, resources};
use crate::plan::subnet::Division;

/// The directory of volumes in every node. All nodes mount the same directory there, so that a pod finds its volume on any node.
pub const VOLUMES: &str = "/var/local-path-provisioner";

/// The name of a cluster's network.
pub fn network_name(cluster: &str) -> String {
    format!("coracle-{cluster}")
}

/// The name of the volume that a node has for itself.
pub fn own_volume(node: &str) -> String {
    format!("{node}-var")
}

/// The network: explicit subnets, in which nodes have fixed addresses that the engine never assigns.
pub fn network(layout: &Layout, facts: &Facts) -> NetworkSpec {
    let pool = |division: &Division| AddressPool {
        subnet: division.subnet,
        gateway: division.gateway,
        dynamic_range: division.dynamic,
    };
    NetworkSpec {
        name: network_name(layout.cluster.name.as_str()),
        pools: std::iter::once(&layout.division).chain(&layout.division_v6).map(pool).collect(),
        mtu: facts.mtu,
        labels: labels::of_cluster(&layout.cluster, &facts.run, facts.expires),
    }
}

/// The labels of a container of the cluster.
pub(crate) fn container_labels(
    layout: &Layout,
    facts: &Facts,
    role: ContainerRole,
    addresses: &[IpAddr],
    image: &NodeImage,
) -> Labels {
    let mut labels = labels::of_cluster(&layout.cluster, &facts.run, facts.expires);
    labels.extend(labels::of_kind(&layout.cluster, role));
    labels.insert(labels::ROLE.to_owned(), role.as_str().to_owned());
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    labels.insert(labels::ADDRESS.to_owned(), addresses.join(","));
    labels.insert(labels::VERSION.to_owned(), image.images.kubernetes.clone());
    labels.insert(labels::IMAGE.to_owned(), image.reference.clone());
    labels.insert(labels::ENDPOINT.to_owned(), layout.host_endpoint());
    if image.known.is_some() {
        // Containers have the labels of their image; these 11 KiB would fill the screen whenever one is inspected.
        labels.insert(labels::SETTINGS.to_owned(), String::new());
    }
    labels.extend(layout.cluster.persist.clone().map(|directory| (labels::PERSIST.to_owned(), directory)));
    labels.extend(layout.cluster.idle_stop.map(|period| (labels::IDLE_STOP.to_owned(), period.to_string())));
    labels
}

/// Kernel settings of a container.
pub(crate) fn sysctls(layout: &Layout) -> BTreeMap<String, String> {
    let settings = [
        // The engine enables IPv6 only for interfaces to which it assigns an address; the loopback interface needs it too.
        ("net.ipv6.conf.all.disable_ipv6", "0"),
        // So a pod's gateway, at the node's end of the pod's link, answers at once, without duplicate address detection.
        ("net.ipv6.conf.default.accept_dad", "0"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    settings.into_iter().filter(|_| layout.has_ipv6()).collect()
}

/// A node's container.
pub(crate) fn node(layout: &Layout, node: &NodeLayout, image: &NodeImage, facts: &Facts) -> ContainerSpec {
    let control_plane = node.config.role == Role::ControlPlane;
    let settings = &node.config.settings;
    let mut ports: Vec<PortBinding> = node.config.extra_port_mappings.iter().map(port).collect();
    if control_plane && layout.balancer.is_none() {
        ports.push(api_port(layout));
    }
    ContainerSpec {
        entrypoint: entrypoint::script(node, image.shared_store).map(|_| entrypoint::command()),
        environment: [proxy::environment(layout, &facts.proxy), resources::environment(settings)].concat(),
        labels: container_labels(layout, facts, ContainerRole::Node(node.config.role), &node.addresses, image),
        network: Some(network_name(layout.cluster.name.as_str())),
        joins: layout.cluster.kind_network.iter().cloned().collect(),
        addresses: node.addresses.clone(),
        dns_search: layout.cluster.networking.dns_search.clone(),
        extra_hosts: layout
            .gateways()
            .map(|address| (HOST_NAME.to_owned(), address))
            .chain(resources::extra_hosts(settings))
            .collect(),
        sysctls: sysctls(layout).into_iter().chain(settings.sysctls.clone()).collect(),
        mounts: mounts(layout, node, facts),
        tmpfs: vec!["/run".to_owned(), "/tmp".to_owned()],
        ports,
        privilege: facts.privilege,
        restart: true,
        ends: lifetime::is_limited(layout, facts),
        limits: resources::limits(settings, &facts.limits),
        memory: settings.memory.map(|memory| memory.0),
        milli_cpus: settings.cpus.map(|cpus| cpus.0),
        host_user_namespace: facts.engine.userns_remap,
        private_cgroup_namespace: true,
        devices: resources::devices(settings, &facts.devices),
        cdi_devices: settings.devices.iter().filter(|device| is_cdi(device)).cloned().collect(),
        image_name: Some(image.reference.clone()),
        ..ContainerSpec::new(&node.name, &image.id)
    }
}

/// The host port that leads to the API server.
pub(crate) fn api_port(layout: &Layout) -> PortBinding {
    PortBinding {
        host_address: layout.cluster.networking.api_server_address,
        host_port: layout.api_port,
        container_port: API_PORT,
        protocol: spec::Protocol::Tcp,
    }
}

fn port(mapping: &ExtraPortMapping) -> PortBinding {
    PortBinding {
        host_address: mapping.listen_address,
        host_port: mapping.host_port,
        container_port: mapping.container_port,
        protocol: mapping.protocol.into(),
    }
}

impl From<Protocol> for spec::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

fn mounts(layout: &Layout, node: &NodeLayout, facts: &Facts) -> Vec<Mount> {
    let volume = |name: String, target: &str| Mount::Volume {
        name,
        target: target.to_owned(),
        labels: labels::of_cluster(&layout.cluster, &facts.run, facts.expires),
    };
    let host = |path: &str, target: &str, read_only: bool| Mount::Bind {
        source: path.to_owned(),
        target: target.to_owned(),
        read_only,
        propagation: None,
    };
    // The image's /var is small, since its images are read from the image's layers. An image of kind's layout has its
    // images in /var, and the engine copies them.
    let mut mounts = vec![volume(own_volume(&node.name), "/var")];
    // All nodes share one directory, unless the user mounts another one there.
    if node.config.extra_mounts.iter().all(|mount| mount.container_path != VOLUMES) {
        mounts.push(match &layout.cluster.persist {
            Some(directory) => host(directory, VOLUMES, false),
            None => volume(format!("{}-volumes", layout.cluster.name), VOLUMES),
        });
    }
    mounts.extend(facts.modules.then(|| host("/lib/modules", "/lib/modules", true)));
    if ["btrfs", "zfs"].contains(&facts.engine.storage_driver.as_str()) {
        mounts.push(host("/dev/mapper", "/dev/mapper", true));
    }
    mounts.extend(node.config.extra_mounts.iter().map(|mount| Mount::Bind {
        source: mount.host_path.clone(),
        target: mount.container_path.clone(),
        read_only: mount.read_only,
        propagation: match mount.propagation {
            Propagation::None => None,
            Propagation::HostToContainer => Some(spec::Propagation::Slave),
            Propagation::Bidirectional => Some(spec::Propagation::Shared),
        },
    }));
    mounts
}
