//! The files of a node, laid out as by kubeadm and complete before the first boot. Pure.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use coracle_shared::paths::HEARTBEAT_KEY;

use crate::config::{KubeProxyMode, Role};
use crate::error::Result;
use crate::plan::access::Access;
use crate::plan::facts::{Facts, NodeImage};
use crate::plan::files::FileTree;
use crate::plan::layout::{Layout, NodeLayout, api_endpoint, reachable_address};
use crate::plan::patches;
use crate::plan::pki::{DIRECTORY as PKI, Pki, Usage};
use crate::yaml;

pub mod container;
pub mod containerd;
pub mod credentials;
mod entrypoint;
mod first_packets;
mod flag_files;
pub mod kubelet;
pub(crate) mod lifetime;
mod mounted;
pub mod proxy;
mod registration;
pub mod registries;
mod resources;
pub mod static_pods;

/// The effective configuration of the cluster, kept in each control plane.
pub const CLUSTER_CONFIG: &str = "/etc/coracle/cluster.yaml";
/// The node's own part of the configuration, kept in each node, so that it comes and goes with the node.
pub const NODE_CONFIG: &str = "/etc/coracle/node.yaml";
/// The file that coracle's entrypoint reads.
const NODE_ENVIRONMENT: &str = "/etc/coracle/node.env";

/// Passes the proxy variables to units, which do not inherit the environment of the container.
const PROXY_DROP_IN: &str = "/etc/systemd/system/service.d/10-proxy.conf";

/// The rules by which the first pods reach the API.
const API_SERVICE_RULES: &str = "/etc/coracle/api-service.nft";

/// All files of a node.
pub(crate) fn files(
    layout: &Layout,
    node: &NodeLayout,
    image: &NodeImage,
    facts: &Facts,
    pki: &Pki,
    access: &Access,
) -> Result<FileTree> {
    let mut files = FileTree::default();
    let cgroup = facts.engine.cgroup;
    if image.shared_store {
        files.text(NODE_ENVIRONMENT, node_environment(layout, node));
    }
    if let Some(script) = entrypoint::script(node, image.shared_store) {
        files.text(entrypoint::PATH, script);
    }
    if !facts.proxy.is_empty() {
        files.text(PROXY_DROP_IN, proxy::drop_in());
    }
    resources::files(&mut files, &node.config.settings);
    let configuration = containerd::containerd(cgroup, image, &layout.cluster.containerd)?;
    files.text(containerd::CONTAINERD_CONFIG, configuration);
    registries::node_files(&mut files, &layout.cluster.registries, &facts.authorities, &facts.login_hosts);
    credentials::node_files(&mut files, &registries::logins(&layout.cluster.registries))?;
    if let Some(registry) = &facts.registry {
        registries::local_files(&mut files, registry);
    }
    if !layout.cluster.networking.disable_default_cni {
        files.text(containerd::CNI_CONFIG, containerd::cni(node, image, facts.mtu));
    }
    files.private("/var/lib/kubelet/config.yaml", kubelet_configuration(layout, node, facts)?);
    for service in ["containerd", "kubelet"] {
        files.text(format!("/etc/systemd/system/{service}.service.d/40-memory.conf"), SMALL_HEAP);
    }
    if facts.engine.userns_remap {
        files.text("/etc/systemd/system/kubelet.service.d/15-users.conf", OWN_USERS);
    }
    files.text(credentials::FLAGS, kubelet::flags(layout, node));
    if layout.cluster.networking.kube_proxy_mode != KubeProxyMode::None {
        files.text(API_SERVICE_RULES, first_packets::rules(layout));
        files.text(
            "/etc/systemd/system/kubelet.service.d/30-api-service.conf",
            format!("[Service]\nExecStartPre=-/usr/sbin/nft --file {API_SERVICE_RULES}\n"),
        );
    }
    kubelet_access(&mut files, layout, node, pki)?;
    lifetime::files(&mut files, layout, node, facts);
    let authority = &pki.kubernetes.pair;
    files.secret(HEARTBEAT_KEY, pki.heartbeat_key(), "key of the nodes' heartbeats", &authority.origin);
    registration::files(&mut files, layout, node)?;
    files.text(NODE_CONFIG, yaml::to_string(&node.config)?);
    files.certificate(format!("{PKI}/ca.crt"), &authority.certificate, &authority.subject, &authority.origin);
    match node.config.role {
        Role::ControlPlane => {
            control_plane(&mut files, layout, node, pki, access)?;
            for (path, manifest) in static_pods::manifests(layout, node, image, facts.patches_of(&node.config))? {
                files.private(path, manifest);
            }
        }
        Role::Worker => files.text(
            "/etc/systemd/system/kubelet.service.d/20-wait-for-api.conf",
            kubelet::wait_for_api(&layout.endpoint()),
        ),
    }
    mounted::check(&files, node)?;
    Ok(files)
}

/// What changes in a control plane when a cluster of one gets more of them, and a load balancer in front: the certificate of the
/// API server has more names, etcd has more patience, and the other components elect who works.
const OF_PLANES: [&str; 8] = [
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/manifests/etcd.yaml",
    "/etc/kubernetes/manifests/kube-controller-manager.yaml",
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    "/etc/kubernetes/pki/apiserver.crt",
    "/etc/kubernetes/pki/apiserver.key",
    "/etc/kubernetes/super-admin.conf",
    API_SERVICE_RULES,
];
/// What changes in a worker then: the way to the API.
const OF_WORKERS: [&str; 3] =
    ["/etc/kubernetes/kubelet.conf", "/etc/systemd/system/kubelet.service.d/20-wait-for-api.conf", API_SERVICE_RULES];

/// The files of a node that exists which change when its cluster gets a load balancer.
pub(crate) fn behind_balancer(
    layout: &Layout,
    node: &NodeLayout,
    image: &NodeImage,
    facts: &Facts,
    pki: &Pki,
    access: &Access,
) -> Result<FileTree> {
    let all = files(layout, node, image, facts, pki, access)?;
    Ok(match node.config.role {
        Role::ControlPlane => all.only(&OF_PLANES),
        Role::Worker => all.only(&OF_WORKERS),
    })
}

/// What the entrypoint reads. Pods of an IPv6 cluster need a name server with an IPv6 address.
fn node_environment(layout: &Layout, node: &NodeLayout) -> String {
    let mut lines = format!("CORACLE_NODE={}\nCORACLE_ADDRESS={}\n", node.name, node.address);
    if let Some(division) = layout.division_v6.filter(|_| layout.is_ipv6_only()) {
        let _ = writeln!(lines, "CORACLE_DNS={}", division.gateway);
    }
    lines
}

/// A drop-in for programs in Go: they collect garbage early, like the static pods of the control plane.
const SMALL_HEAP: &str = "[Service]\nEnvironment=GOGC=40\n";

/// A drop-in for nodes on an engine that maps users: there the image's files belong to a user of the map and not to root, and
/// `mount` with its set-user-ID bit, which the kubelet calls, would run as that user. Root needs none of these bits.
const OWN_USERS: &str =
    "[Service]\nExecStartPre=-/usr/bin/find /usr/bin /usr/sbin -xdev -perm /6000 -exec chmod ug-s {} +\n";

/// The configuration of a node's kubelet, patched.
fn kubelet_configuration(layout: &Layout, node: &NodeLayout, facts: &Facts) -> Result<String> {
    let mut configuration = kubelet::configuration(layout, Some(node), facts.engine.cgroup);
    patches::apply(facts.patches_of(&node.config), patches::KUBELET, &mut configuration)?;
    yaml::to_string(&configuration)
}

/// Adds the kubelet's client certificate, where rotation expects it, and its serving certificate.
fn kubelet_access(files: &mut FileTree, layout: &Layout, node: &NodeLayout, pki: &Pki) -> Result<()> {
    let user = format!("system:node:{}", node.name);
    let client = pki.issue(&pki.kubernetes, &user, Some("system:nodes"), Usage::Client, &[], &[])?;
    let first = "/var/lib/kubelet/pki/kubelet-client-first.pem";
    files.secret(first, format!("{}{}", client.certificate, client.key), &client.subject, &client.origin);
    files.link("/var/lib/kubelet/pki/kubelet-client-current.pem", first);
    let local = local_addresses(layout, node);
    let serving = pki.issue(&pki.kubernetes, &user, Some("system:nodes"), Usage::Server, &[&node.name], &local)?;
    serving.write(files, "/var/lib/kubelet/pki/kubelet");
    // The kubelet of a control plane uses the API server of its own node, so that it does not need another node to boot.
    let server = match node.config.role {
        Role::ControlPlane => api_endpoint(node.address),
        Role::Worker => layout.endpoint(),
    };
    let authority = &pki.kubernetes.pair.certificate;
    let config = kubelet::kubelet_kubeconfig(&format!("https://{server}"), authority, &node.name)?;
    // It contains no key but names the file with it, so it is its own origin.
    files.secret("/etc/kubernetes/kubelet.conf", config.clone(), format!("kubeconfig of {user}"), config);
    Ok(())
}

fn control_plane(files: &mut FileTree, layout: &Layout, node: &NodeLayout, pki: &Pki, access: &Access) -> Result<()> {
    pki.write(files);
    let (names, addresses) = api_names(layout, node);
    let serving = pki.issue(&pki.kubernetes, "kube-apiserver", None, Usage::Server, &names, &addresses)?;
    serving.write(files, &format!("{PKI}/apiserver"));
    let mut member = local_addresses(layout, node);
    if !layout.has_ipv6() {
        member.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
    for name in ["server", "peer"] {
        let issued = pki.issue(&pki.etcd, &node.name, None, Usage::Both, &["localhost", &node.name], &member)?;
        issued.write(files, &format!("{PKI}/etcd/{name}"));
    }
    let clients = [
        ("apiserver-kubelet-client", &pki.kubernetes, "kube-apiserver-kubelet-client", Some("kubeadm:cluster-admins")),
        ("front-proxy-client", &pki.front_proxy, "front-proxy-client", None),
        ("apiserver-etcd-client", &pki.etcd, "kube-apiserver-etcd-client", None),
        ("etcd/healthcheck-client", &pki.etcd, "kube-etcd-healthcheck-client", None),
    ];
    for (file, issuer, name, group) in clients {
        pki.issue(issuer, name, group, Usage::Client, &[], &[])?.write(files, &format!("{PKI}/{file}"));
    }
    component_configs(files, layout, node, pki, access)?;
    files.text(CLUSTER_CONFIG, layout.cluster.to_text()?);
    Ok(())
}

/// Adds the kubeconfigs of the administrator and of the components of the control plane.
fn component_configs(
    files: &mut FileTree,
    layout: &Layout,
    node: &NodeLayout,
    pki: &Pki,
    access: &Access,
) -> Result<()> {
    let authority = &pki.kubernetes.pair.certificate;
    let local = format!("https://{}", api_endpoint(node.address));
    let endpoint = format!("https://{}", layout.endpoint());
    let component = |user: &str| pki.issue(&pki.kubernetes, user, None, Usage::Client, &[], &[]);
    let rows = [
        ("admin.conf", "kubernetes-admin", &endpoint, access.admin.clone()),
        ("super-admin.conf", "kubernetes-super-admin", &endpoint, access.super_admin.clone()),
        (
            "controller-manager.conf",
            "system:kube-controller-manager",
            &local,
            component("system:kube-controller-manager")?,
        ),
        ("scheduler.conf", "system:kube-scheduler", &local, component("system:kube-scheduler")?),
    ];
    for (file, user, server, pair) in rows {
        let config = kubelet::kubeconfig(server, authority, user, &pair.certificate, &pair.key)?;
        let origin = format!("{server} {}", pair.origin);
        files.secret(format!("/etc/kubernetes/{file}"), config, format!("kubeconfig of {user}"), origin);
    }
    Ok(())
}

/// The names and addresses of the API server, for its certificate.
fn api_names<'a>(layout: &'a Layout, node: &'a NodeLayout) -> (Vec<&'a str>, Vec<IpAddr>) {
    let mut names = vec![
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        node.name.as_str(),
    ];
    let mut addresses = local_addresses(layout, node);
    addresses.extend(layout.service_address(1).parse::<IpAddr>());
    if let Some(balancer) = &layout.balancer {
        names.push(&balancer.name);
        addresses.extend(&balancer.addresses);
    }
    match layout.engine_host.as_deref().map(|host| (host, host.parse::<IpAddr>())) {
        Some((_, Ok(address))) => addresses.push(address),
        Some((name, Err(_))) => names.push(name),
        None => {}
    }
    let host = reachable_address(layout.cluster.networking.api_server_address);
    let mut more = vec![host];
    for text in &layout.cluster.networking.api_server_cert_sans {
        match text.parse() {
            Ok(address) => more.push(address),
            Err(_) if names.contains(&text.as_str()) => {}
            Err(_) => names.push(text),
        }
    }
    for address in more {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    (names, addresses)
}

/// All addresses of a node, with its loopback addresses.
fn local_addresses(layout: &Layout, node: &NodeLayout) -> Vec<IpAddr> {
    let mut addresses = node.addresses.clone();
    addresses.push(IpAddr::from([127, 0, 0, 1]));
    if layout.has_ipv6() {
        addresses.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
    addresses
}
