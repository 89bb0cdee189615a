//! What a cluster records of its add-ons: one ConfigMap each.

use serde_json::{Value, json};

use crate::catalog::Addon;
use crate::cluster::addon::objects::{ADDON_LABEL, identity};
use crate::error::Result;
use crate::kubernetes::{Client, object};

const NAMESPACE: &str = "kube-system";

/// An add-on that a cluster has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Enabled {
    pub name: String,
    pub version: String,
    /// Another add-on required it; it was not enabled by name.
    pub automatic: bool,
    /// Add-ons that it requires.
    pub requires: Vec<String>,
    /// What identifies its objects, in the order in which they were applied.
    pub objects: Vec<Value>,
}

/// The object that records that an add-on is enabled, and what belongs to it.
pub(crate) fn marker(addon: &Addon, objects: &[Value], automatic: bool) -> Value {
    let objects: Vec<Value> = objects.iter().map(identity).collect();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name(&addon.name),
            "namespace": NAMESPACE,
            "labels": {ADDON_LABEL: addon.name},
        },
        "data": {
            "version": addon.about.version,
            "automatic": automatic.to_string(),
            "requires": addon.about.requires.join(" "),
            "objects": json!(objects).to_string(),
        },
    })
}

fn name(addon: &str) -> String {
    format!("coracle-addon-{addon}")
}

/// What identifies the marker of an add-on.
pub(crate) fn marker_of(addon: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name(addon), "namespace": NAMESPACE}})
}

/// The add-ons that the cluster has, by name.
pub(super) async fn enabled(client: &Client) -> Result<Vec<Enabled>> {
    let list = client.get(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector={ADDON_LABEL}")).await?;
    Ok(read(&list))
}

fn read(list: &Value) -> Vec<Enabled> {
    let enabled = |item: &Value| {
        let addon = item["metadata"]["labels"][ADDON_LABEL].as_str()?;
        // An add-on may have ConfigMaps of its own in this namespace.
        (object::name(item) == name(addon)).then_some(())?;
        let text = |field: &str| item["data"][field].as_str().unwrap_or_default();
        Some(Enabled {
            name: addon.to_owned(),
            version: text("version").to_owned(),
            automatic: text("automatic") == "true",
            requires: text("requires").split_whitespace().map(str::to_owned).collect(),
            objects: serde_json::from_str(text("objects")).unwrap_or_default(),
        })
    };
    object::items(list).iter().filter_map(enabled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;

    #[test]
    fn a_marker_is_read_back() {
        let addon = catalog::get("ingress").unwrap();
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ingress", "labels": {}}});
        let own = json!({"metadata": {"name": "other", "labels": {ADDON_LABEL: "ingress"}}});
        let list = json!({"items": [own, marker(&addon, &[object], true)]});
        let read = read(&list);
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].name.as_str(), read[0].automatic), ("ingress", true));
        assert_eq!(read[0].requires, ["gateway-api"]);
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ingress"}});
        assert_eq!(read[0].objects, [object]);
    }
}
