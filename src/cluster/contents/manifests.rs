//! The files of `manifests:`: read completely before anything is made, applied once the cluster is usable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::time::Instant;

use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::error::{Code, Error, Problem, Result, Snippet, counted};
use crate::image;
use crate::kubernetes::object::{name, namespace, title};
use crate::kubernetes::schema::{self, Wrong};
use crate::kubernetes::{Client, manifest};
use crate::ui::Step;
use crate::yaml::manifest as yaml;
use crate::yaml::places::{Mark, Places};

/// Extensions of files that are read in a directory.
const EXTENSIONS: &[&str] = &["yaml", "yml", "json"];
/// The namespaces of a new cluster.
const NAMESPACES: [&str; 5] = ["default", "kube-node-lease", "kube-public", "kube-system", "local-path-storage"];

/// An object of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub file: PathBuf,
    /// The number of the document in the file, from 1.
    pub number: usize,
    /// The line at which the object begins.
    pub line: usize,
    pub object: Value,
}

impl Document {
    fn place(&self) -> String {
        format!("{}:{}, document {}", self.file.display(), self.line, self.number)
    }
}

/// The objects to apply and warnings about them, or everything that is wrong with the manifests and images of a configuration for this version
/// of Kubernetes.
pub(super) async fn check(
    engine: &dyn Engine,
    cluster: &ClusterConfig,
    version: &str,
) -> Result<(Vec<Document>, Vec<String>)> {
    let mut reading = Reading { version, documents: Vec::new(), problems: Vec::new(), warnings: Vec::new() };
    let texts = reading.read(&cluster.manifests);
    // Add-ons have namespaces of their own.
    if cluster.addons.is_empty() {
        reading.namespaces(&texts);
    }
    let Reading { documents, mut problems, warnings, .. } = reading;
    let absent = image::check_docker_images(engine, &cluster.images).await;
    if problems.is_empty() {
        return absent.map(|()| (documents, warnings));
    }
    if let Err(error) = absent {
        problems.push(problem("images".to_owned(), error.message()));
    }
    let message = format!("`images` and `manifests` have {}", counted(problems.len(), "problem"));
    Err(Error::new(Code::ConfigInvalid, message).with_problems(problems))
}

fn problem(place: String, message: impl Into<String>) -> Problem {
    Problem { place, message: message.into(), snippet: None }
}

/// A problem at a byte of a file, with the line.
fn problem_at(file: &Path, text: &str, at: usize, message: String) -> Problem {
    let mark = Places::new(text).mark(at);
    let snippet = text.lines().nth(mark.line - 1).map(|line| Snippet {
        line: mark.line,
        column: mark.column,
        text: line.to_owned(),
    });
    Problem { place: format!("{}:{}:{}", file.display(), mark.line, mark.column), message, snippet }
}

/// All objects of files and directories, and everything that is wrong with them.
struct Reading<'a> {
    /// Kubernetes' version.
    version: &'a str,
    documents: Vec<Document>,
    problems: Vec<Problem>,
    /// What is allowed, but odd.
    warnings: Vec<String>,
}

impl Reading<'_> {
    /// Reads files and directories, and returns the texts of the files.
    fn read(&mut self, paths: &[String]) -> BTreeMap<PathBuf, String> {
        let mut texts = BTreeMap::new();
        for path in paths {
            let files = files(Path::new(path)).unwrap_or_else(|message| {
                self.problems.push(problem(path.clone(), message));
                Vec::new()
            });
            for file in files {
                match std::fs::read_to_string(&file) {
                    Ok(text) => {
                        self.text(&file, &text);
                        texts.insert(file, text);
                    }
                    Err(source) => self.problems.push(problem(file.display().to_string(), source.to_string())),
                }
            }
        }
        texts
    }

    fn text(&mut self, file: &Path, text: &str) {
        let documents = yaml::read(text);
        let several = documents.iter().any(|document| document.number > 1);
        for yaml::Document { number, at, value, repeated } in documents {
            let numbered = |message: String| if several { format!("document {number}: {message}") } else { message };
            let value = match value {
                Ok(value) => value,
                Err(message) => {
                    self.problems.push(problem_at(file, text, at, numbered(message)));
                    continue;
                }
            };
            self.warnings.extend(repeated.into_iter().map(|(at, key)| {
                let Mark { line, column } = Places::new(text).mark(at);
                format!("{}:{line}:{column}: `{key}` is set twice; the last one counts, as for kubectl", file.display())
            }));
            for (pointer, object) in objects_of(value) {
                let wrong = match incomplete(&object) {
                    Some(message) => vec![Wrong { pointer: String::new(), is_name: false, message }],
                    None => schema::problems(&object, self.version),
                };
                for Wrong { pointer: below, is_name, message } in wrong {
                    let of_object = if below.is_empty() { String::new() } else { format!("{}: ", title(&object)) };
                    let at = yaml::place(text, number, &format!("{pointer}{below}"), is_name);
                    self.problems.push(problem_at(file, text, at, numbered(format!("{of_object}{message}"))));
                }
                let line = Places::new(text).mark(yaml::place(text, number, &pointer, false)).line;
                self.documents.push(Document { file: file.to_owned(), number, line, object });
            }
        }
    }

    /// Reports objects in a namespace that a new cluster does not have, and that no manifest makes.
    fn namespaces(&mut self, texts: &BTreeMap<PathBuf, String>) {
        let made = self.documents.iter().filter(|document| document.object["kind"] == "Namespace");
        let made: BTreeSet<&str> = made.map(|document| name(&document.object)).chain(NAMESPACES).collect();
        let lost = self.documents.iter().filter_map(|document| {
            let object = &document.object;
            let namespace = namespace(object).filter(|namespace| !made.contains(namespace))?;
            let message = format!("{}: no manifest makes the namespace `{namespace}`", title(object));
            let text = texts.get(&document.file).filter(|_| schema::is_namespaced(object) == Some(true))?;
            let at = text.split_inclusive('\n').take(document.line - 1).map(str::len).sum();
            Some(problem_at(&document.file, text, at, message))
        });
        let lost: Vec<Problem> = lost.collect();
        self.problems.extend(lost);
    }
}

/// The object, or those of a list, each with a JSON pointer to it.
fn objects_of(value: Value) -> Vec<(String, Value)> {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match value["items"].as_array() {
        Some(items) if is_list => {
            items.iter().enumerate().map(|(index, item)| (format!("/items/{index}"), item.clone())).collect()
        }
        _ => vec![(String::new(), value)],
    }
}

/// The file, or the manifests of the directory by name, as `kubectl apply -f` reads them.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let facts = std::fs::metadata(path).map_err(|source| source.to_string())?;
    if !facts.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|source| source.to_string())?;
    let of_manifest = |path: &PathBuf| path.extension().is_some_and(|end| EXTENSIONS.iter().any(|known| end == *known));
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file() && of_manifest(path)).collect();
    files.sort();
    if files.is_empty() {
        return Err(format!("this directory has no file *.{}", EXTENSIONS.join(", *.")));
    }
    Ok(files)
}

/// The reason why a document is not an object.
fn incomplete(object: &Value) -> Option<String> {
    if !object.is_object() {
        return Some("this is not a Kubernetes object, because it is not a mapping".to_owned());
    }
    for (name, value) in [
        ("apiVersion", &object["apiVersion"]),
        ("kind", &object["kind"]),
        ("metadata.name", &object["metadata"]["name"]),
    ] {
        if value.as_str().is_none_or(str::is_empty) {
            return Some(format!("this is not a complete Kubernetes object: `{name}` is missing"));
        }
    }
    None
}

/// Applies the objects.
pub(super) async fn apply(client: &Client, documents: &[Document], deadline: Instant) -> Result<()> {
    manifest::apply(client, &objects(documents), deadline).await.map_err(|at| placed(documents, &at))
}

/// Waits until the workloads among the objects run.
pub(super) async fn wait(client: &Client, documents: &[Document], deadline: Instant, step: &Step) -> Result<()> {
    let progress = |what: &str| step.detail("waiting for", what);
    manifest::wait(client, &objects(documents), deadline, progress).await.map_err(|at| placed(documents, &at))
}

fn objects(documents: &[Document]) -> Vec<Value> {
    documents.iter().map(|document| document.object.clone()).collect()
}

/// The error, with the file and document that it is about.
fn placed(documents: &[Document], at: &manifest::At) -> Error {
    let place = documents.get(at.index).map(Document::place).unwrap_or_default();
    let error = Error::new(at.error.code(), format!("{} ({place})", at.error.message()));
    let error = error.with_lines(at.error.lines().iter().cloned());
    match at.error.cause() {
        Some(cause) => error.because(cause),
        None => error,
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
