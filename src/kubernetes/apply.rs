//! Server-side apply, patient with an API server that is still starting.

use futures_util::future::try_join_all;
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::error::{Code, Error, Result};
use crate::kubernetes::client::{Client, Failure};
use crate::kubernetes::object::{self, title};
use crate::kubernetes::retry::{retry, retry_write};

/// The field manager that the API server records.
const MANAGER: &str = "coracle";
/// The API path of an object's collection.
pub fn collection(object: &Value) -> Option<String> {
    let version = object["apiVersion"].as_str()?;
    let root = root(version);
    let plural = plural(object["kind"].as_str()?);
    Some(match object::namespace(object) {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    })
}

/// The API path of a group and version.
pub(super) fn root(version: &str) -> String {
    if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") }
}

/// The resource name of a kind, by the rule that all of Kubernetes' own kinds follow.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    if kind.ends_with("ss") || kind.ends_with('x') {
        format!("{kind}es")
    } else if kind.ends_with("cy") {
        format!("{}ies", &kind[..kind.len() - 1])
    } else if kind == "endpoints" {
        kind
    } else {
        format!("{kind}s")
    }
}

/// Creates objects, namespaces before all others, and returns these others as the API server completed them. What exists already
/// is applied: that takes the API server longer, which notes whose each field is only of what was applied.
pub async fn create_all(client: &Client, objects: &[Value], deadline: Instant) -> Result<Vec<Value>> {
    let (namespaces, others): (Vec<&Value>, Vec<&Value>) =
        objects.iter().partition(|object| object["kind"] == "Namespace");
    try_join_all(namespaces.into_iter().map(|object| create_or_apply(client, object, deadline))).await?;
    try_join_all(others.into_iter().map(|object| create_or_apply(client, object, deadline))).await
}

async fn create_or_apply(client: &Client, object: &Value, deadline: Instant) -> Result<Value> {
    // Of a Service that exists, the API server says that its address is taken.
    if object["kind"] == "Service" {
        return apply(client, object, deadline).await;
    }
    match post(client, &collection_to_create(object)?, object, deadline).await {
        Err(Failure::Status(409, ..)) => apply(client, object, deadline).await,
        answer => answer.map_err(|failure| not_created(object, failure.text())),
    }
}

/// Applies one object and returns it as the API server completed it.
pub async fn apply(client: &Client, object: &Value, deadline: Instant) -> Result<Value> {
    let what = || format!("cannot apply {}", title(object));
    let collection = collection(object)
        .ok_or_else(|| Error::new(Code::ApiFailed, what()).because("it has no apiVersion or kind"))?;
    let path = format!("{collection}/{}", object::name(object));
    patch(client, &path, object, deadline)
        .await
        .map_err(|failure| Error::new(Code::ApiFailed, what()).because(failure.text()))
}

/// Applies an object at its path and returns it as the API server completed it.
pub(super) async fn patch(client: &Client, path: &str, object: &Value, deadline: Instant) -> Result<Value, Failure> {
    let path = format!("{path}?fieldManager={MANAGER}&force=true");
    retry_write(deadline, || client.send(Method::PATCH, &path, "application/apply-patch+yaml", Some(object))).await
}

/// Creates an object and returns it as the API server completed it.
pub async fn create(client: &Client, object: &Value, deadline: Instant) -> Result<Value> {
    let collection = collection_to_create(object)?;
    post(client, &collection, object, deadline).await.map_err(|failure| not_created(object, failure.text()))
}

fn collection_to_create(object: &Value) -> Result<String> {
    collection(object).ok_or_else(|| not_created(object, "it has no apiVersion or kind"))
}

async fn post(client: &Client, collection: &str, object: &Value, deadline: Instant) -> Result<Value, Failure> {
    let mut is_lost = false;
    let created = retry_write(deadline, async || {
        let answer = client.send(Method::POST, collection, "application/json", Some(object)).await;
        match answer {
            // The attempt whose answer was lost has created it.
            Err(Failure::Status(409, ..)) if is_lost => {
                client.get(&format!("{collection}/{}", object::name(object))).await
            }
            answer => {
                is_lost |= matches!(answer, Err(Failure::Lost(_)));
                answer
            }
        }
    });
    created.await
}

fn not_created(object: &Value, cause: &str) -> Error {
    Error::new(Code::ApiFailed, format!("cannot create {}", title(object))).because(cause)
}

/// Creates a Node object. If the kubelet was faster, the missing parts are patched in.
pub async fn create_node(client: &Client, node: &Value, deadline: Instant) -> Result<()> {
    let created = retry(deadline, || client.send(Method::POST, "/api/v1/nodes", "application/json", Some(node))).await;
    let Err(failure) = created else { return Ok(()) };
    let failed = |failure: Failure| not_created(node, failure.text());
    if !matches!(failure, Failure::Status(409, ..)) {
        return Err(failed(failure));
    }
    let path = format!("/api/v1/nodes/{}", object::name(node));
    let missing = json!({
        "metadata": {"labels": node["metadata"]["labels"], "annotations": node["metadata"]["annotations"]},
        "spec": {"podCIDR": node["spec"]["podCIDR"], "podCIDRs": node["spec"]["podCIDRs"]},
    });
    let merge = "application/strategic-merge-patch+json";
    match retry(deadline, || client.send(Method::PATCH, &path, merge, Some(&missing))).await {
        Ok(_) => Ok(()),
        // The controller manager was faster, too, and gave it other subnets, which an object keeps.
        Err(Failure::Status(422, ..)) => replace_node(client, &path, node, deadline).await.map_err(failed),
        Err(failure) => Err(failed(failure)),
    }
}

/// Puts a Node object into the place of the one that its kubelet has created, which it differs from in what the plan says. The
/// kubelet registers only when it starts, so the rest of what it said is kept.
async fn replace_node(client: &Client, path: &str, node: &Value, deadline: Instant) -> Result<(), Failure> {
    let found = retry(deadline, || client.get(path)).await?;
    let successor = successor(&found, node);
    let precondition = json!({"preconditions": {"uid": found["metadata"]["uid"]}});
    let kind = "application/json";
    match retry(deadline, || client.send(Method::DELETE, path, kind, Some(&precondition))).await {
        // An attempt whose answer was lost has removed it.
        Ok(_) | Err(Failure::Status(404, ..)) => {}
        Err(failure) => return Err(failure),
    }
    match retry(deadline, || client.send(Method::POST, "/api/v1/nodes", kind, Some(&successor))).await {
        Ok(_) | Err(Failure::Status(409, ..)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn successor(found: &Value, node: &Value) -> Value {
    let mut successor = found.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in node["metadata"][field].as_object().into_iter().flatten() {
            successor["metadata"][field][key] = value.clone();
        }
    }
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        successor["metadata"].as_object_mut().and_then(|metadata| metadata.remove(field));
    }
    for field in ["podCIDR", "podCIDRs"] {
        successor["spec"][field] = node["spec"][field].clone();
    }
    successor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_has_the_subnets_of_the_plan_and_all_else_that_its_kubelet_said() {
        let found = json!({
            "metadata": {"name": "n", "uid": "1", "resourceVersion": "2", "labels": {"os": "linux"}},
            "spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24"], "providerID": "p"},
            "status": {"capacity": {"cpu": "2"}},
        });
        let node = json!({
            "metadata": {"name": "n", "labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"], "taints": []},
        });
        assert_eq!(
            successor(&found, &node),
            json!({
                "metadata": {"name": "n", "labels": {"os": "linux", "a": "b"}, "annotations": {"c": "d"}},
                "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"], "providerID": "p"},
                "status": {"capacity": {"cpu": "2"}},
            })
        );
    }

    #[test]
    fn paths_follow_group_kind_and_namespace() {
        let path = |value: Value| collection(&value).unwrap();
        assert_eq!(path(json!({"apiVersion": "v1", "kind": "Node"})), "/api/v1/nodes");
        assert_eq!(
            path(json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass"})),
            "/apis/storage.k8s.io/v1/storageclasses"
        );
        assert_eq!(
            path(
                json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": "a"}})
            ),
            "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies"
        );
        assert_eq!(
            path(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"namespace": "a"}})),
            "/apis/networking.k8s.io/v1/namespaces/a/ingresses"
        );
    }
}
