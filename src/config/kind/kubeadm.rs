//! What patches of kubeadm's documents come to, as fields of our files.

use std::collections::BTreeMap;

use super::documents::{Documents, Patch};
use super::patch::difference;
use super::{children_of, list, list_or_map, map, text_entry};
use crate::config::reader::{Field, Reader};
use crate::config::registries::Account;
use crate::config::syntax;
use crate::config::value::{Entry, Mark, Node, Value};

/// Settings of the kubelet that depend on the host, so that coracle chooses them.
const OF_THE_HOST: &[&str] =
    &["cgroupDriver", "cgroupRoot", "containerRuntimeEndpoint", "staticPodPath", "kubeletCgroups"];
/// Fields of kubeadm's documents that change nothing in a cluster of coracle, where kubeadm does not run.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "apiVersion",
    "bootstrapTokens",
    "caCertPath",
    "certificateKey",
    "discovery",
    "dryRun",
    "ignorePreflightErrors",
    "imagePullPolicy",
    "imagePullSerial",
    "kind",
    "metadata",
    "timeoutForControlPlane",
    "timeouts",
];

/// Flags that files repeat, with the values that kubeadm gives them, and coracle as well.
const REPEATED: &[(&str, &str)] = &[
    ("client-ca-file", "/etc/kubernetes/pki/ca.crt"),
    ("cluster-signing-cert-file", "/etc/kubernetes/pki/ca.crt"),
    ("cluster-signing-key-file", "/etc/kubernetes/pki/ca.key"),
    ("etcd-cafile", "/etc/kubernetes/pki/etcd/ca.crt"),
    ("etcd-certfile", "/etc/kubernetes/pki/apiserver-etcd-client.crt"),
    ("etcd-keyfile", "/etc/kubernetes/pki/apiserver-etcd-client.key"),
    ("etcd-servers", "https://127.0.0.1:2379"),
    ("kubelet-client-certificate", "/etc/kubernetes/pki/apiserver-kubelet-client.crt"),
    ("kubelet-client-key", "/etc/kubernetes/pki/apiserver-kubelet-client.key"),
    ("proxy-client-cert-file", "/etc/kubernetes/pki/front-proxy-client.crt"),
    ("proxy-client-key-file", "/etc/kubernetes/pki/front-proxy-client.key"),
    ("requestheader-client-ca-file", "/etc/kubernetes/pki/front-proxy-ca.crt"),
    ("root-ca-file", "/etc/kubernetes/pki/ca.crt"),
    ("service-account-key-file", "/etc/kubernetes/pki/sa.pub"),
    ("service-account-private-key-file", "/etc/kubernetes/pki/sa.key"),
    ("service-account-signing-key-file", "/etc/kubernetes/pki/sa.key"),
    ("tls-cert-file", "/etc/kubernetes/pki/apiserver.crt"),
    ("tls-private-key-file", "/etc/kubernetes/pki/apiserver.key"),
];

/// What the patches of a file set in the cluster, as entries of our fields.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) networking: Vec<Entry>,
    pub(super) gates: Vec<Entry>,
    pub(super) notes: Vec<String>,
    pub(super) registries: Vec<Node>,
    pub(super) containerd: Vec<Entry>,
    /// `kubernetesVersion`, which the node image has to have.
    version: Option<Entry>,
    /// What nodes log in with at registries, by host.
    pub(super) accounts: BTreeMap<String, Account>,
    /// Flags of each of [`COMPONENTS`].
    flags: [Vec<Entry>; 4],
    volumes: Vec<Node>,
    kubelet: Vec<Entry>,
    kube_proxy: Vec<Entry>,
}

/// The repository of node images with each version of Kubernetes.
const IMAGE: &str = "coracle/node";
/// The field with the flags of a component.
const COMPONENTS: [&str; 4] = ["apiServer", "controllerManager", "scheduler", "etcd"];

impl Settings {
    /// Adds what the user should know, once.
    pub(super) fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|note| note == text) {
            self.notes.push(text.to_owned());
        }
    }

    /// Sets feature gates; the last one that sets a gate wins.
    pub(super) fn set_gates(&mut self, gates: Vec<Entry>) {
        for gate in gates {
            self.gates.retain(|known| known.key != gate.key);
            self.gates.push(gate);
        }
    }

    fn flag(&mut self, component: &str, entry: Entry) {
        let index = COMPONENTS.iter().position(|name| *name == component).unwrap_or_default();
        let flags = &mut self.flags[index];
        flags.retain(|known| known.key != entry.key);
        flags.push(entry);
    }

    /// The image of all nodes, if a patch asks for a version and no node has an image. The version of images that the
    /// nodes have must be the same.
    pub(super) fn image(&mut self, reader: &mut Reader<'_>, nodes: &[Node]) -> Option<Entry> {
        let version = self.version.take()?;
        let text = version.node.value.text();
        let images: Vec<String> = nodes.iter().filter_map(|node| Some(node.value.get("image")?.value.text())).collect();
        let tag = format!(":v{}", text.trim_start_matches('v'));
        if images.is_empty() {
            return Some(text_entry(version.node.mark, "image", &format!("{IMAGE}{tag}")));
        }
        let is_other = |image: &String| !image.split('@').next().is_some_and(|name| name.ends_with(&tag));
        if let Some(image) = images.iter().find(|image| is_other(image)) {
            let instead = format!("; the version is that of the node image, which is `{image}` here");
            refuse(reader, &version, "ClusterConfiguration", &instead);
        }
        None
    }

    /// The entries for the top of a file.
    pub(super) fn into_entries(self, mark: Mark) -> Vec<Entry> {
        let mut entries: Vec<Entry> =
            COMPONENTS.iter().zip(self.flags).map(|(name, flags)| list_or_map(name, mark, Value::Map(flags))).collect();
        let maps = [
            ("featureGates", self.gates),
            ("kubelet", self.kubelet),
            ("kubeProxy", self.kube_proxy),
            ("containerd", self.containerd),
        ];
        entries.extend(maps.map(|(name, entries)| list_or_map(name, mark, Value::Map(entries))));
        let lists = [("extraVolumes", self.volumes), ("registries", self.registries)];
        entries.extend(lists.map(|(name, items)| list_or_map(name, mark, Value::List(items))));
        entries
    }

    /// `runtimeConfig`: a flag of the API server; what a patch sets there comes after it.
    pub(super) fn runtime_config(&mut self, reader: &mut Reader<'_>, field: &Field<'_>) {
        let mut parts = Vec::new();
        for (key, value) in reader.entries(field).unwrap_or_default() {
            if matches!(value.node.value, Value::List(_) | Value::Map(_)) {
                reader.wrong_type(&value, "`\"true\"` or `\"false\"`");
            }
            let text = value.node.value.text();
            if let Err(message) = syntax::runtime_config(key, &text) {
                reader.problem_at_key(&value, message);
            }
            parts.push(if text.is_empty() { key.to_owned() } else { format!("{key}={text}") });
        }
        let known = self.flags[0].iter().find(|entry| entry.key == "runtime-config");
        parts.extend(known.map(|entry| entry.node.value.text()).filter(|text| !text.is_empty()));
        if !parts.is_empty() {
            self.flag("apiServer", text_entry(field.node.mark, "runtime-config", &parts.join(",")));
        }
    }

    /// Notes the patches of a node that kubeadm would not read there.
    pub(super) fn without_effect(&mut self, patches: &[Patch], is_first: bool, role: &str) {
        for patch in patches {
            let wanted = match patch.kind {
                "InitConfiguration" if !is_first => "JoinConfiguration",
                "JoinConfiguration" if is_first => "InitConfiguration",
                "InitConfiguration" | "JoinConfiguration" => continue,
                _ if is_first => continue,
                _ => {
                    self.note(&format!(
                        "the patch of {} on line {} has no effect, as with kind: kubeadm reads it from the first control plane only",
                        patch.kind, patch.mark.line
                    ));
                    continue;
                }
            };
            self.note(&format!(
                "the patch of {} on line {} has no effect, as with kind: this {role} gets its settings from {wanted}",
                patch.kind, patch.mark.line
            ));
        }
    }

    /// What the first control plane's documents set for the whole cluster.
    pub(super) fn cluster(&mut self, reader: &mut Reader<'_>, documents: &Documents) {
        for entry in changed(documents, "ClusterConfiguration") {
            self.cluster_field(reader, &entry);
        }
        for entry in changed(documents, "KubeletConfiguration") {
            match entry.key.as_str() {
                "featureGates" => self.set_gates(children_of(&entry.node)),
                name if OF_THE_HOST.contains(&name) => self.note(&format!(
                    "`{name}` of the kubelet is not taken from the file: coracle sets what fits the host"
                )),
                _ => self.kubelet.push(entry),
            }
        }
        for entry in changed(documents, "KubeProxyConfiguration") {
            match entry.key.as_str() {
                "featureGates" => self.set_gates(children_of(&entry.node)),
                "mode" => self.networking.push(Entry { key: "kubeProxyMode".to_owned(), ..entry }),
                _ => self.kube_proxy.push(entry),
            }
        }
    }

    fn cluster_field(&mut self, reader: &mut Reader<'_>, entry: &Entry) {
        let text = entry.node.value.text();
        match entry.key.as_str() {
            "apiServer" | "controllerManager" | "scheduler" => self.component(reader, entry),
            "etcd" => self.etcd(reader, &entry.node),
            "networking" => self.subnets(reader, &entry.node),
            "clusterName" => self.flag("controllerManager", Entry { key: "cluster-name".to_owned(), ..entry.clone() }),
            "controlPlaneEndpoint" => self.endpoint(entry, &text),
            "proxy" => {
                for inner in children_of(&entry.node) {
                    match (inner.key.as_str(), &inner.node.value) {
                        ("disabled", Value::Bool(true)) => {
                            self.networking.push(text_entry(inner.mark, "kubeProxyMode", "none"));
                        }
                        ("disabled", Value::Bool(false)) => {}
                        _ => refuse(reader, &inner, "ClusterConfiguration.proxy", ""),
                    }
                }
            }
            "imageRepository" if text == "registry.k8s.io" => {}
            "dns" if matches!(&entry.node.value, Value::Map(fields) if fields.is_empty()) => {}
            "certificatesDir" if text == "/etc/kubernetes/pki" => {}
            // Gates of kubeadm itself, which does not run.
            "featureGates" => {
                self.note("`featureGates` of ClusterConfiguration are gates of kubeadm, which coracle does not run");
            }
            "kubernetesVersion" => self.version = Some(entry.clone()),
            name if WITHOUT_EFFECT.contains(&name) => {}
            _ => refuse(reader, entry, "ClusterConfiguration", ""),
        }
    }

    /// Another endpoint: the API server's certificate gets its name.
    fn endpoint(&mut self, entry: &Entry, text: &str) {
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host).trim_matches(['[', ']']);
        self.names(vec![Node { mark: entry.node.mark, value: Value::Text(host.to_owned(), false) }]);
        self.note(
            "`controlPlaneEndpoint`: the API server's certificate has this name; nodes reach the API server as always",
        );
    }

    /// More names for the API server's certificate.
    fn names(&mut self, names: Vec<Node>) {
        const FIELD: &str = "apiServerCertSANs";
        if let Some(entry) = self.networking.iter_mut().find(|entry| entry.key == FIELD) {
            if let Value::List(known) = &mut entry.node.value {
                known.extend(names);
            }
        } else if let Some(mark) = names.first().map(|name| name.mark) {
            self.networking.push(Entry { key: FIELD.to_owned(), mark, node: list(mark, names) });
        }
    }

    fn component(&mut self, reader: &mut Reader<'_>, entry: &Entry) {
        let component = entry.key.clone();
        for inner in children_of(&entry.node) {
            match (inner.key.as_str(), &inner.node.value) {
                ("extraArgs", _) => self.arguments(&component, &inner.node),
                ("extraVolumes", Value::List(volumes)) => {
                    for volume in volumes {
                        self.volumes.push(self::volume(&component, volume));
                    }
                }
                ("certSANs", Value::List(names)) if component == "apiServer" => {
                    let is_other = |name: &&Node| !["localhost", "127.0.0.1"].contains(&name.value.text().as_str());
                    self.names(names.iter().filter(is_other).cloned().collect());
                }
                (name, _) if WITHOUT_EFFECT.contains(&name) => {}
                (name, _) if name.contains('-') => {
                    refuse(
                        reader,
                        &inner,
                        &format!("ClusterConfiguration.{component}"),
                        "; a flag belongs below `extraArgs`",
                    );
                }
                _ => refuse(reader, &inner, &format!("ClusterConfiguration.{component}"), ""),
            }
        }
    }

    fn arguments(&mut self, component: &str, arguments: &Node) {
        for flag in children_of(arguments) {
            match (flag.key.as_str(), &flag.node.value) {
                // kind's own flags that a patch removes are not there in the first place.
                (_, Value::Null) => {}
                (name, Value::Text(text, _)) if REPEATED.contains(&(name, text.as_str())) => {}
                ("feature-gates", _) => self.set_gates(gates(&flag)),
                _ => self.flag(component, flag),
            }
        }
    }

    fn etcd(&mut self, reader: &mut Reader<'_>, node: &Node) {
        for inner in children_of(node) {
            if inner.key != "local" {
                refuse(reader, &inner, "ClusterConfiguration.etcd", "; etcd runs in the control planes");
                continue;
            }
            for field in children_of(&inner.node) {
                match field.key.as_str() {
                    "extraArgs" => self.arguments("etcd", &field.node),
                    "dataDir" => self.flag("etcd", Entry { key: "data-dir".to_owned(), ..field }),
                    _ => refuse(reader, &field, "ClusterConfiguration.etcd.local", ""),
                }
            }
        }
    }

    fn subnets(&mut self, reader: &mut Reader<'_>, node: &Node) {
        for entry in children_of(node) {
            match entry.key.as_str() {
                "podSubnet" | "serviceSubnet" => self.networking.push(entry),
                "dnsDomain" if entry.node.value.text() == "cluster.local" => {}
                _ => refuse(reader, &entry, "ClusterConfiguration.networking", ""),
            }
        }
    }
}

/// What the patches changed in the document of a kind.
pub(super) fn changed(documents: &Documents, kind: &str) -> Vec<Entry> {
    let base = Documents::base();
    let (Some(old), Some(new)) = (base.get(kind), documents.get(kind)) else { return Vec::new() };
    difference(old, new).map(|node| children_of(&node)).unwrap_or_default()
}

/// Reports a field that cannot be honoured.
pub(super) fn refuse(reader: &mut Reader<'_>, entry: &Entry, place: &str, instead: &str) {
    if matches!(entry.node.value, Value::Null) {
        return;
    }
    let message = format!("coracle cannot honour `{}` of {place}{instead}", entry.key);
    reader.problem(entry.mark, message);
}

/// `a=b,c=d` as entries; a mapping stays one.
pub(super) fn pairs(value: &Value, mark: Mark) -> Vec<Entry> {
    if let Value::Map(entries) = value {
        return entries.clone();
    }
    let text = value.text();
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(key, value)| text_entry(mark, key.trim(), value))
        .collect()
}

/// The feature gates in a flag.
pub(super) fn gates(flag: &Entry) -> Vec<Entry> {
    let mut gates = pairs(&flag.node.value, flag.node.mark);
    for gate in &mut gates {
        if let Ok(on) = gate.node.value.text().parse() {
            gate.node.value = Value::Bool(on);
        }
    }
    gates
}

/// A volume of a component, in our words.
fn volume(component: &str, node: &Node) -> Node {
    let mut entries = vec![text_entry(node.mark, "component", component)];
    entries.extend(children_of(node).into_iter().filter(|entry| entry.key != "name"));
    map(node.mark, entries)
}
