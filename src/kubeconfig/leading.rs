//! What in a kubeconfig leads to a cluster.

use super::edit::{is_entry, items_of, root_of};
use crate::yaml::outline::{Flaw, Node};

/// The contexts of other names that lead to the cluster `name`: renamed ones, and those of other users.
pub(super) fn leading_to(body: &str, name: &str) -> Result<Vec<String>, Flaw> {
    let Some(root) = root_of(body)? else { return Ok(Vec::new()) };
    let contexts = items_of(&root, "contexts")?;
    let leads =
        |item: &Node| item.get("context").and_then(|context| context.get("cluster")).and_then(Node::text) == Some(name);
    let names = contexts.iter().filter(|item| leads(item)).filter_map(|item| item.get("name").and_then(Node::text));
    let mut names: Vec<String> = names.filter(|other| *other != name).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    // Of several contexts with one name, kubectl uses one; if some lead elsewhere, all of them are left alone.
    names.retain(|other| contexts.iter().filter(|item| is_entry(item, other)).all(leads));
    Ok(names)
}

/// The authority of the cluster `name`, as the text has it: base64.
pub(super) fn authority(body: &str, name: &str) -> Result<Option<String>, Flaw> {
    let Some(root) = root_of(body)? else { return Ok(None) };
    let found = items_of(&root, "clusters")?.iter().find(|item| is_entry(item, name));
    let value = found.and_then(|item| item.get("cluster")).and_then(|item| item.get("certificate-authority-data"));
    Ok(value.and_then(Node::text).map(str::to_owned))
}
