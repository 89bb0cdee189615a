//! Node objects, and the pods that have to leave a node before it goes.

use http::Method;
use serde_json::{Value, json};

use crate::kubernetes::client::{Client, Failure};
use crate::kubernetes::object;

/// What happens to a pod when its node is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is evicted, and its controller replaces it elsewhere.
    Evicted,
    /// It ends with the node: the pod of a `DaemonSet`, one that the node runs by itself, or one that has ended.
    Stays,
    /// It has no controller, so nothing replaces it.
    Lost,
}

/// What happens to this pod.
pub fn fate(pod: &Value) -> Fate {
    let is_mirror = pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string();
    let has_ended = ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase);
    let owners = pod["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let controller = owners.iter().find(|owner| owner["controller"] == true);
    match controller {
        _ if is_mirror || has_ended => Fate::Stays,
        Some(owner) if owner["kind"] == "DaemonSet" => Fate::Stays,
        Some(_) => Fate::Evicted,
        None => Fate::Lost,
    }
}

/// Whether the pod keeps data in a directory that ends with it.
pub fn has_own_data(pod: &Value) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
    // A directory in memory is not meant to last.
    volumes.iter().any(|volume| volume["emptyDir"].is_object() && volume["emptyDir"]["medium"] != "Memory")
}

/// The pods of a node, in all namespaces.
pub async fn pods_on(client: &Client, node: &str) -> Result<Vec<Value>, Failure> {
    let list = client.get(&format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")).await?;
    Ok(object::items(&list).to_vec())
}

/// The Node object, if it exists.
pub async fn find_node(client: &Client, name: &str) -> Result<Option<Value>, Failure> {
    found(client.get(&format!("/api/v1/nodes/{name}")).await)
}

/// Keeps new pods off a node, or lets them come again.
pub async fn set_schedulable(client: &Client, name: &str, schedulable: bool) -> Result<(), Failure> {
    let change = json!({"spec": {"unschedulable": if schedulable { Value::Null } else { json!(true) }}});
    let path = format!("/api/v1/nodes/{name}");
    found(client.send(Method::PATCH, &path, "application/merge-patch+json", Some(&change)).await).map(drop)
}

/// Removes a Node object, or only the one with this UID. Succeeds if it does not exist.
pub async fn remove_node(client: &Client, name: &str, uid: Option<&str>) -> Result<(), Failure> {
    let path = format!("/api/v1/nodes/{name}");
    let condition = uid.map(|uid| json!({"preconditions": {"uid": uid}}));
    match client.send(Method::DELETE, &path, "application/json", condition.as_ref()).await {
        // It is another one by now.
        Err(Failure::Status(409, ..)) if uid.is_some() => Ok(()),
        answer => found(answer).map(drop),
    }
}

/// Removes a pod whose node is gone, without waiting for a kubelet. Succeeds if it does not exist.
pub async fn remove_pod(client: &Client, pod: &Value) -> Result<(), Failure> {
    let now = json!({"gracePeriodSeconds": 0});
    found(client.send(Method::DELETE, &path(pod), "application/json", Some(&now)).await).map(drop)
}

/// Asks for the eviction of a pod. `Ok(false)` if a `PodDisruptionBudget` does not allow it now.
pub async fn evict(client: &Client, pod: &Value) -> Result<bool, Failure> {
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": object::name(pod), "namespace": object::namespace(pod)},
        // A successor of the same name, as a StatefulSet makes it, is not evicted again.
        "deleteOptions": {"preconditions": {"uid": pod["metadata"]["uid"]}},
    });
    let path = format!("{}/eviction", path(pod));
    match client.send(Method::POST, &path, "application/json", Some(&eviction)).await {
        Ok(_) | Err(Failure::Status(404 | 409, ..)) => Ok(true),
        Err(Failure::Status(429, ..)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// The `PodDisruptionBudget`s that are for this pod and allow no disruption now, each with its reason.
pub async fn blocking_budgets(client: &Client, pod: &Value) -> Result<Vec<String>, Failure> {
    let namespace = object::namespace(pod).unwrap_or_default();
    let list = client.get(&format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets")).await?;
    let budgets = object::items(&list).iter().filter(|budget| selects(&budget["spec"]["selector"], pod));
    Ok(budgets.filter_map(reason).collect())
}

/// Why a budget allows no disruption, if that is so.
fn reason(budget: &Value) -> Option<String> {
    let status = &budget["status"];
    if status["disruptionsAllowed"].as_u64().unwrap_or_default() > 0 {
        return None;
    }
    let (wanted, healthy) = (&status["desiredHealthy"], &status["currentHealthy"]);
    let name = object::name(budget);
    Some(format!("the PodDisruptionBudget `{name}` forbids it (healthy pods: {healthy}, needed: {wanted})"))
}

/// Whether a label selector selects this pod.
fn selects(selector: &Value, pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    let wanted = selector["matchLabels"].as_object();
    let equal = wanted.is_none_or(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value));
    let expressions = selector["matchExpressions"].as_array().map(Vec::as_slice).unwrap_or_default();
    selector.is_object()
        && equal
        && expressions.iter().all(|expression| {
            let value = &labels[expression["key"].as_str().unwrap_or_default()];
            let is_in = expression["values"].as_array().is_some_and(|values| values.contains(value));
            match expression["operator"].as_str() {
                Some("In") => is_in,
                Some("NotIn") => !is_in,
                Some("Exists") => value.is_string(),
                Some("DoesNotExist") => value.is_null(),
                _ => false,
            }
        })
}

fn path(pod: &Value) -> String {
    let namespace = object::namespace(pod).unwrap_or_default();
    format!("/api/v1/namespaces/{namespace}/pods/{}", object::name(pod))
}

/// The answer about something that may not exist.
fn found(answer: Result<Value, Failure>) -> Result<Option<Value>, Failure> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Status(404, ..)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_that_someone_replaces_are_evicted() {
        let pod =
            |owner: Value, phase: &str| json!({"metadata": {"ownerReferences": owner}, "status": {"phase": phase}});
        let owner = |kind: &str| json!([{"kind": kind, "controller": true}]);
        assert_eq!(fate(&pod(owner("ReplicaSet"), "Running")), Fate::Evicted);
        assert_eq!(fate(&pod(owner("DaemonSet"), "Running")), Fate::Stays);
        assert_eq!(fate(&pod(owner("Job"), "Succeeded")), Fate::Stays);
        assert_eq!(fate(&pod(json!([]), "Running")), Fate::Lost);
        // An owner that only cleans up is no controller.
        assert_eq!(fate(&pod(json!([{"kind": "ReplicaSet"}]), "Pending")), Fate::Lost);
        let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
        assert_eq!(fate(&mirror), Fate::Stays);
    }

    #[test]
    fn data_in_memory_is_not_meant_to_last() {
        let pod = |directory: Value| json!({"spec": {"volumes": [{"emptyDir": directory}]}});
        assert!(has_own_data(&pod(json!({}))));
        assert!(!has_own_data(&pod(json!({"medium": "Memory"}))));
        assert!(!has_own_data(&json!({"spec": {"volumes": [{"configMap": {}}]}})));
    }

    #[test]
    fn the_budget_that_is_for_a_pod_is_found_by_its_selector() {
        let pod = json!({"metadata": {"labels": {"app": "web", "tier": "a"}}});
        assert!(selects(&json!({"matchLabels": {"app": "web"}}), &pod));
        assert!(selects(&json!({}), &pod));
        assert!(!selects(&Value::Null, &pod));
        assert!(!selects(&json!({"matchLabels": {"app": "web", "tier": "b"}}), &pod));
        let expression = |operator: &str, key: &str, values: Value| {
            selects(&json!({"matchExpressions": [{"operator": operator, "key": key, "values": values}]}), &pod)
        };
        assert!(expression("In", "tier", json!(["a", "b"])) && !expression("NotIn", "tier", json!(["a"])));
        assert!(expression("Exists", "app", json!([])) && expression("DoesNotExist", "x", json!([])));
    }

    #[test]
    fn a_budget_blocks_only_if_it_allows_nothing() {
        let budget = |allowed: u64| json!({"metadata": {"name": "web"}, "status": {"disruptionsAllowed": allowed, "desiredHealthy": 2, "currentHealthy": 2}});
        assert_eq!(reason(&budget(1)), None);
        let expected = "the PodDisruptionBudget `web` forbids it (healthy pods: 2, needed: 2)";
        assert_eq!(reason(&budget(0)).unwrap(), expected);
    }
}
