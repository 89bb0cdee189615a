//! Which resource a kind belongs to, as the API server reports it: custom kinds are not known in advance.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::sync::Mutex;

use crate::kubernetes::apply::root;
use crate::kubernetes::client::{Client, Failure};
use crate::kubernetes::object;

/// What the API server serves, asked once per group and version.
pub(super) struct Resources<'a> {
    client: &'a Client,
    known: Mutex<BTreeMap<String, Vec<Resource>>>,
}

/// A kind of a group and version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Resource {
    kind: String,
    plural: String,
    namespaced: bool,
}

impl<'a> Resources<'a> {
    /// Nothing is known yet.
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client, known: Mutex::new(BTreeMap::new()) }
    }

    /// The path of an object, in `default` if it names no namespace; `None` if its kind is not served (yet).
    pub(super) async fn path(&self, object: &Value) -> Result<Option<String>, Failure> {
        let version = object["apiVersion"].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        let mut known = self.known.lock().await;
        let of = |list: &[Resource]| list.iter().find(|resource| resource.kind == kind).cloned();
        let mut resource = known.get(version).and_then(|list| of(list));
        if resource.is_none() {
            let list = match self.client.get(&root(version)).await {
                Ok(list) => list,
                Err(Failure::Status(404, ..)) => return Ok(None),
                Err(failure) => return Err(failure),
            };
            let list = resources(&list);
            resource = of(&list);
            known.insert(version.to_owned(), list);
        }
        Ok(resource.map(|resource| path(version, &resource, object)))
    }
}

fn path(version: &str, resource: &Resource, object: &Value) -> String {
    let name = object::name(object);
    let (root, plural) = (root(version), &resource.plural);
    if resource.namespaced {
        let namespace = object::namespace(object).unwrap_or("default");
        format!("{root}/namespaces/{namespace}/{plural}/{name}")
    } else {
        format!("{root}/{plural}/{name}")
    }
}

/// The resources of an `APIResourceList`, without subresources such as `pods/log`.
fn resources(list: &Value) -> Vec<Resource> {
    let items = list["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
    let resource = |item: &Value| {
        let plural = item["name"].as_str().filter(|name| !name.contains('/'))?;
        Some(Resource {
            kind: item["kind"].as_str()?.to_owned(),
            plural: plural.to_owned(),
            namespaced: item["namespaced"].as_bool()?,
        })
    };
    items.iter().filter_map(resource).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_has_a_namespace_only_if_the_kind_has_one() {
        let list = json!({"resources": [
            {"name": "pods/log", "kind": "Pod", "namespaced": true},
            {"name": "pods", "kind": "Pod", "namespaced": true},
            {"name": "nodes", "kind": "Node", "namespaced": false},
        ]});
        let found = resources(&list);
        assert_eq!(found.len(), 2);
        let object = json!({"metadata": {"name": "a"}});
        assert_eq!(path("v1", &found[0], &object), "/api/v1/namespaces/default/pods/a");
        assert_eq!(path("v1", &found[1], &object), "/api/v1/nodes/a");
        let own = Resource { kind: "Gateway".to_owned(), plural: "gateways".to_owned(), namespaced: true };
        let object = json!({"metadata": {"name": "a", "namespace": "b"}});
        assert_eq!(path("x.io/v1", &own, &object), "/apis/x.io/v1/namespaces/b/gateways/a");
    }
}
