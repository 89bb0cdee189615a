//! What every object of Kubernetes has. Pure.

use serde_json::Value;

/// The name of an object; empty if it has none.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The namespace that an object names.
pub fn namespace(object: &Value) -> Option<&str> {
    object["metadata"]["namespace"].as_str()
}

/// `NAMESPACE/NAME`, or `NAME` for an object without a namespace.
pub fn key(object: &Value) -> String {
    match namespace(object) {
        Some(namespace) => format!("{namespace}/{}", name(object)),
        None => name(object).to_owned(),
    }
}

/// The kind and key of an object, such as ``Deployment `default/web` ``.
pub fn title(object: &Value) -> String {
    format!("{} `{}`", object["kind"].as_str().unwrap_or_default(), key(object))
}

/// The objects of a list.
pub fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_is_named_only_where_there_is_one() {
        let pod = json!({"kind": "Pod", "metadata": {"name": "a", "namespace": "b"}});
        assert_eq!((key(&pod).as_str(), title(&pod).as_str()), ("b/a", "Pod `b/a`"));
        let node = json!({"kind": "Node", "metadata": {"name": "a"}});
        assert_eq!((key(&node).as_str(), title(&node).as_str()), ("a", "Node `a`"));
        assert_eq!(title(&Value::Null), " ``");
        assert!(items(&Value::Null).is_empty());
    }
}
