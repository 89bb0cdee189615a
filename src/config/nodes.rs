//! The `nodes` of a configuration file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use super::reader::{Field, Fields, Reader};
use super::value::quoted;
use super::{
    ExtraMount, ExtraPortMapping, Node, Propagation, Protocol, Role, Taint, TaintEffect, components, node_settings,
    syntax,
};

const NODE: &[&str] =
    &["role", "image", "labels", "taints", "kubeletFlags", "patches", "extraMounts", "extraPortMappings"];
const MOUNT: &[&str] = &["hostPath", "containerPath", "readOnly", "propagation"];
const PORT: &[&str] = &["containerPort", "hostPort", "listenAddress", "protocol"];
const TAINT: &[&str] = &["key", "value", "effect"];
const ROLES: &[(&str, Role)] = &[("control-plane", Role::ControlPlane), ("worker", Role::Worker)];
const PROPAGATIONS: &[(&str, Propagation)] = &[
    ("None", Propagation::None),
    ("HostToContainer", Propagation::HostToContainer),
    ("Bidirectional", Propagation::Bidirectional),
];
const PROTOCOLS: &[(&str, Protocol)] = &[("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];
pub(super) const EFFECTS: &[(&str, TaintEffect)] = &[
    ("NoSchedule", TaintEffect::NoSchedule),
    ("PreferNoSchedule", TaintEffect::PreferNoSchedule),
    ("NoExecute", TaintEffect::NoExecute),
];

/// Labels that the kubelet sets by itself.
pub(super) const KUBELET_LABELS: &[&str] = &["kubernetes.io/arch", "kubernetes.io/hostname", "kubernetes.io/os"];

/// The nodes of a file.
pub(super) struct Nodes {
    /// The nodes in the order of the file.
    pub(super) nodes: Vec<Node>,
    /// Whether each role could be read.
    pub(super) complete: bool,
}

/// Reads the list of nodes; host paths are relative to `base`, and host ports listen on `loopback` by default.
pub(super) fn read(reader: &mut Reader<'_>, field: &Field<'_>, base: &Path, loopback: IpAddr) -> Nodes {
    let Some(items) = reader.items(field) else { return Nodes { nodes: Vec::new(), complete: false } };
    if items.is_empty() {
        reader.problem(field.node.mark, "a cluster needs at least one node; omit `nodes` for a single control plane");
        return Nodes { nodes: Vec::new(), complete: false };
    }
    let mut complete = true;
    let nodes = items.iter().map(|item| {
        let node = node(reader, item, base, loopback);
        complete &= node.is_some();
        node.unwrap_or_else(|| Node::new(Role::Worker))
    });
    let nodes = nodes.collect();
    Nodes { nodes, complete }
}

/// Reads one node; `None` if its role is not known.
fn node(reader: &mut Reader<'_>, field: &Field<'_>, base: &Path, loopback: IpAddr) -> Option<Node> {
    let known = [NODE, node_settings::FIELDS].concat();
    let fields = reader.fields(field, &known, &[])?;
    reader.kubeadm_patches(&fields.patches);
    let role = if let Some(role) = fields.get("role") {
        reader.choice(role, ROLES)
    } else {
        reader.problem(fields.mark, "the node has no `role`; it is `control-plane` or `worker`");
        None
    };
    let mut node = Node::new(role.unwrap_or(Role::Worker));
    if let Some(image) = fields.get("image") {
        node.image = reader.parsed(image, syntax::image);
    }
    if let Some(value) = fields.get("labels") {
        node.labels = labels(reader, value);
    }
    if let Some(value) = fields.get("taints") {
        node.taints = Some(taints(reader, value));
    }
    if let Some(value) = fields.get("kubeletFlags") {
        node.kubelet_flags = reader.flags(value, components::KUBELET_FLAGS);
    }
    node.patches = fields.get("patches").and_then(|value| reader.parsed(value, |text| host_path(text, base)));
    if let Some(value) = fields.get("extraMounts") {
        let items = reader.items(value).unwrap_or_default();
        node.extra_mounts = items.iter().filter_map(|item| mount(reader, item, base)).collect();
        repeated_mounts(reader, &value.path, &node.extra_mounts, items.len());
    }
    if let Some(value) = fields.get("extraPortMappings") {
        let items = reader.items(value).unwrap_or_default();
        node.extra_port_mappings = items.iter().map(|item| port_mapping(reader, item, loopback)).collect();
    }
    node.settings = node_settings::read(reader, &fields, role);
    role.map(|_| node)
}

fn labels(reader: &mut Reader<'_>, field: &Field<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, value) in reader.entries(field).unwrap_or_default() {
        if let Err(message) = syntax::label_key(key) {
            reader.problem_at_key(&value, message);
        } else if KUBELET_LABELS.contains(&key) {
            reader.problem_at_key(&value, format!("`{key}` is set by the kubelet and cannot be changed"));
        }
        let checked = reader.parsed(&value, |text| syntax::label_value(text).map(|()| text.to_owned()));
        labels.extend(checked.map(|text| (key.to_owned(), text)));
    }
    labels
}

fn taints(reader: &mut Reader<'_>, field: &Field<'_>) -> Vec<Taint> {
    let mut taints: Vec<Taint> = Vec::new();
    for item in reader.items(field).unwrap_or_default() {
        let Some(taint) = taint(reader, &item) else { continue };
        if taints.iter().any(|other| other.key == taint.key && other.effect == taint.effect) {
            let (key, effect) = (quoted(&taint.key), taint.effect.as_str());
            let message = format!("the taint {key} with the effect `{effect}` is already listed");
            reader.problem(item.node.mark, message);
        }
        taints.push(taint);
    }
    taints
}

fn taint(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Taint> {
    let fields = reader.fields(field, TAINT, &[])?;
    let key = required(reader, &fields, "key", "the taint")
        .and_then(|key| reader.parsed(&key, |text| syntax::label_key(text).map(|()| text.to_owned())));
    let value = match fields.get("value") {
        Some(value) => reader.parsed(value, |text| syntax::label_value(text).map(|()| text.to_owned())),
        None => Some(String::new()),
    };
    let effect = required(reader, &fields, "effect", "the taint").and_then(|effect| reader.choice(&effect, EFFECTS));
    Some(Taint { key: key?, value: value?, effect: effect? })
}

/// A required field; reports if it is missing.
fn required<'t>(reader: &mut Reader<'_>, fields: &Fields<'t>, name: &str, of: &str) -> Option<Field<'t>> {
    let found = fields.get(name).cloned();
    if found.is_none() {
        reader.problem(fields.mark, format!("{of} has no `{name}`"));
    }
    found
}

fn mount(reader: &mut Reader<'_>, field: &Field<'_>, base: &Path) -> Option<ExtraMount> {
    let fields = reader.fields(field, MOUNT, &[])?;
    let host_path = required(reader, &fields, "hostPath", "the mount")
        .and_then(|path| reader.parsed(&path, |text| host_path(text, base)));
    let container_path = required(reader, &fields, "containerPath", "the mount")
        .and_then(|path| reader.parsed(&path, syntax::container_path));
    let read_only = fields.get("readOnly").map_or(Some(false), |value| reader.boolean(value));
    let propagation =
        fields.get("propagation").map_or(Some(Propagation::None), |value| reader.choice(value, PROPAGATIONS));
    Some(ExtraMount {
        host_path: host_path?,
        container_path: container_path?,
        read_only: read_only?,
        propagation: propagation?,
    })
}

/// The absolute form of a host path; `..` stays, because it may follow a symbolic link.
pub(super) fn host_path(text: &str, base: &Path) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{} is not a path", quoted(text)));
    }
    if text == "~" || text.starts_with("~/") {
        return Err(format!("only a shell expands `~`; write out the home directory in {}", quoted(text)));
    }
    let path = base.join(text);
    if !path.is_absolute() {
        return Err(format!("{} is not an absolute path", quoted(text)));
    }
    let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    path.into_os_string()
        .into_string()
        .map_err(|_| format!("the directory that {} is relative to is not UTF-8", quoted(text)))
}

/// Reports two mounts at one path of the node, unless some of the `count` mounts could not be read.
fn repeated_mounts(reader: &mut Reader<'_>, path: &str, mounts: &[ExtraMount], count: usize) {
    if mounts.len() != count {
        return;
    }
    for (index, mount) in mounts.iter().enumerate() {
        if mounts[..index].iter().any(|other| other.container_path == mount.container_path) {
            let message = format!("another mount is already at `{}`", mount.container_path);
            reader.problem_at(&format!("{path}[{index}].containerPath"), message);
        }
    }
}

/// Reads a port mapping; one with problems keeps its place in the list, so that later checks name the right path.
fn port_mapping(reader: &mut Reader<'_>, field: &Field<'_>, loopback: IpAddr) -> ExtraPortMapping {
    let mut mapping =
        ExtraPortMapping { container_port: 0, host_port: 0, listen_address: loopback, protocol: Protocol::Tcp };
    let Some(fields) = reader.fields(field, PORT, &[]) else { return mapping };
    if let Some(port) = required(reader, &fields, "containerPort", "the port mapping")
        .and_then(|port| reader.port(&port, &(1..=u16::MAX)))
    {
        mapping.container_port = port;
    }
    if let Some(port) = fields.get("hostPort").and_then(|port| reader.port(port, &(0..=u16::MAX))) {
        mapping.host_port = port;
    }
    if let Some(address) = fields.get("listenAddress").and_then(|value| reader.parsed(value, syntax::address)) {
        mapping.listen_address = address;
    }
    if let Some(protocol) = fields.get("protocol").and_then(|value| reader.choice(value, PROTOCOLS)) {
        mapping.protocol = protocol;
    }
    mapping
}
