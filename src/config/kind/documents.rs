//! kubeadm's documents as kind makes them for a node, and the patches of a file for them.

use super::map;
use super::patch::{apply, merge};
use crate::config::reader::{Field, Reader};
use crate::config::tree;
use crate::config::value::{Entry, Mark, Node, Value, quoted};
use crate::error::closest;

/// The kinds of the documents, and their API groups.
const KINDS: &[(&str, &str)] = &[
    ("ClusterConfiguration", "kubeadm.k8s.io"),
    ("InitConfiguration", "kubeadm.k8s.io"),
    ("JoinConfiguration", "kubeadm.k8s.io"),
    ("KubeletConfiguration", "kubelet.config.k8s.io"),
    ("KubeProxyConfiguration", "kubeproxy.config.k8s.io"),
];
/// What kind writes, as far as patches refer to it.
const BASE: &str = r#"
ClusterConfiguration:
  apiServer: {certSANs: [localhost, 127.0.0.1], extraArgs: {runtime-config: ""}}
  controllerManager: {extraArgs: {enable-hostpath-provisioner: "true"}}
  scheduler: {extraArgs: {}}
  networking: {}
InitConfiguration:
  localAPIEndpoint: {bindPort: 6443}
  nodeRegistration: {criSocket: "unix:///run/containerd/containerd.sock", kubeletExtraArgs: {}}
JoinConfiguration:
  controlPlane: {localAPIEndpoint: {bindPort: 6443}}
  nodeRegistration: {criSocket: "unix:///run/containerd/containerd.sock", kubeletExtraArgs: {}}
  discovery: {bootstrapToken: {}}
KubeletConfiguration:
  cgroupDriver: systemd
  cgroupRoot: /kubelet
  failSwapOn: false
  imageGCHighThresholdPercent: 100
  evictionHard: {nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
KubeProxyConfiguration:
  mode: iptables
  iptables: {minSyncPeriod: 1s}
  conntrack: {maxPerCore: 0}
"#;
/// The lists of arguments of kubeadm's newer versions, which are mappings in its older ones.
const ARGUMENTS: &[&str] = &["extraArgs", "kubeletExtraArgs"];

/// A patch and the kind of the document that it is for.
pub(super) struct Patch {
    pub(super) kind: &'static str,
    pub(super) mark: Mark,
    change: Change,
}

enum Change {
    Merge(Node),
    Operations(Node),
}

/// The documents of one node, by kind.
pub(super) struct Documents(Node);

impl Documents {
    pub(super) fn base() -> Self {
        let parsed = tree::parse(BASE).ok().flatten();
        Self(parsed.unwrap_or_else(|| map(Mark { line: 1, column: 1 }, Vec::new())))
    }

    pub(super) fn get(&self, kind: &str) -> Option<&Node> {
        self.0.value.get(kind)
    }

    /// Applies the patches, as kind does: first those that merge, then those with operations.
    pub(super) fn patch(&mut self, reader: &mut Reader<'_>, patches: &[Patch]) {
        let Value::Map(documents) = &mut self.0.value else { return };
        let merges = patches.iter().filter(|patch| matches!(patch.change, Change::Merge(_)));
        let operations = patches.iter().filter(|patch| matches!(patch.change, Change::Operations(_)));
        for patch in merges.chain(operations) {
            let Some(document) = documents.iter_mut().find(|entry| entry.key == patch.kind) else { continue };
            match &patch.change {
                Change::Merge(change) => merge(&mut document.node, change),
                Change::Operations(change) => {
                    if let Err((mark, message)) = apply(&mut document.node, change) {
                        reader.problem(mark, format!("the patch of {} cannot be applied: {message}", patch.kind));
                    }
                }
            }
        }
    }
}

/// Reads the list in `kubeadmConfigPatches`.
pub(super) fn merges(reader: &mut Reader<'_>, field: &Field<'_>) -> Vec<Patch> {
    let mut patches = Vec::new();
    for item in reader.items(field).unwrap_or_default() {
        let Some(mut node) = reader.embedded(&item) else { continue };
        let Some(kind) = kind_of(reader, &node, node.mark) else { continue };
        if let Value::Map(entries) = &mut node.value {
            entries.retain(|entry| !matches!(entry.key.as_str(), "apiVersion" | "kind" | "metadata"));
        }
        let node = with_mappings(node);
        patches.push(Patch { kind, mark: item.node.mark, change: Change::Merge(node) });
    }
    patches
}

/// Reads the list in `kubeadmConfigPatchesJSON6902`.
pub(super) fn operations(reader: &mut Reader<'_>, field: &Field<'_>) -> Vec<Patch> {
    let mut patches = Vec::new();
    for item in reader.items(field).unwrap_or_default() {
        let Some(fields) = reader.fields(&item, &["group", "version", "kind", "patch"], &[]) else { continue };
        let Some(kind) = kind_of(reader, item.node, fields.mark) else { continue };
        if let Some(group) = fields.get("group") {
            let wanted = KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, group)| group);
            reader.constant(group, wanted);
        }
        let Some(patch) = fields.get("patch") else {
            reader.problem(fields.mark, "the patch has no `patch`, the list of its operations");
            continue;
        };
        let Some(mut node) = reader.embedded(patch) else { continue };
        if let Value::List(operations) = &mut node.value {
            operations.iter_mut().for_each(operation_on_mappings);
        }
        patches.push(Patch { kind, mark: item.node.mark, change: Change::Operations(node) });
    }
    patches
}

/// The kind that a patch names; reports one that does not exist.
fn kind_of(reader: &mut Reader<'_>, node: &Node, mark: Mark) -> Option<&'static str> {
    let Some(kind) = node.value.get("kind") else {
        let names: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
        reader.problem(mark, format!("the patch has no `kind`; it is one of `{}`", names.join("`, `")));
        return None;
    };
    let name = kind.value.text();
    let found = KINDS.iter().find(|(known, _)| *known == name).map(|(known, _)| *known);
    if found.is_none() {
        let meant = closest(&name, KINDS.iter().map(|(kind, _)| *kind));
        let meant = meant.map(|kind| format!("; did you mean `{kind}`?")).unwrap_or_default();
        reader.problem(kind.mark, format!("kubeadm has no kind {}{meant}", quoted(&name)));
    }
    found
}

/// The tree with every list of arguments as a mapping; a name that is given several times has a list of values.
fn with_mappings(node: Node) -> Node {
    let Node { mark, value } = node;
    let value = match value {
        Value::Map(entries) => Value::Map(entries.into_iter().map(entry_with_mappings).collect()),
        Value::List(items) => Value::List(items.into_iter().map(with_mappings).collect()),
        other => other,
    };
    Node { mark, value }
}

fn entry_with_mappings(entry: Entry) -> Entry {
    let node = if ARGUMENTS.contains(&entry.key.as_str()) { arguments(entry.node) } else { with_mappings(entry.node) };
    Entry { node, ..entry }
}

/// A list of `name` and `value` as a mapping.
fn arguments(node: Node) -> Node {
    let Value::List(items) = &node.value else { return node };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let name = item.value.get("name").map(|name| name.value.text()).unwrap_or_default();
        let value = item.value.get("value").cloned().unwrap_or(Node { mark: item.mark, value: Value::Null });
        match entries.iter_mut().find(|entry| entry.key == name) {
            Some(Entry { node: Node { value: Value::List(values), .. }, .. }) => values.push(value),
            Some(entry) => {
                let first = entry.node.clone();
                entry.node = Node { mark: first.mark, value: Value::List(vec![first, value]) };
            }
            None => entries.push(Entry { key: name, mark: item.mark, node: value }),
        }
    }
    map(node.mark, entries)
}

/// Rewrites an operation that adds to a list of arguments into one that sets a key of a mapping.
fn operation_on_mappings(operation: &mut Node) {
    let Value::Map(entries) = &mut operation.value else { return };
    let path = entries.iter().position(|entry| entry.key == "path");
    let value = entries.iter().position(|entry| entry.key == "value");
    let (Some(path), Some(value)) = (path, value) else { return };
    let pointer = entries[path].node.value.text();
    let steps: Vec<&str> = pointer.split('/').collect();
    let last = steps.last().copied().unwrap_or_default();
    if ARGUMENTS.contains(&last) {
        let node = arguments(entries[value].node.clone());
        entries[value].node = node;
    } else if steps.len() > 1 && ARGUMENTS.contains(&steps[steps.len() - 2]) {
        let (name, given) = (entries[value].node.value.get("name"), entries[value].node.value.get("value"));
        let (Some(name), Some(given)) = (name, given) else { return };
        let name = name.value.text().replace('~', "~0").replace('/', "~1");
        let pointer = format!("{}/{name}", steps[..steps.len() - 1].join("/"));
        let given = given.clone();
        entries[path].node.value = Value::Text(pointer, false);
        entries[value].node = given;
    } else {
        entries[value].node = with_mappings(entries[value].node.clone());
    }
}
