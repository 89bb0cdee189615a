//! Documents that are put together from the configuration of another tool.

use serde_json::{Map, Value as Json, json};

/// Variables that nodes get from the environment of `create cluster`, and from no file.
pub(super) const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// Adds an item to a list in a mapping.
pub(super) fn push(target: &mut Map<String, Json>, name: &str, item: Json) {
    if let Some(Json::Array(items)) = target.get_mut(name) {
        items.push(item);
    } else {
        target.insert(name.to_owned(), json!([item]));
    }
}

/// Sets an entry of a mapping in a mapping.
pub(super) fn insert(target: &mut Map<String, Json>, name: &str, key: &str, value: Json) {
    target.entry(name.to_owned()).or_insert_with(|| json!({}))[key] = value;
}
