//! Files of kind and of k3d, and command lines of minikube, as files of ours.

use serde_json::{Map, Number, Value as Json};

use super::comments::{self, Comments};
use super::reader::Reader;
use super::value::{Node, Value};
use super::{Overrides, k3d, kind, load, minikube, tree, warnings};
use crate::error::{Code, Error, Result};

/// Fields whose values are flags: there, a number is the text that it is written as.
const FLAGS: &[&str] = &["apiServer", "controllerManager", "scheduler", "etcd", "kubeletFlags"];
/// What is said about fields of the cluster that kind has as patches.
const OF_PATCHES: &[(&str, &str)] = &[
    (
        "apiServer",
        "Flags of kube-apiserver. kind: `apiServer.extraArgs` in a patch of ClusterConfiguration, or `runtimeConfig`",
    ),
    (
        "controllerManager",
        "Flags of kube-controller-manager. kind: `controllerManager.extraArgs` in a patch of ClusterConfiguration",
    ),
    ("scheduler", "Flags of kube-scheduler. kind: `scheduler.extraArgs` in a patch of ClusterConfiguration"),
    ("etcd", "Flags of etcd. kind: `etcd.local` in a patch of ClusterConfiguration"),
    ("kubelet", "Merged into the configuration of every kubelet. kind: a patch of KubeletConfiguration"),
    ("kubeProxy", "Merged into kube-proxy's configuration. kind: a patch of KubeProxyConfiguration"),
    (
        "containerd",
        "Merged into containerd's configuration, under the names of containerd 2. kind: `containerdConfigPatches`",
    ),
    ("extraVolumes", "Paths of the node that components see. kind: `extraVolumes` in a patch of ClusterConfiguration"),
    ("registries", "How nodes reach registries. kind: `registry` in `containerdConfigPatches`"),
];

/// A file of another tool in our format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The file.
    pub text: String,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
    /// Whether it has paths that are relative to its directory.
    pub has_relative_paths: bool,
    /// The registries whose passwords kind's file has, and ours has not.
    pub logins: Vec<String>,
}

/// Writes a file of kind in our format: a cluster of it is the same. What ours has under another name has a comment.
///
/// A file of k3d becomes one that is as close as it can be, with notes about what is left out. Fails as [`load()`] does, and for
/// other files.
pub fn convert(text: &str, file: &str, overrides: &Overrides) -> Result<Converted> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = tree::parse(text).ok().flatten();
    if let Some(root) = root.as_ref().filter(|root| k3d::is_of_k3d(root)) {
        return of_k3d(text, root, file, overrides);
    }
    let cluster = load(text, file, overrides)?;
    let Some(root) = root else { return Err(foreign(file)) };
    if !kind::is_of_kind(&root) {
        return Err(foreign(file));
    }
    let translated = kind::translate(&mut Reader::new(text, file), &root);
    let mut remarks = Remarks { source: &root, comments: Comments::new(), has_relative_paths: false };
    remarks.cluster(&translated.root);
    let mut head = own_head(text);
    head.push(origin("kind", file) + ", whose lines the comments name.");
    // That its version is old no longer matters.
    let lasting = cluster.notes.iter().filter(|note| !note.contains("v1alpha3"));
    head.extend(lasting.map(|note| format!("Note: {note}.")));
    let text = comments::write(&json(&translated.root, false), &head, &remarks.comments)?;
    let logins = translated.accounts.into_keys().collect();
    Ok(Converted { text, notes: warnings(&cluster), has_relative_paths: remarks.has_relative_paths, logins })
}

fn of_k3d(text: &str, root: &Node, file: &str, overrides: &Overrides) -> Result<Converted> {
    let translated = k3d::translate(root);
    let mut head = own_head(text);
    head.push(origin("k3d", file) + ". k3s is not Kubernetes: review the file.");
    let k3d::Translated { document, comments, notes, has_relative_paths, .. } = translated;
    let converted = closest(document, head, &comments, notes, (&format!("{file}, converted"), overrides))?;
    Ok(Converted { has_relative_paths, ..converted })
}

/// What is as close as it can be to the configuration of another tool, as a file; its notes are comments as well.
fn closest(
    document: Map<String, Json>,
    mut head: Vec<String>,
    comments: &Comments,
    notes: Vec<String>,
    (name, overrides): (&str, &Overrides),
) -> Result<Converted> {
    head.extend(notes.iter().map(|note| format!("Note: {note}.")));
    let text = comments::write(&Json::Object(document), &head, comments)?;
    // What the other tool is told may be wrong for us; then its place is that in the new file.
    let cluster = load(&text, name, overrides)?;
    let notes = notes.into_iter().chain(warnings(&cluster)).collect();
    Ok(Converted { text, notes, has_relative_paths: false, logins: Vec::new() })
}

/// Writes the words of a `minikube start` as a file of ours, with notes about what is left out. Fails for other commands, and
/// as [`load()`] does.
pub fn convert_minikube(words: &[String], overrides: &Overrides) -> Result<Converted> {
    let refused = |message: String| {
        let hint = "write the whole command: `coracle config convert -- minikube start --nodes 3`";
        Error::new(Code::UsageInvalid, message).hint(hint)
    };
    let minikube::Translated { document, notes, .. } = minikube::translate(words).map_err(refused)?;
    let head = vec![format!("Converted by `coracle config convert` from `{}`.", words.join(" "))];
    closest(document, head, &Comments::new(), notes, ("the converted command", overrides))
}

/// The beginning of the comment about where a file comes from.
fn origin(tool: &str, file: &str) -> String {
    let file = if file == "-" { "standard input" } else { file };
    format!("Converted by `coracle config convert` from {tool}'s file ({file})")
}

/// The comments with which a file begins: what it is for. A schema that one names is that of files of kind.
fn own_head(text: &str) -> Vec<String> {
    let comments = text.lines().map_while(|line| line.trim_start().strip_prefix('#'));
    let of_people = comments.filter(|comment| !comment.contains("$schema"));
    of_people.map(|comment| comment.trim().to_owned()).collect()
}

fn foreign(file: &str) -> Error {
    Error::new(Code::UsageInvalid, format!("`{file}` is not a configuration file of kind or k3d"))
        .because("only `apiVersion: kind.x-k8s.io/v1alpha4`, `v1alpha3`, and those of k3d are converted")
        .hint("`coracle config view FILE` prints a file of coracle with all defaults")
}

/// A tree as JSON; `is_flag` is whether numbers are flags.
fn json(node: &Node, is_flag: bool) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(Some(number), text) if !is_flag || *text == number.to_string() => Json::from(*number),
        Value::Number(None, text) if !is_flag => {
            let number = text.parse().ok().and_then(Number::from_f64);
            number.map_or_else(|| Json::String(text.clone()), Json::Number)
        }
        Value::Number(_, text) | Value::Text(text, _) => Json::String(text.clone()),
        Value::List(items) => items.iter().map(|item| json(item, is_flag)).collect(),
        Value::Map(entries) => {
            let pair = |key: &str, node| (key.to_owned(), json(node, is_flag || FLAGS.contains(&key)));
            Json::Object(entries.iter().map(|entry| pair(&entry.key, &entry.node)).collect())
        }
    }
}

/// The comments of a file, and what else is found on the way.
struct Remarks<'a> {
    /// The file of kind.
    source: &'a Node,
    comments: Comments,
    has_relative_paths: bool,
}

impl Remarks<'_> {
    fn add(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.comments.entry(path.into()).or_default().push(text.into());
    }

    /// A comment with the line of kind's file.
    fn add_with_line(&mut self, path: impl Into<String>, text: &str, node: &Node) {
        // A collection begins where its first value does; in flow style, where its bracket is.
        self.add(path, format!("{text} (line {}).", node.mark.line));
    }

    fn cluster(&mut self, root: &Node) {
        for (name, text) in OF_PATCHES {
            if let Some(node) = root.value.get(name) {
                self.add_with_line(*name, text, node);
            }
        }
        if let Some(gates) = root.value.get("featureGates").filter(|_| self.source.value.get("featureGates").is_none())
        {
            self.add_with_line("featureGates", "kind: in a patch", gates);
        }
        if let Some(networking) = root.value.get("networking") {
            self.networking(networking);
        }
        self.nodes(root);
        for (index, registry) in items(root, "registries").enumerate() {
            self.registry(&format!("registries[{index}]"), registry);
        }
    }

    fn networking(&mut self, networking: &Node) {
        let given = self.source.value.get("networking");
        let is_given = |name: &str| given.is_some_and(|given| given.value.get(name).is_some());
        for name in ["podSubnet", "serviceSubnet", "kubeProxyMode"] {
            if let Some(node) = networking.value.get(name).filter(|_| !is_given(name)) {
                self.add_with_line(format!("networking.{name}"), "kind: in a patch", node);
            }
        }
        if let Some(names) = networking.value.get("apiServerCertSANs") {
            let text = "kind: `apiServer.certSANs`, or `controlPlaneEndpoint`, in a patch of ClusterConfiguration";
            self.add_with_line("networking.apiServerCertSANs", text, names);
        }
        let port = given.and_then(|given| given.value.get("apiServerPort"));
        if port.is_some_and(|port| port.value.text() == "-1") {
            self.add("networking.apiServerPort", "coracle chooses a free port, and keeps it. kind: -1.");
        }
    }

    fn nodes(&mut self, root: &Node) {
        let mut ports_are_told = false;
        for (index, node) in items(root, "nodes").enumerate() {
            let path = format!("nodes[{index}]");
            let given = items(self.source, "nodes").nth(index);
            self.node(&path, node, given);
            for (at, mount) in items(node, "extraMounts").enumerate() {
                if mount.value.get("hostPath").is_some_and(|path| !path.value.text().starts_with('/')) {
                    if !self.has_relative_paths {
                        let text = "Relative to the directory of this file. kind: relative to the working directory.";
                        self.add(format!("{path}.extraMounts[{at}].hostPath"), text);
                    }
                    self.has_relative_paths = true;
                }
            }
            let is_open = |port: &Node| port.value.get("listenAddress").is_none();
            if !ports_are_told && items(node, "extraPortMappings").any(is_open) {
                let text = "Without `listenAddress`, a port listens on the host's loopback address. kind: on 0.0.0.0, all addresses.";
                self.add(format!("{path}.extraPortMappings"), text);
                ports_are_told = true;
            }
            let given = given.map(|given| items(given, "extraPortMappings")).into_iter().flatten();
            for (at, port) in given.enumerate() {
                if port.value.get("hostPort").is_some_and(|port| port.value.text() == "-1") {
                    let path = format!("{path}.extraPortMappings[{at}].hostPort");
                    self.add(path, "coracle chooses a free port, and keeps it. kind: -1.");
                }
            }
        }
    }

    /// What patches set in a node.
    fn node(&mut self, path: &str, node: &Node, given: Option<&Node>) {
        let own = given.and_then(|given| given.value.get("labels"));
        if let Some(labels) = node.value.get("labels") {
            match own {
                None => {
                    let text = "kind: `node-labels` of `kubeletExtraArgs` in a patch";
                    self.add_with_line(format!("{path}.labels"), text, labels);
                }
                Some(own) if count(own) < count(labels) => {
                    let text = "kind: some of them are `node-labels` of `kubeletExtraArgs` in a patch.";
                    self.add(format!("{path}.labels"), text);
                }
                Some(_) => {}
            }
        }
        let of_patches = [
            ("taints", "kind: `nodeRegistration.taints`, or `register-with-taints`, in a patch"),
            ("patches", "Directory of patches on this host. kind: `patches.directory` in a patch, through a mount"),
            ("kubeletFlags", "Flags of this node's kubelet. kind: `nodeRegistration.kubeletExtraArgs` in a patch"),
        ];
        for (name, text) in of_patches {
            if let Some(node) = node.value.get(name) {
                self.add_with_line(format!("{path}.{name}"), text, node);
            }
        }
    }

    fn registry(&mut self, path: &str, registry: &Node) {
        let host = registry.value.get("host").map(|host| host.value.text()).unwrap_or_default();
        if host.starts_with("localhost:") {
            self.add(path, "With `registry: true`, coracle runs a registry on this host by itself, and nodes know it.");
        }
        if registry.value.get("login").is_some() {
            let text = format!("Passwords do not belong in this file: run `docker login {host}` on this host first.");
            self.add(format!("{path}.login"), text);
        }
    }
}

/// The items of a list in a mapping.
fn items<'n>(node: &'n Node, name: &str) -> impl Iterator<Item = &'n Node> {
    let list = node.value.get(name).map(|node| &node.value);
    let items: &[Node] = match list {
        Some(Value::List(items)) => items,
        _ => &[],
    };
    items.iter()
}

/// The number of keys of a mapping.
fn count(node: &Node) -> usize {
    match &node.value {
        Value::Map(entries) => entries.len(),
        _ => 0,
    }
}
