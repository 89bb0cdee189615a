//! The files of `manifests:`: read completely before anything is made, applied once the cluster is usable.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::engine::Engine;
use crate::error::{Code, Error, Problem, Result, counted};
use crate::image;
use crate::kubernetes::{Client, manifest};
use crate::ui::Step;

/// Extensions of files that are read in a directory.
const EXTENSIONS: &[&str] = &["yaml", "yml", "json"];

/// An object of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub file: PathBuf,
    /// The number of the document in the file, from 1.
    pub number: usize,
    pub object: Value,
}

impl Document {
    fn place(&self) -> String {
        place(&self.file, self.number)
    }
}

fn place(file: &Path, number: usize) -> String {
    format!("{}, document {number}", file.display())
}

/// The objects to apply, or everything that is wrong with the manifests and images of a configuration.
pub(super) async fn check(engine: &dyn Engine, manifests: &[String], images: &[String]) -> Result<Vec<Document>> {
    let (documents, mut problems) = read(manifests);
    let absent = image::check_docker_images(engine, images).await;
    if problems.is_empty() {
        return absent.map(|()| documents);
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

/// All objects of files and directories, and everything that is wrong with them.
fn read(paths: &[String]) -> (Vec<Document>, Vec<Problem>) {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match files(Path::new(path)) {
            Ok(files) => {
                for file in files {
                    match std::fs::read_to_string(&file) {
                        Ok(text) => read_text(&file, &text, &mut documents, &mut problems),
                        Err(source) => problems.push(problem(file.display().to_string(), source.to_string())),
                    }
                }
            }
            Err(message) => problems.push(problem(path.clone(), message)),
        }
    }
    (documents, problems)
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

fn read_text(file: &Path, text: &str, documents: &mut Vec<Document>, problems: &mut Vec<Problem>) {
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let number = index + 1;
        let read = serde_yaml::Value::deserialize(document).and_then(|mut value| {
            value.apply_merge()?;
            serde_json::to_value(value).map_err(serde::de::Error::custom)
        });
        let object: Value = match read {
            Ok(object) => object,
            Err(error) => {
                let at = error.location().map(|at| format!("{}:{}:{}", file.display(), at.line(), at.column()));
                problems.push(problem(at.unwrap_or_else(|| place(file, number)), error.to_string()));
                // After a syntax error the next document cannot be found.
                return;
            }
        };
        let is_list = object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        let objects = match object["items"].as_array() {
            Some(items) if is_list => items.clone(),
            _ if object.is_null() => Vec::new(),
            _ => vec![object],
        };
        for object in objects {
            match incomplete(&object) {
                Some(what) => problems.push(problem(place(file, number), what)),
                None => documents.push(Document { file: file.to_owned(), number, object }),
            }
        }
    }
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
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::kubernetes::object;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    const GOOD: &str = "\
# a comment, which is no document of its own
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: b}}
- {apiVersion: v1, kind: Secret, metadata: {name: c}}
";

    #[tokio::test]
    async fn objects_come_in_the_order_of_names_and_documents() {
        let json = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "d"}}"#;
        let directory = directory(&[("b.json", json), ("a.yaml", GOOD), ("notes.txt", "not: [this")]);
        let path = directory.path().display().to_string();
        let found = check(&FakeEngine::new(&[]), &[path], &[]).await.unwrap();
        let names = found.iter().map(|document| (document.number, object::name(&document.object)));
        assert_eq!(names.collect::<Vec<_>>(), [(1, "a"), (3, "b"), (3, "c"), (1, "d")]);
    }

    #[tokio::test]
    async fn every_problem_is_reported_with_file_and_place() {
        let directory = directory(&[
            ("1.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nkind: Secret\n"),
            ("2.yaml", "a: 1\nb: [1, 2\nc: 3\n"),
            ("3.yaml", "just a word"),
        ]);
        let path = |name: &str| directory.path().join(name).display().to_string();
        let paths = [path("1.yaml"), path("2.yaml"), path("3.yaml"), path("4.yaml")];
        let engine: Arc<dyn Engine> = Arc::new(FakeEngine::new(&[]));
        let error = check(&*engine, &paths, &["t-none:1".to_owned()]).await.unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        let lines: Vec<_> =
            error.problems().iter().map(|problem| format!("{}: {}", problem.place, problem.message)).collect();
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(lines[0].contains("1.yaml, document 2: ") && lines[0].contains("apiVersion"), "{lines:#?}");
        assert!(lines[1].contains("2.yaml:3:"), "{lines:#?}");
        assert!(lines[2].contains("3.yaml, document 1: this is not a Kubernetes object"), "{lines:#?}");
        assert!(lines[3].contains("4.yaml: No such file"), "{lines:#?}");
        assert!(lines[4].starts_with("images: ") && lines[4].contains("t-none:1"), "{lines:#?}");
    }

    #[tokio::test]
    async fn an_image_alone_is_reported_as_by_load() {
        let error = check(&FakeEngine::new(&[]), &[], &["t-none:1".to_owned()]).await.unwrap_err();
        assert_eq!(error.code(), Code::ImageMissing);
    }

    #[test]
    fn merge_keys_are_merged() {
        let text = "x: &x {a: b}\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {<<: *x, c: d}\n";
        let (mut documents, mut problems) = (Vec::new(), Vec::new());
        read_text(Path::new("a"), text, &mut documents, &mut problems);
        assert_eq!(problems, []);
        assert_eq!(documents[0].object["data"], serde_json::json!({"a": "b", "c": "d"}));
    }
}
