//! What `InitConfiguration` and `JoinConfiguration` come to, as fields of a node.

use std::path::Path;

use super::documents::Documents;
use super::kubeadm::{Settings, WITHOUT_EFFECT, changed, gates, pairs, refuse};
use super::{children_of, list, map, text_entry};
use crate::config::reader::Reader;
use crate::config::value::{Entry, Mark, Node, Value, quoted};

impl Settings {
    /// What a node's own document sets, as entries of the node; `mounts` are the node's.
    pub(super) fn node(
        &mut self,
        reader: &mut Reader<'_>,
        documents: &Documents,
        is_first: bool,
        mounts: Option<&Node>,
        node: &mut Vec<Entry>,
    ) {
        let kind = if is_first { "InitConfiguration" } else { "JoinConfiguration" };
        for entry in changed(documents, kind) {
            match entry.key.as_str() {
                "nodeRegistration" => {
                    for inner in children_of(&entry.node) {
                        self.registration(reader, kind, inner, node);
                    }
                }
                "skipPhases" => self.phases(reader, &entry),
                name if WITHOUT_EFFECT.contains(&name) => {}
                "patches" => patches(reader, kind, &entry, mounts, node),
                _ => refuse(reader, &entry, kind, ""),
            }
        }
    }

    fn registration(&mut self, reader: &mut Reader<'_>, kind: &str, entry: Entry, node: &mut Vec<Entry>) {
        let place = format!("{kind}.nodeRegistration");
        match entry.key.as_str() {
            "kubeletExtraArgs" => self.kubelet_flags(&entry.node, node),
            "taints" => {
                node.retain(|other| other.key != "taints");
                node.push(entry);
            }
            "criSocket" if entry.node.value.text().ends_with("/containerd/containerd.sock") => {}
            "name" => refuse(reader, &entry, &place, "; nodes are named `CLUSTER-ROLE`, as their containers"),
            name if WITHOUT_EFFECT.contains(&name) => {}
            _ => refuse(reader, &entry, &place, ""),
        }
    }

    fn kubelet_flags(&mut self, flags: &Node, node: &mut Vec<Entry>) {
        let mut others = Vec::new();
        for flag in children_of(flags) {
            match (flag.key.as_str(), &flag.node.value) {
                (_, Value::Null) => {}
                ("node-labels", value) => {
                    let labels = pairs(value, flag.node.mark);
                    match node.iter_mut().find(|entry| entry.key == "labels") {
                        Some(Entry { node: Node { value: Value::Map(known), .. }, .. }) => {
                            known.retain(|entry| labels.iter().all(|label| label.key != entry.key));
                            known.extend(labels);
                        }
                        _ => {
                            node.push(Entry {
                                key: "labels".to_owned(),
                                mark: flag.mark,
                                node: map(flag.mark, labels),
                            });
                        }
                    }
                }
                ("register-with-taints", value) => {
                    let taints = value
                        .text()
                        .split(',')
                        .filter(|text| !text.is_empty())
                        .map(|text| taint(text, flag.node.mark))
                        .collect();
                    node.retain(|other| other.key != "taints");
                    node.push(Entry { key: "taints".to_owned(), mark: flag.mark, node: list(flag.mark, taints) });
                }
                ("feature-gates", _) => self.set_gates(gates(&flag)),
                (name @ ("cgroup-driver" | "cgroup-root" | "kubelet-cgroups" | "runtime-cgroups"), _) => self.note(
                    &format!("the kubelet's flag `{name}` is not taken from the file: coracle sets what fits the host"),
                ),
                _ => others.push(flag),
            }
        }
        if let Some(mark) = others.first().map(|flag| flag.mark) {
            node.push(Entry { key: "kubeletFlags".to_owned(), mark, node: map(mark, others) });
        }
    }

    fn phases(&mut self, reader: &mut Reader<'_>, entry: &Entry) {
        let Value::List(phases) = &entry.node.value else { return };
        for phase in phases {
            match phase.value.text().as_str() {
                "addon/kube-proxy" => self.networking.push(text_entry(phase.mark, "kubeProxyMode", "none")),
                "preflight" => {}
                other => {
                    reader.problem(phase.mark, format!("coracle cannot leave out kubeadm's phase {}", quoted(other)));
                }
            }
        }
    }
}

/// The directory of patches: a path in the node, to which one of its mounts has to lead.
fn patches(reader: &mut Reader<'_>, kind: &str, entry: &Entry, mounts: Option<&Node>, node: &mut Vec<Entry>) {
    for inner in children_of(&entry.node) {
        if inner.key != "directory" {
            refuse(reader, &inner, &format!("{kind}.patches"), "");
            continue;
        }
        let wanted = inner.node.value.text();
        if wanted.is_empty() {
            continue;
        }
        match host_path(&wanted, mounts) {
            Some(path) => node.push(text_entry(inner.mark, "patches", &path)),
            None => reader.problem(
                inner.node.mark,
                format!(
                    "no mount of this node leads to the directory of patches {}; add one below `extraMounts`",
                    quoted(&wanted)
                ),
            ),
        }
    }
}

/// Where on the host a path of the node is, by the mount that is closest to it.
fn host_path(wanted: &str, mounts: Option<&Node>) -> Option<String> {
    let Value::List(mounts) = &mounts?.value else { return None };
    let text = |mount: &Node, name: &str| mount.value.get(name).map(|node| node.value.text());
    let candidates = mounts.iter().filter_map(|mount| {
        let (outside, inside) = (text(mount, "hostPath")?, text(mount, "containerPath")?);
        let rest = Path::new(wanted).strip_prefix(&inside).ok()?.to_str()?.to_owned();
        Some((inside.len(), if rest.is_empty() { outside } else { format!("{outside}/{rest}") }))
    });
    candidates.max().map(|(_, path)| path)
}

/// `key=value:effect` as a taint.
fn taint(text: &str, mark: Mark) -> Node {
    let (rest, effect) = text.rsplit_once(':').unwrap_or((text, ""));
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    map(mark, vec![text_entry(mark, "key", key), text_entry(mark, "value", value), text_entry(mark, "effect", effect)])
}
