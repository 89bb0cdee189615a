//! Makes a [`ClusterConfig`] of text and flags, or the list of everything that is wrong with them.

use std::path::{Path, PathBuf};

use super::reader::{Field, Fields, Reader};
use super::tree;
use super::value::{self, Mark, Value, quoted};
use super::{
    API_VERSION, ClusterConfig, ClusterName, Durability, KIND, KubeProxyMode, Networking, Node, Role, as_kind,
    components, contents, kind, lifetime, nodes, registries, syntax, validate,
};
use crate::error::{Code, Error, Problem, Result};

const CLUSTER: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "image",
    "nodes",
    "networking",
    "featureGates",
    "kubelet",
    "kubeProxy",
    "coreDNS",
    "apiServer",
    "controllerManager",
    "scheduler",
    "etcd",
    "durability",
    "extraVolumes",
    "containerd",
    "persist",
    "registry",
    "registries",
    "images",
    "addons",
    "manifests",
    "ttl",
    "idleStop",
    "kindNetwork",
];
const NETWORKING: &[&str] = &[
    "apiServerAddress",
    "apiServerPort",
    "apiServerCertSANs",
    "ipFamily",
    "podSubnet",
    "serviceSubnet",
    "nodeSubnet",
    "dnsSearch",
    "disableDefaultCNI",
    "loadBalancer",
    "kubeProxyMode",
];
const MODES: &[(&str, KubeProxyMode)] = &[
    ("iptables", KubeProxyMode::Iptables),
    ("nftables", KubeProxyMode::Nftables),
    ("ipvs", KubeProxyMode::Ipvs),
    ("none", KubeProxyMode::None),
];

/// Fields of kind's files that coracle has elsewhere.
const CLUSTER_ELSEWHERE: &[(&str, &str)] = &[
    (
        "containerdConfigPatches",
        "use `registry: true` for a registry on this host, such as `localhost:5001`, `registries` for others, and \
         `containerd` for everything else",
    ),
    ("runtimeConfig", "use `apiServer: {runtime-config: …}`"),
];

/// The problem of a file with nothing in it: whoever names a file expects something of it.
const EMPTY: &str = "there is nothing in this file; it begins with `apiVersion: coracle.dev/v1alpha1` and `kind: Cluster` \
     (without `--config`, you get the default cluster)";

/// Settings of the command line, which override those of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--name`.
    pub name: Option<String>,
    /// `--image`: the image of every node.
    pub image: Option<String>,
    /// `--workers`: number of workers; missing ones are added at the end, and the last ones are dropped.
    pub workers: Option<usize>,
    /// `--control-planes`: number of control planes, likewise.
    pub control_planes: Option<usize>,
    /// `--durability`.
    pub durability: Option<Durability>,
    /// `--ttl`, in words; no time at all lifts the limit of the file.
    pub ttl: Option<String>,
    /// `--idle-stop`, likewise.
    pub idle_stop: Option<String>,
    /// What etcd promises where neither the command line nor the file says it.
    pub usual_durability: Option<Durability>,
    /// `--as-kind`: the network that nodes of kind share. It also decides how a cluster is called that is given no name.
    pub kind_network: Option<String>,
    /// `--load`: images, beside those of the file.
    pub images: Vec<String>,
    /// `--apply`: absolute paths of manifests, beside those of the file.
    pub manifests: Vec<String>,
    /// Absolute path of the file's directory, to which host paths are relative. Without it, relative paths are refused.
    pub base_directory: Option<PathBuf>,
}

/// Reads a configuration; `file` is its name in messages.
///
/// Without a file (`file` is empty) it is the default cluster.
/// Fails with [`Code::ConfigInvalid`] and the list of all problems.
pub fn load(text: &str, file: &str, overrides: &Overrides) -> Result<ClusterConfig> {
    let (cluster, problems) = load_partly(text, file, overrides);
    if problems.is_empty() { Ok(cluster) } else { Err(invalid(file, problems)) }
}

/// The same as far as it can be read, and all problems; what has one keeps its default.
pub fn load_partly(text: &str, file: &str, overrides: &Overrides) -> (ClusterConfig, Vec<Problem>) {
    // Windows editors write a byte order mark first, which is not part of the YAML.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::new(text, file);
    let cluster = match tree::parse(text) {
        Ok(document) => {
            if document.is_none() && !file.is_empty() {
                reader.problem(Mark { line: 1, column: 1 }, EMPTY);
            }
            cluster(&mut reader, document.as_ref(), overrides)
        }
        Err((mark, message)) => {
            reader.problem(mark, message);
            // The flags can still be checked.
            cluster(&mut reader, None, overrides)
        }
    };
    (cluster, reader.into_problems())
}

/// Whether a text is a configuration file of kind.
pub fn is_of_kind(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    matches!(tree::parse(text), Ok(Some(root)) if kind::is_of_kind(&root))
}

/// How many problems there are, in words.
pub fn problem_count(problems: &[Problem]) -> String {
    if problems.len() == 1 { "a problem".to_owned() } else { format!("{} problems", problems.len()) }
}

/// The error with all problems of a configuration.
pub fn invalid(file: &str, problems: Vec<Problem>) -> Error {
    let count = problem_count(&problems);
    let subject = if problems.iter().all(|problem| problem.place.starts_with("--")) {
        "the command line".to_owned()
    } else {
        format!("the configuration `{file}`")
    };
    Error::new(Code::ConfigInvalid, format!("{subject} has {count}")).with_problems(problems)
}

/// Reads a whole document; what cannot be read keeps its default.
fn cluster(reader: &mut Reader<'_>, document: Option<&value::Node>, overrides: &Overrides) -> ClusterConfig {
    let name = if overrides.kind_network.is_some() { ClusterName::of_kind() } else { ClusterName::default() };
    let mut cluster = ClusterConfig::new(name);
    cluster.kind_network.clone_from(&overrides.kind_network);
    cluster.durability = overrides.usual_durability.unwrap_or(cluster.durability);
    let mut complete = true;
    let mut foreign_file = false;
    if let Some(node) = document {
        let root = Field::root(node);
        if let Some(foreign) = foreign(&root) {
            reader.problem(foreign.0, foreign.1);
            foreign_file = true;
        } else if kind::is_of_kind(node) {
            complete = read_of_kind(reader, node, &mut cluster, overrides);
        } else {
            complete = read(reader, &root, &mut cluster, overrides);
        }
    }
    let places = apply(reader, &mut cluster, overrides);
    cluster.places = reader.places(&places);
    if !foreign_file {
        validate::run(reader, &cluster, &places, complete);
    }
    cluster
}

/// Reads a file of kind.
fn read_of_kind(
    reader: &mut Reader<'_>,
    node: &value::Node,
    cluster: &mut ClusterConfig,
    overrides: &Overrides,
) -> bool {
    let kind::Translated { root, notes, mut accounts } = kind::translate(reader, node);
    let complete = read(reader, &Field::root(&root), cluster, overrides);
    for registry in &mut cluster.registries {
        registry.account = accounts.remove(&registry.host);
    }
    cluster.notes = notes;
    complete
}

/// Whether this is another tool's file, in which every field would be a problem.
fn foreign(root: &Field<'_>) -> Option<(Mark, String)> {
    let Value::Map(entries) = &root.node.value else { return None };
    let entry = entries.iter().find(|entry| entry.key == "apiVersion")?;
    let Value::Text(text, _) = &entry.node.value else { return None };
    let message = "this is a configuration file of k3d";
    text.starts_with("k3d.io/").then(|| {
        let more = format!(
            "coracle reads `{API_VERSION}`, kind `{KIND}`, and files of kind; `coracle config convert` translates it"
        );
        (entry.node.mark, format!("{message} ({}); {more}", quoted(text)))
    })
}

/// Reads the fields; returns whether all nodes could be read, as checks across fields need.
fn read(reader: &mut Reader<'_>, root: &Field<'_>, cluster: &mut ClusterConfig, overrides: &Overrides) -> bool {
    let Some(fields) = reader.fields(root, CLUSTER, CLUSTER_ELSEWHERE) else { return false };
    reader.kubeadm_patches(&fields.patches);
    for (name, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match fields.get(name) {
            Some(value) => reader.constant(value, wanted),
            None => reader.problem(fields.mark, format!("`{name}: {wanted}` is missing")),
        }
    }
    if let Some(name) = fields.get("name")
        && let Some(name) = reader.parsed(name, str::parse)
    {
        cluster.name = name;
    }
    if let Some(image) = fields.get("image") {
        cluster.image = reader.parsed(image, syntax::image);
    }
    if let Some(value) = fields.get("networking") {
        networking(reader, value, &mut cluster.networking);
    }
    if let Some(gates) = fields.get("featureGates") {
        cluster.feature_gates = reader.feature_gates(gates);
    }
    parts(reader, &fields, cluster);
    if let Some(durability) = fields.get("durability").and_then(|value| reader.choice(value, Durability::WORDS)) {
        cluster.durability = durability;
    }
    let base = overrides.base_directory.as_deref().unwrap_or(Path::new(""));
    contents::read(reader, &fields, base, cluster);
    lifetime::read(reader, &fields, cluster);
    registries::read(reader, &fields, base, cluster);
    if let Some(value) = fields.get("kindNetwork")
        && let Some(name) = reader.parsed(value, as_kind::network_name)
    {
        cluster.kind_network.get_or_insert(name);
    }
    let Some(value) = fields.get("nodes") else { return true };
    let read = nodes::read(reader, value, base, cluster.usual_listen_address());
    cluster.nodes = read.nodes;
    read.complete
}

/// Reads what the programs of the cluster get.
fn parts(reader: &mut Reader<'_>, fields: &Fields<'_>, cluster: &mut ClusterConfig) {
    for (name, patch, component) in [
        ("kubelet", &mut cluster.kubelet, components::KUBELET_PATCH),
        ("kubeProxy", &mut cluster.kube_proxy, components::KUBE_PROXY_PATCH),
    ] {
        if let Some(value) = fields.get(name) {
            *patch = reader.patch(value, &component);
        }
    }
    if let Some(value) = fields.get("coreDNS") {
        cluster.core_dns = reader.core_dns(value);
    }
    for (name, flags, owned) in [
        ("apiServer", &mut cluster.api_server, components::API_SERVER),
        ("controllerManager", &mut cluster.controller_manager, components::CONTROLLER_MANAGER),
        ("scheduler", &mut cluster.scheduler, components::SCHEDULER),
        ("etcd", &mut cluster.etcd, components::ETCD),
    ] {
        if let Some(value) = fields.get(name) {
            *flags = reader.flags(value, owned);
        }
    }
    if let Some(value) = fields.get("etcd") {
        reader.metrics_urls(value);
    }
    if let Some(value) = fields.get("extraVolumes") {
        cluster.extra_volumes = reader.extra_volumes(value);
    }
    if let Some(value) = fields.get("containerd") {
        cluster.containerd = reader.containerd(value);
    }
}

fn networking(reader: &mut Reader<'_>, field: &Field<'_>, networking: &mut Networking) {
    let Some(fields) = reader.fields(field, NETWORKING, &[]) else { return };
    if let Some(value) = fields.get("apiServerAddress").and_then(|value| reader.parsed(value, syntax::address)) {
        networking.api_server_address = value;
    }
    if let Some(value) = fields.get("apiServerPort").and_then(|value| reader.port(value, &(0..=u16::MAX))) {
        networking.api_server_port = value;
    }
    if let Some(value) = fields.get("apiServerCertSANs") {
        for item in reader.items(value).unwrap_or_default() {
            networking.api_server_cert_sans.extend(reader.parsed(&item, syntax::certificate_name));
        }
    }
    reader.subnets(&fields, networking);
    networking.dns_search = fields.get("dnsSearch").and_then(|value| reader.dns_search(value));
    if let Some(value) = fields.get("disableDefaultCNI").and_then(|value| reader.boolean(value)) {
        networking.disable_default_cni = value;
    }
    if let Some(value) = fields.get("loadBalancer").and_then(|value| reader.boolean(value)) {
        networking.load_balancer = value;
    }
    if let Some(value) = fields.get("kubeProxyMode").and_then(|value| reader.choice(value, MODES)) {
        networking.kube_proxy_mode = value;
    }
}

/// Applies the command line; returns the index in the file of each node, `None` for those that it adds.
fn apply(reader: &mut Reader<'_>, cluster: &mut ClusterConfig, overrides: &Overrides) -> Vec<Option<usize>> {
    if let Some(name) = &overrides.name {
        match name.parse() {
            Ok(name) => cluster.name = name,
            Err(message) => reader.flag_problem("--name", message),
        }
    }
    if let Some(durability) = overrides.durability {
        cluster.durability = durability;
    }
    contents::add(reader, cluster, &overrides.images, &overrides.manifests);
    if let Some(image) = &overrides.image {
        match syntax::image(image) {
            Ok(image) => {
                cluster.image = Some(image);
                for node in &mut cluster.nodes {
                    node.image = None;
                }
            }
            Err(message) => reader.flag_problem("--image", message),
        }
    }
    lifetime::apply(reader, cluster, overrides.ttl.as_deref(), overrides.idle_stop.as_deref());
    let mut nodes: Vec<Placed> = cluster.nodes.drain(..).enumerate().map(|(index, node)| (Some(index), node)).collect();
    let counts = [
        ("--control-planes", overrides.control_planes, Role::ControlPlane, 1..=validate::MAX_CONTROL_PLANES),
        ("--workers", overrides.workers, Role::Worker, 0..=validate::MAX_WORKERS),
    ];
    for (flag, count, role, range) in counts {
        match count {
            Some(count) if range.contains(&count) => resize(&mut nodes, role, count),
            Some(count) => {
                let message = format!("must be between {} and {}, not `{count}`", range.start(), range.end());
                reader.flag_problem(flag, message);
            }
            None => {}
        }
    }
    let (places, nodes) = nodes.into_iter().unzip();
    cluster.nodes = nodes;
    places
}

/// A node and its index in the file.
type Placed = (Option<usize>, Node);

/// Changes the number of nodes of a role: drops the last ones, or adds nodes without settings after the last.
fn resize(nodes: &mut Vec<Placed>, role: Role, count: usize) {
    let mut left = count;
    nodes.retain(|(_, node)| {
        let keep = node.role != role || left > 0;
        left -= usize::from(keep && node.role == role);
        keep
    });
    let end = nodes
        .iter()
        .rposition(|(_, node)| node.role == role)
        .map_or(if role == Role::ControlPlane { 0 } else { nodes.len() }, |last| last + 1);
    nodes.splice(end..end, std::iter::repeat_n((None, Node::new(role)), left));
}
