//! The patches that nodes have in directories of this host, read and checked before anything is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::upstream::patch_of_kubelet;
use crate::config::{ClusterConfig, Role};
use crate::error::{Code, Error, Problem, Result, counted};
use crate::kubernetes::schema;
use crate::plan::NodeImage;
use crate::plan::patches::{COREDNS, KUBELET, Patch, PatchType, of_file_name};
use crate::ui::Ui;
use crate::yaml::manifest as yaml;
use crate::yaml::places::Places;

/// The patches of each directory that a node names, or everything that is wrong with them; `images` are those of the nodes.
pub(super) fn read(ui: &Ui, cluster: &ClusterConfig, images: &[NodeImage]) -> Result<BTreeMap<String, Vec<Patch>>> {
    let (mut all, mut problems) = (BTreeMap::new(), Vec::new());
    for (node, image) in cluster.nodes.iter().zip(images) {
        let Some(directory) = node.patches.as_ref().filter(|directory| !all.contains_key(*directory)) else { continue };
        let mut reading = Reading { image, patches: Vec::new(), problems: Vec::new(), passed_over: Vec::new() };
        reading.directory(Path::new(directory));
        for (file, reason) in &reading.passed_over {
            ui.warn(format!("`{file}` is not used as a patch: {reason}"));
        }
        let of_pods = |patch: &Patch| ![KUBELET, COREDNS].contains(&patch.target);
        if node.role == Role::Worker && reading.patches.iter().any(of_pods) {
            ui.note(format!(
                "Of the patches in `{directory}`, a worker takes those of the kubelet only, as with kubeadm"
            ));
        }
        problems.append(&mut reading.problems);
        all.insert(directory.clone(), reading.patches);
    }
    if problems.is_empty() {
        return Ok(all);
    }
    let message = format!("the patches of nodes have {}", counted(problems.len(), "problem"));
    Err(Error::new(Code::ConfigInvalid, message).with_problems(problems))
}

struct Reading<'a> {
    /// Whose Kubernetes version counts.
    image: &'a NodeImage,
    patches: Vec<Patch>,
    problems: Vec<Problem>,
    /// Files that are no patches, with the reason.
    passed_over: Vec<(String, String)>,
}

impl Reading<'_> {
    fn directory(&mut self, directory: &Path) {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(source) => {
                let message = format!("the directory of patches cannot be read: {source}");
                return self.problems.push(Problem { place: directory.display().to_string(), message, snippet: None });
            }
        };
        let mut files: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        // kubeadm's order.
        files.sort();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            match of_file_name(&name) {
                Ok((target, kind)) => self.file(&file, target, kind),
                Err(reason) => self.passed_over.push((file.display().to_string(), reason)),
            }
        }
    }

    fn file(&mut self, file: &Path, target: &'static str, kind: PatchType) {
        let place = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(source) => {
                return self.problems.push(Problem { place, message: source.to_string(), snippet: None });
            }
        };
        if let (KUBELET, Some(known)) = (target, self.image.known.as_deref())
            && kind != PatchType::Json
        {
            self.problems.extend(patch_of_kubelet(&place, &text, known));
        }
        for document in yaml::read(&text) {
            let value = document.value.and_then(|value| of_type(kind, value));
            match value {
                Ok(value) => {
                    if kind != PatchType::Json && target != KUBELET {
                        self.check(file, &text, document.number, target, &value);
                    }
                    self.patches.push(Patch { target, kind, file: place.clone(), document: value });
                }
                Err(message) => self.problem(&place, &text, document.at, message),
            }
        }
    }

    /// Reports fields that the patched object cannot have: a kubelet silently ignores them.
    fn check(&mut self, file: &Path, text: &str, number: usize, target: &str, patch: &Value) {
        let (api, kind) = if target == COREDNS { ("apps/v1", "Deployment") } else { ("v1", "Pod") };
        let mut object = without_directives(patch);
        object["apiVersion"] = json!(api);
        object["kind"] = json!(kind);
        if object["metadata"]["name"].is_null() {
            // What is patched has one.
            object["metadata"]["name"] = json!(target);
        }
        for wrong in schema::problems(&object, &self.image.images.kubernetes) {
            let at = yaml::place(text, number, &wrong.pointer, wrong.is_name);
            self.problem(&file.display().to_string(), text, at, wrong.message);
        }
    }

    fn problem(&mut self, file: &str, text: &str, at: usize, message: String) {
        let mark = Places::new(text).mark(at);
        self.problems.push(Problem { place: format!("{file}:{}:{}", mark.line, mark.column), message, snippet: None });
    }
}

/// The document, if patches of this type can be so.
fn of_type(kind: PatchType, value: Value) -> std::result::Result<Value, String> {
    match (kind, &value) {
        (PatchType::Json, Value::Array(_)) | (PatchType::Strategic | PatchType::Merge, Value::Object(_)) => Ok(value),
        (PatchType::Json, _) => Err("a JSON patch must be a list of operations".to_owned()),
        _ => Err("a patch must be a mapping with the fields to change; a JSON patch is named `…+json.yaml`".to_owned()),
    }
}

/// What a strategic merge patch sets, without what it says about how.
fn without_directives(patch: &Value) -> Value {
    match patch {
        Value::Object(fields) => {
            let own = fields.iter().filter(|(name, value)| !name.starts_with('$') && !value.is_null());
            Value::Object(own.map(|(name, value)| (name.clone(), without_directives(value))).collect())
        }
        Value::Array(items) => {
            let is_more =
                |item: &&Value| item.as_object().is_none_or(|item| item.keys().any(|key| !key.starts_with('$')));
            Value::Array(items.iter().filter(is_more).map(without_directives).collect())
        }
        other => other.clone(),
    }
}
