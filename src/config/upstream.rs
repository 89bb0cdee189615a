//! Checks what a file sets in Kubernetes' own components against what the versions of the node images know.
//!
//! It comes after [`load()`](super::load()), because only the engine knows what is in an image; the file is read again for
//! the places of what is wrong.

use super::kind;
use super::known::{Known, Names};
use super::quantities::{go_integer, is_duration, is_quantity, whole_number};
use super::reader::{Field, Reader};
use super::tree;
use super::value::{Value, quoted};
use crate::error::{Problem, closest};

/// Kubelet flags and other names that people write below `kubelet`, and where they belong.
const KUBELET_ELSEWHERE: &[(&str, &str)] = &[
    (
        "kubeletExtraArgs",
        "write fields of KubeletConfiguration here; labels and taints are `labels` and `taints` of a node",
    ),
    ("node-ip", "coracle sets the addresses of nodes"),
    ("node-labels", "write `labels` of the node"),
    ("nodeLabels", "write `labels` of the node"),
    ("nodeRegistration", "labels and taints are `labels` and `taints` of a node"),
    ("register-with-taints", "write `taints` of the node"),
    ("taints", "write `taints` of the node"),
    ("labels", "write `labels` of the node"),
];
/// Flags by which a component prints something and ends.
const ENDING: &[&str] = &["help", "version"];

/// The text of a configuration and its name in messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The file's name.
    pub file: String,
    /// Its content.
    pub text: String,
}

/// What the images of a cluster know.
#[derive(Debug, Clone, Default)]
pub struct Images<'a> {
    /// Those of all nodes.
    pub nodes: Vec<&'a Known>,
    /// Those of the control planes; the first one's version is kube-proxy's.
    pub control_planes: Vec<&'a Known>,
}

/// The component with the flags in a field of the file.
fn component(field: &str) -> Option<&'static str> {
    Some(match field {
        "apiServer" => "kube-apiserver",
        "controllerManager" => "kube-controller-manager",
        "scheduler" => "kube-scheduler",
        "etcd" => "etcd",
        _ => return None,
    })
}

impl Written {
    /// Every name that the images do not know and every value of a wrong type, with its place.
    pub fn problems(&self, images: &Images<'_>) -> Vec<Problem> {
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        let Ok(Some(mut document)) = tree::parse(text) else { return Vec::new() };
        if kind::is_of_kind(&document) {
            document = kind::translate(&mut Reader::new(text, &self.file), &document).root;
        }
        let root = Field::root(&document);
        if !matches!(root.node.value, Value::Map(_)) {
            return Vec::new();
        }
        let mut all: Vec<Problem> = Vec::new();
        for known in &images.nodes {
            let control_plane = images.control_planes.contains(known);
            let first = images.control_planes.first() == Some(known);
            let mut check = Check { reader: Reader::new(text, &self.file), known };
            for (name, field) in check.reader.entries(&root).unwrap_or_default() {
                check.top(name, &field, control_plane, first);
            }
            // Several images may know the same, or differ by the version that they name.
            for problem in check.reader.into_problems() {
                if !all.iter().any(|other| (&other.place, &other.message) == (&problem.place, &problem.message)) {
                    all.push(problem);
                }
            }
        }
        all.sort_by_key(|problem| problem.snippet.as_ref().map(|snippet| (snippet.line, snippet.column)));
        all
    }
}

/// What a patch of the kubelet's configuration has that this image does not know; nothing if it cannot be read, which is
/// told elsewhere.
pub fn patch_of_kubelet(file: &str, text: &str, known: &Known) -> Vec<Problem> {
    let Ok(Some(document)) = tree::parse(text) else { return Vec::new() };
    let mut check = Check { reader: Reader::new(text, file), known };
    if matches!(document.value, Value::Map(_)) {
        check.document(&Field::root(&document), "KubeletConfiguration", &[]);
    }
    check.reader.into_problems()
}

/// The check of one file against one image.
struct Check<'a> {
    reader: Reader<'a>,
    known: &'a Known,
}

impl Check<'_> {
    fn top(&mut self, name: &str, field: &Field<'_>, control_plane: bool, first: bool) {
        if name == "nodes" && matches!(field.node.value, Value::List(_)) {
            for node in self.reader.items(field).unwrap_or_default() {
                self.node(&node);
            }
        }
        // What is empty counts as missing, as everywhere; a wrong type has been reported when the file was loaded.
        if !matches!(field.node.value, Value::Map(_)) {
            return;
        }
        match name {
            "featureGates" => self.gates(field),
            "kubelet" => self.document(field, "KubeletConfiguration", KUBELET_ELSEWHERE),
            "kubeProxy" if first => self.document(field, "KubeProxyConfiguration", &[]),
            _ if control_plane => {
                if let Some(component) = component(name) {
                    self.flags(field, component);
                }
            }
            _ => {}
        }
    }

    /// A node's own settings of its kubelet. Like the cluster's, they must suit the images of all nodes.
    fn node(&mut self, node: &Field<'_>) {
        if !matches!(node.node.value, Value::Map(_)) {
            return;
        }
        let fields = self.reader.entries(node).unwrap_or_default();
        for (name, field) in fields.iter().filter(|(_, field)| matches!(field.node.value, Value::Map(_))) {
            match *name {
                "kubelet" => self.document(field, "KubeletConfiguration", KUBELET_ELSEWHERE),
                "kubeletFlags" => self.flags(field, "kubelet"),
                _ => {}
            }
        }
    }

    fn gates(&mut self, field: &Field<'_>) {
        let known = self.known;
        let names: Vec<&str> = known.feature_gates.iter().map(String::as_str).collect();
        for (name, value) in self.reader.entries(field).unwrap_or_default() {
            if !known.feature_gates.contains(name) {
                let what = format!("Kubernetes {} has no feature gate {}", known.kubernetes, quoted(name));
                self.unknown(&value, &what, closest(name, names.iter().copied()));
            }
        }
    }

    /// A name that does not exist, and what was probably meant.
    fn unknown(&mut self, field: &Field<'_>, what: &str, meant: Option<&str>) {
        let more = meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        self.reader.problem_at_key(field, format!("{what}{more}"));
    }

    fn document(&mut self, field: &Field<'_>, kind: &str, elsewhere: &[(&str, &str)]) {
        let known = self.known;
        let Some(of_type) = known.documents.get(kind) else { return };
        let Some(fields) = of_type.strip_prefix('#').and_then(|name| known.types.get(name)) else { return };
        for (name, value) in self.reader.entries(field).unwrap_or_default() {
            if matches!(name, "apiVersion" | "kind") {
                continue;
            }
            let advice = elsewhere.iter().find(|(other, _)| *other == name && !fields.contains_key(name));
            if let Some((_, advice)) = advice {
                let what = format!("{kind} of Kubernetes {} has no field {}", known.kubernetes, quoted(name));
                self.reader.problem_at_key(&value, format!("{what}; {advice}"));
            } else {
                self.field(&value, name, fields, kind, of_type);
            }
        }
    }

    /// One field of a structure called `kind`; `root` is the type of the whole document.
    fn field(&mut self, field: &Field<'_>, name: &str, fields: &Names, kind: &str, root: &str) {
        if let Some(of_type) = fields.get(name) {
            return self.value(field, of_type, root);
        }
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        // Flags of the kubelet are spelt with dashes.
        let plain = name.replace('-', "");
        let here = names.iter().copied().find(|known| known.eq_ignore_ascii_case(&plain));
        let elsewhere = self.known.find(root, &plain);
        let meant = here.or(elsewhere.as_deref()).or_else(|| closest(&plain, names.iter().copied()));
        let what = format!("{kind} of Kubernetes {} has no field {}", self.known.kubernetes, quoted(name));
        self.unknown(field, &what, meant);
    }

    /// A value of a type of the list.
    fn value(&mut self, field: &Field<'_>, of_type: &str, root: &str) {
        if matches!(field.node.value, Value::Null) {
            return; // it removes coracle's own setting
        }
        if let Some(of_items) = of_type.strip_prefix("[]") {
            for item in self.reader.items(field).unwrap_or_default() {
                self.value(&item, of_items, root);
            }
        } else if let Some(of_values) = of_type.strip_prefix("{}") {
            for (_, value) in self.reader.entries(field).unwrap_or_default() {
                self.value(&value, of_values, root);
            }
        } else if let Some(kind) = of_type.strip_prefix('#') {
            let Some(fields) = self.known.types.get(kind) else { return };
            for (name, value) in self.reader.entries(field).unwrap_or_default() {
                self.field(&value, name, fields, kind, root);
            }
        } else {
            self.scalar(field, of_type);
        }
    }

    fn scalar(&mut self, field: &Field<'_>, of_type: &str) {
        let value = &field.node.value;
        let wanted = match (of_type, value) {
            ("string", _) => {
                self.reader.string(field);
                return;
            }
            ("boolean", _) => {
                self.reader.boolean(field);
                return;
            }
            ("duration", Value::Text(text, _)) if is_duration(text) => return,
            ("duration", _) => "a duration such as `10s` or `1h30m`",
            ("quantity", Value::Text(text, _) | Value::Number(_, text)) if is_quantity(text) => return,
            ("quantity", _) => "a quantity such as `500Mi` or `2`",
            ("number", Value::Number(..)) => return,
            ("number", _) => "a number",
            _ => {
                let Some((range, wanted)) = whole_number(of_type) else { return };
                match value {
                    Value::Number(Some(number), _) if range.contains(&i128::from(*number)) => return,
                    _ => wanted,
                }
            }
        };
        self.reader.wrong_type(field, wanted);
    }

    fn flags(&mut self, field: &Field<'_>, component: &str) {
        let known = self.known;
        let Some(flags) = known.flags.get(component) else { return };
        let names: Vec<&str> = flags.keys().map(String::as_str).filter(|name| !ENDING.contains(name)).collect();
        for (name, value) in self.reader.entries(field).unwrap_or_default() {
            if ENDING.contains(&name) {
                let message = format!("with {}, `{component}` would print something and exit", quoted(name));
                self.reader.problem_at_key(&value, message);
                continue;
            }
            let Some(of_type) = flags.get(name) else {
                let what = match component {
                    "etcd" => format!("etcd of Kubernetes {} has no flag {}", known.kubernetes, quoted(name)),
                    _ => format!("{component} {} has no flag {}", known.kubernetes, quoted(name)),
                };
                self.unknown(&value, &what, closest(name, names.iter().copied()));
                continue;
            };
            self.flag(&value, of_type);
        }
    }

    /// The value of a flag. Types that take many spellings are left to the component.
    fn flag(&mut self, field: &Field<'_>, of_type: &str) {
        let text = match &field.node.value {
            Value::Bool(value) => value.to_string(),
            Value::Number(_, text) | Value::Text(text, _) => text.clone(),
            // No single word is right, so the message says only what is wanted.
            _ => String::new(),
        };
        let wanted = match of_type {
            // Go's words.
            "bool" if ["1", "t", "true", "0", "f", "false"].contains(&text.to_lowercase().as_str()) => return,
            "bool" => "`true` or `false`",
            "duration" if is_duration(&text) => return,
            "duration" => "a duration such as `10s` or `1h30m`",
            "float" | "float32" | "float64" if text.parse::<f64>().is_ok() => return,
            "float" | "float32" | "float64" => "a number",
            _ => {
                let Some((range, wanted)) = whole_number(of_type) else { return };
                match go_integer(&text) {
                    Some(number) if range.contains(&number) => return,
                    _ => wanted,
                }
            }
        };
        self.reader.wrong_type(field, wanted);
    }
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
