//! One kubeconfig file's text: what is in it, and the two changes that coracle makes.

use serde_json::{Value, json};

use super::Entry;
use super::edit::{Failure, SKELETON, is_entry, items_of, remove_entries, root_of, set_current_context, set_entry};
use super::outline::{Flaw, Node};
use super::proof::prove;
use crate::error::Result as CrateResult;

/// The three lists of a kubeconfig; an entry of coracle's has one item in each, all of one name.
pub(super) const LISTS: [&str; 3] = ["clusters", "contexts", "users"];

/// What a merge puts into one file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changes {
    /// Which of [`LISTS`] get the entry's item.
    pub(super) lists: [bool; 3],
    /// The current context becomes the entry.
    pub(super) current: bool,
}

impl Changes {
    pub(super) fn any(self) -> bool {
        self.current || self.lists.contains(&true)
    }
}

/// Says in which of [`LISTS`] `name` is.
pub(super) fn lists_with(text: &str, name: &str) -> Result<[bool; 3], Flaw> {
    let (_, body) = split_mark(text);
    let mut found = [false; 3];
    if let Some(root) = root_of(body)? {
        for (found, list) in found.iter_mut().zip(LISTS) {
            *found = items_of(&root, list)?.iter().any(|item| is_entry(item, name));
        }
    }
    Ok(found)
}

/// The entry's items, in the order of [`LISTS`], as kubectl's schema has them.
pub(super) fn items(entry: &Entry) -> [Value; 3] {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let name = &entry.name;
    let [authority, certificate, key] =
        [&entry.ca_pem, &entry.client_cert_pem, &entry.client_key_pem].map(|pem| STANDARD.encode(pem));
    [
        json!({ "name": name, "cluster": { "certificate-authority-data": authority, "server": entry.server } }),
        json!({ "name": name, "context": { "cluster": name, "user": name } }),
        json!({ "name": name, "user": { "client-certificate-data": certificate, "client-key-data": key } }),
    ]
}

/// A whole kubeconfig with only the entry in it.
pub(super) fn standalone(entry: &Entry) -> CrateResult<String> {
    let [cluster, context, user] = items(entry);
    crate::yaml::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "contexts": [context],
        "users": [user],
        "current-context": entry.name,
    }))
}

/// Returns `text` with the entry merged into it.
pub(super) fn merged(text: &str, entry: &Entry, changes: Changes) -> Result<String, Failure> {
    let (mark, body) = split_mark(text);
    let mut new = if body.trim().is_empty() { SKELETON.to_owned() } else { body.to_owned() };
    let ours = own_context_is_there(&new, &entry.name)?;
    for ((list, item), wanted) in LISTS.into_iter().zip(items(entry)).zip(changes.lists) {
        // A context of ours may have got a namespace since; it stays.
        if wanted && !(list == "contexts" && ours) {
            new = set_entry(&new, list, &entry.name, &item)?;
        }
    }
    if changes.current {
        new = set_current_context(&new, &entry.name)?;
    }
    prove(body, &new, &entry.name, changes)?;
    Ok(format!("{mark}{new}"))
}

/// Returns `text` without the entry, and `None` if it has nothing of it.
pub(super) fn removed(text: &str, name: &str) -> Result<Option<String>, Failure> {
    let (mark, body) = split_mark(text);
    let current = current_context(body)?.as_deref() == Some(name);
    if !current && lists_with(body, name)? == [false; 3] {
        return Ok(None);
    }
    let mut new = body.to_owned();
    for list in LISTS {
        new = remove_entries(&new, list, name)?;
    }
    if current {
        new = set_current_context(&new, "")?;
    }
    prove(body, &new, name, Changes::default())?;
    Ok(Some(format!("{mark}{new}")))
}

/// The current context that the text sets.
fn current_context(body: &str) -> Result<Option<String>, Flaw> {
    Ok(root_of(body)?.and_then(|root| root.get("current-context").and_then(Node::text).map(str::to_owned)))
}

/// Says if the one context `name` is there and is for the cluster and user of that name.
fn own_context_is_there(body: &str, name: &str) -> Result<bool, Flaw> {
    let Some(root) = root_of(body)? else { return Ok(false) };
    let mut contexts = items_of(&root, "contexts")?.iter().filter(|item| is_entry(item, name));
    let refers =
        |item: &Node, key| item.get("context").and_then(|context| context.get(key)).and_then(Node::text) == Some(name);
    Ok(match (contexts.next(), contexts.next()) {
        (Some(item), None) => refers(item, "cluster") && refers(item, "user"),
        _ => false,
    })
}

/// Cuts off the byte order mark, which is not part of the YAML.
pub(super) fn split_mark(text: &str) -> (&str, &str) {
    match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    }
}
