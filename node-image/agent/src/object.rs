//! What the objects that the agent watches have in common.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An object as the API sends it. A type has only the fields that the agent acts on: other fields are skipped while
/// parsing, so they take no memory.
pub(crate) trait Object: Clone + DeserializeOwned {
    /// Path of all objects of the type, in all namespaces.
    const PATH: &'static str;
    /// Selects some of them, as a query of the API does; all of them if empty.
    const FIELD_SELECTOR: &'static str = "";
    /// Identifies an object of the type: the name, or namespace and name.
    type Key: Ord;
    /// What the agent keeps of an object; if a change leaves it the same, no receiver is woken.
    type Value: PartialEq;

    /// Name and version.
    fn metadata(&self) -> &Metadata;

    /// What is kept, and under which key; `None` for an object that does not concern the agent (any longer).
    fn into_entry(self) -> (Self::Key, Option<Self::Value>);
}

/// All objects of a type that concern the agent.
pub(crate) type Objects<O> = BTreeMap<<O as Object>::Key, <O as Object>::Value>;

/// Name of an object that belongs to a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamespacedName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// The metadata that matters for any of the types.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    /// Name of the object; empty for a list.
    pub(crate) name: String,
    /// Empty for an object that belongs to no namespace.
    pub(crate) namespace: String,
    pub(crate) uid: String,
    /// Where a watch continues.
    pub(crate) resource_version: String,
    /// As the API writes it; it sorts by time.
    pub(crate) creation_timestamp: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: Annotations,
}

/// The annotations that matter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Annotations {
    /// On the mirror of a static pod: the ID by which the kubelet knows the pod.
    #[serde(rename = "kubernetes.io/config.hash")]
    pub(crate) config_hash: Option<String>,
    /// On a Node that has all labels of its node's configuration.
    #[serde(rename = "dev.coracle.labelled")]
    pub(crate) labelled: Option<String>,
}

impl Metadata {
    pub(crate) fn into_key(self) -> NamespacedName {
        NamespacedName { namespace: self.namespace, name: self.name }
    }
}
