//! kind's configuration files, `kind.x-k8s.io/v1alpha4`: each is translated into the tree of one of ours, in which every
//! value keeps its place in the file, and that is read as any other.

mod containerd;
mod containerd_json;
mod documents;
mod kubeadm;
mod patch;
mod registration;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::reader::{Field, Fields, Reader};
use super::registries::Account;
use super::value::{Entry, Mark, Node, Value};
use super::{API_VERSION, KIND};
use documents::{Documents, Patch};
use kubeadm::Settings;

const CLUSTER: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "nodes",
    "networking",
    "featureGates",
    "runtimeConfig",
    "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
    "kubeadmConfigPatchesJson6902",
    "containerdConfigPatches",
    "containerdConfigPatchesJSON6902",
    "containerdConfigPatchesJson6902",
];
const NETWORKING: &[&str] = &[
    "ipFamily",
    "apiServerAddress",
    "apiServerPort",
    "podSubnet",
    "serviceSubnet",
    "disableDefaultCNI",
    "kubeProxyMode",
    "dnsSearch",
];
const NODE: &[&str] = &[
    "role",
    "image",
    "labels",
    "extraMounts",
    "extraPortMappings",
    "kubeadmConfigPatches",
    "kubeadmConfigPatchesJSON6902",
    "kubeadmConfigPatchesJson6902",
];
const MOUNT: &[&str] = &["hostPath", "containerPath", "readOnly", "propagation", "selinuxRelabel"];
const PORT: &[&str] = &["containerPort", "hostPort", "listenAddress", "protocol"];
/// kind's older version, and the group that it had.
const OLD: &str = "kind.sigs.k8s.io/v1alpha3";
const CURRENT: &str = "kind.x-k8s.io/v1alpha4";

/// A file of kind as one of ours.
pub(super) struct Translated {
    pub(super) root: Node,
    /// What the user should know about it.
    pub(super) notes: Vec<String>,
    /// What nodes log in with at registries, by host.
    pub(super) accounts: BTreeMap<String, Account>,
}

/// Whether this is a file of kind.
pub(super) fn is_of_kind(root: &Node) -> bool {
    let version = root.value.get("apiVersion").map(|version| version.value.text()).unwrap_or_default();
    version.starts_with("kind.x-k8s.io/") || version.starts_with("kind.sigs.k8s.io/")
}

/// Translates a file; reports what is wrong with it and what cannot be honoured.
pub(super) fn translate(reader: &mut Reader<'_>, root: &Node) -> Translated {
    let mark = root.mark;
    let Some(fields) = reader.fields(&Field::root(root), CLUSTER, &[]) else {
        return Translated { root: map(mark, Vec::new()), notes: Vec::new(), accounts: BTreeMap::new() };
    };
    let mut notes = Vec::new();
    version(reader, &fields, &mut notes);
    let mut settings = Settings::default();
    let patches = patches(reader, &fields);
    let all = nodes(reader, fields.get("nodes"), &patches, &mut settings);
    let mut entries = vec![text_entry(mark, "apiVersion", API_VERSION), text_entry(mark, "kind", KIND)];
    entries.extend(fields.get("name").map(|field| entry("name", field)));
    entries.extend(settings.image(reader, &all));
    if let Some(field) = fields.get("featureGates")
        && reader.entries(field).is_some()
    {
        let own = children_of(field.node).into_iter();
        let own: Vec<Entry> = own.filter(|gate| settings.gates.iter().all(|set| set.key != gate.key)).collect();
        settings.gates.splice(0..0, own);
    }
    if let Some(field) = fields.get("runtimeConfig") {
        settings.runtime_config(reader, field);
    }
    let networking = networking(reader, fields.get("networking"), &mut settings);
    let operations = ["containerdConfigPatchesJSON6902", "containerdConfigPatchesJson6902"];
    let operations: Vec<_> = operations.iter().filter_map(|name| fields.get(name)).collect();
    containerd::patches(reader, fields.get("containerdConfigPatches"), &operations, &mut settings);
    entries.push(list_or_map("nodes", mark, Value::List(all)));
    entries.push(list_or_map("networking", mark, Value::Map(networking)));
    notes.append(&mut settings.notes);
    let accounts = std::mem::take(&mut settings.accounts);
    entries.extend(settings.into_entries(mark));
    entries.retain(|entry| !is_empty(&entry.node.value));
    Translated { root: map(mark, entries), notes, accounts }
}

/// Whether nothing is set by this: what a file does not have must not stand in the translation.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Map(entries) => entries.is_empty(),
        Value::List(items) => items.is_empty(),
        _ => false,
    }
}

fn version(reader: &mut Reader<'_>, fields: &Fields<'_>, notes: &mut Vec<String>) {
    if let Some(kind) = fields.get("kind") {
        reader.constant(kind, KIND);
    } else {
        reader.problem(fields.mark, format!("`kind: {KIND}` is missing"));
    }
    let Some(field) = fields.get("apiVersion") else { return };
    match field.node.value.text().as_str() {
        CURRENT => {}
        OLD | "kind.x-k8s.io/v1alpha3" => {
            notes.push(format!(
                "the file is of kind's old version v1alpha3, which kind reads no longer; write `apiVersion: {CURRENT}`"
            ));
        }
        _ => reader.constant(field, CURRENT),
    }
}

/// The patches of the cluster or of a node.
fn patches(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<Patch> {
    let mut patches = Vec::new();
    if let Some(field) = fields.get("kubeadmConfigPatches") {
        patches.extend(documents::merges(reader, field));
    }
    for name in ["kubeadmConfigPatchesJSON6902", "kubeadmConfigPatchesJson6902"] {
        if let Some(field) = fields.get(name) {
            patches.extend(documents::operations(reader, field));
        }
    }
    patches
}

/// The nodes of the file, each with what its patches set; what they set in the cluster goes to `settings`.
fn nodes(reader: &mut Reader<'_>, field: Option<&Field<'_>>, cluster: &[Patch], settings: &mut Settings) -> Vec<Node> {
    let items = field.and_then(|field| reader.items(field)).unwrap_or_default();
    if items.is_empty() {
        // kind's default: one control plane.
        let mut documents = Documents::base();
        documents.patch(reader, cluster);
        settings.cluster(reader, &documents);
        let mark = Mark { line: 1, column: 1 };
        let mut entries = vec![text_entry(mark, "role", "control-plane")];
        settings.node(reader, &documents, true, None, &mut entries);
        return if entries.len() > 1 { vec![map(mark, entries)] } else { Vec::new() };
    }
    let mut first = true;
    let mut nodes = Vec::new();
    for item in items {
        nodes.extend(node(reader, &item, cluster, settings, &mut first));
    }
    nodes
}

/// Translates one node; `first` is whether no control plane came before it.
fn node(
    reader: &mut Reader<'_>,
    item: &Field<'_>,
    cluster: &[Patch],
    settings: &mut Settings,
    first: &mut bool,
) -> Option<Node> {
    let fields = reader.fields(item, NODE, &[])?;
    let role = fields.get("role").map(|role| role.node.value.text()).unwrap_or_default();
    let own = patches(reader, &fields);
    let is_first = *first && role == "control-plane";
    let mut documents = Documents::base();
    documents.patch(reader, cluster);
    documents.patch(reader, &own);
    settings.without_effect(&own, is_first, &role);
    let mut entries: Vec<Entry> =
        ["role", "image", "labels"].iter().filter_map(|name| Some(entry(name, fields.get(name)?))).collect();
    if is_first {
        *first = false;
        settings.cluster(reader, &documents);
    }
    let mounts = fields.get("extraMounts").map(|field| field.node);
    settings.node(reader, &documents, is_first, mounts, &mut entries);
    if let Some(field) = fields.get("extraMounts") {
        let mounts = reader.items(field).unwrap_or_default();
        let mounts = mounts.iter().filter_map(|item| mount(reader, item, settings)).collect();
        entries.push(Entry {
            key: "extraMounts".to_owned(),
            mark: field.node.mark,
            node: list(field.node.mark, mounts),
        });
    }
    if let Some(field) = fields.get("extraPortMappings") {
        let ports = reader.items(field).unwrap_or_default();
        let ports = ports.iter().filter_map(|item| port(reader, item)).collect();
        let node = list(field.node.mark, ports);
        entries.push(Entry { key: "extraPortMappings".to_owned(), mark: field.node.mark, node });
    }
    Some(map(item.node.mark, entries))
}

fn mount(reader: &mut Reader<'_>, item: &Field<'_>, settings: &mut Settings) -> Option<Node> {
    let fields = reader.fields(item, MOUNT, &[])?;
    if fields.get("selinuxRelabel").is_some_and(|field| reader.boolean(field) == Some(true)) {
        settings.note(
            "`selinuxRelabel` is not needed: SELinux does not confine nodes, and the labels of the host's files stay as they are",
        );
    }
    let known = ["hostPath", "containerPath", "readOnly", "propagation"];
    Some(map(item.node.mark, known.iter().filter_map(|name| Some(entry(name, fields.get(name)?))).collect()))
}

fn port(reader: &mut Reader<'_>, item: &Field<'_>) -> Option<Node> {
    let fields = reader.fields(item, PORT, &[])?;
    let mut entries: Vec<Entry> =
        ["containerPort", "listenAddress"].iter().filter_map(|name| Some(entry(name, fields.get(name)?))).collect();
    entries.extend(fields.get("hostPort").map(|field| chosen_port("hostPort", field)));
    if let Some(field) = fields.get("protocol") {
        let mut entry = entry("protocol", field);
        if let Value::Text(text, _) = &mut entry.node.value {
            *text = text.to_uppercase();
        }
        entries.push(entry);
    }
    Some(map(item.node.mark, entries))
}

/// A port; kind lets the engine choose where it is -1, and chooses itself where it is 0.
fn chosen_port(name: &str, field: &Field<'_>) -> Entry {
    let mut entry = entry(name, field);
    if matches!(entry.node.value, Value::Number(Some(-1), _)) {
        entry.node.value = Value::Number(Some(0), "0".to_owned());
    }
    entry
}

fn networking(reader: &mut Reader<'_>, field: Option<&Field<'_>>, settings: &mut Settings) -> Vec<Entry> {
    let mut entries = Vec::new();
    if let Some(fields) = field.and_then(|field| reader.fields(field, NETWORKING, &[])) {
        for name in NETWORKING {
            let Some(field) = fields.get(name) else { continue };
            entries.push(if *name == "apiServerPort" { chosen_port(name, field) } else { entry(name, field) });
        }
    }
    // What a patch sets wins, as it does where kubeadm reads it.
    for patched in settings.networking.drain(..) {
        entries.retain(|entry| entry.key != patched.key);
        entries.push(patched);
    }
    entries
}

/// The entry of a field, under a name.
fn entry(name: &str, field: &Field<'_>) -> Entry {
    Entry { key: name.to_owned(), mark: field.node.mark, node: field.node.clone() }
}

fn text_entry(mark: Mark, name: &str, text: &str) -> Entry {
    Entry { key: name.to_owned(), mark, node: Node { mark, value: Value::Text(text.to_owned(), false) } }
}

fn list_or_map(name: &str, mark: Mark, value: Value) -> Entry {
    let mark = match &value {
        Value::List(items) => items.first().map_or(mark, |item| item.mark),
        Value::Map(entries) => entries.first().map_or(mark, |entry| entry.mark),
        _ => mark,
    };
    Entry { key: name.to_owned(), mark, node: Node { mark, value } }
}

fn map(mark: Mark, entries: Vec<Entry>) -> Node {
    Node { mark, value: Value::Map(entries) }
}

fn list(mark: Mark, items: Vec<Node>) -> Node {
    Node { mark, value: Value::List(items) }
}

/// The entries of a mapping; none of anything else, which the reader reports.
fn children_of(node: &Node) -> Vec<Entry> {
    match &node.value {
        Value::Map(entries) => entries.clone(),
        _ => Vec::new(),
    }
}
