//! From an add-on's manifest to its objects. Pure.

use serde_json::{Value, json};

use crate::error::Result;
use crate::plan::objects::documents;

/// Label of every object of an add-on, with the add-on's name.
pub(crate) const ADDON_LABEL: &str = "dev.coracle.addon";

/// The manifest with the image and the node of this cluster.
pub(crate) fn filled(manifest: &str, image: &str, node: &str) -> String {
    manifest.replace("{{ .Image }}", image).replace("{{ .Node }}", node)
}

/// The objects of a YAML stream, each with the add-on's label.
pub(crate) fn labelled(text: &str, name: &str) -> Result<Vec<Value>> {
    let mut objects = documents(text, &format!("the manifest of add-on `{name}`"))?;
    for object in &mut objects {
        let labels = &mut object["metadata"]["labels"];
        if !labels.is_object() {
            *labels = json!({});
        }
        labels[ADDON_LABEL] = json!(name);
        // No applier sets it: what a definition carries from its generator is not to be applied.
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
    }
    Ok(objects)
}

/// What identifies an object.
pub(crate) fn identity(object: &Value) -> Value {
    let mut metadata = json!({"name": object["metadata"]["name"]});
    if let Some(namespace) = object["metadata"].get("namespace") {
        metadata["namespace"] = namespace.clone();
    }
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;

    #[test]
    fn every_object_of_every_add_on_is_labelled_and_named() {
        for addon in catalog::all().unwrap() {
            let text = filled(&addon.manifest, "image:v1", "node");
            assert!(!text.contains("{{"), "{}", addon.name);
            for object in labelled(&text, &addon.name).unwrap() {
                assert_eq!(object["metadata"]["labels"][ADDON_LABEL], addon.name);
                assert!(identity(&object)["metadata"]["name"].is_string(), "{object}");
            }
        }
    }

    #[test]
    fn existing_labels_stay() {
        let text = "{kind: A, metadata: {name: a, labels: {x: y}}, status: {}}";
        let object = labelled(text, "one").unwrap().remove(0);
        assert_eq!(object["metadata"]["labels"], json!({"x": "y", ADDON_LABEL: "one"}));
        assert_eq!(object.get("status"), None);
        assert_eq!(identity(&object), json!({"apiVersion": null, "kind": "A", "metadata": {"name": "a"}}));
    }
}
