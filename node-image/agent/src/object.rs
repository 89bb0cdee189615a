//! What is common to the objects that the agent watches.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An object as the API sends it. A type of it has the fields that the agent acts on and no others: what a type lacks is
/// skipped while parsing, so it takes no memory.
pub(crate) trait Object: Clone + DeserializeOwned {
    /// Path of all objects of the type, in all namespaces.
    const PATH: &'static str;
    /// What tells objects of the type apart: the name, or namespace and name.
    type Key: Ord;
    /// What the agent keeps of an object; when that is the same after a change, nobody is told.
    type Value: PartialEq;

    /// Name and version.
    fn metadata(&self) -> &Metadata;

    /// What is kept, under which key; `None` for an object that is none of the agent's business (any more).
    fn into_entry(self) -> (Self::Key, Option<Self::Value>);
}

/// All objects of a type that matter.
pub(crate) type Objects<O> = BTreeMap<<O as Object>::Key, <O as Object>::Value>;

/// The metadata that a watch needs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    /// Name of the object; empty for a list.
    #[serde(default)]
    pub(crate) name: String,
    /// Where a watch goes on from.
    #[serde(default)]
    pub(crate) resource_version: String,
}
