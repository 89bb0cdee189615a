//! Whether an object works, by the same fields that `kubectl rollout status` and `kubectl wait` look at. Pure.

use serde_json::Value;

use crate::kubernetes::object;

/// The state of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It works.
    Ready,
    /// It does not work yet, and why.
    Waiting(String),
    /// It will never work, and why.
    Failed(String),
}

/// Kinds that are awaited after they are applied.
const AWAITED: &[&str] = &["APIService", "CustomResourceDefinition", "DaemonSet", "Deployment", "Job", "StatefulSet"];

/// Whether an object of this kind is awaited.
pub fn is_awaited(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| AWAITED.contains(&kind))
}

/// The state of an object, from what the API reports.
pub fn state(object: &Value) -> State {
    let (spec, status) = (&object["spec"], &object["status"]);
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => {
            let state = rollout(object, number(&spec["replicas"], 1), &["updatedReplicas", "availableReplicas"]);
            let old = number(&status["replicas"], 0).saturating_sub(number(&status["updatedReplicas"], 0));
            if state == State::Ready && old > 0 {
                State::Waiting(format!("{old} old {} still running", if old == 1 { "pod is" } else { "pods are" }))
            } else {
                state
            }
        }
        // With `OnDelete` pods are updated only when a user deletes them.
        "StatefulSet" if spec["updateStrategy"]["type"] == "OnDelete" => {
            rollout(object, number(&spec["replicas"], 1), &["readyReplicas"])
        }
        "StatefulSet" => rollout(object, number(&spec["replicas"], 1), &["updatedReplicas", "readyReplicas"]),
        "DaemonSet" => {
            let desired = number(&status["desiredNumberScheduled"], 0);
            // As for a StatefulSet.
            let on_delete = spec["updateStrategy"]["type"] == "OnDelete";
            let fields = ["numberAvailable", "updatedNumberScheduled"];
            rollout(object, desired, &fields[..if on_delete { 1 } else { 2 }])
        }
        "Job" => job(object),
        "APIService" => condition(object, "Available"),
        "CustomResourceDefinition" => condition(object, "Established"),
        _ => State::Ready,
    }
}

/// A number of an object.
pub fn number(value: &Value, default: u64) -> u64 {
    value.as_u64().unwrap_or(default)
}

fn rollout(object: &Value, wanted: u64, fields: &[&str]) -> State {
    let status = &object["status"];
    if number(&status["observedGeneration"], 0) < number(&object["metadata"]["generation"], 0) {
        return State::Waiting("its controller has not processed it yet".to_owned());
    }
    if let Some(failed) = find(object, "Progressing")
        && failed["status"] == "False"
    {
        return State::Failed(text(&failed["message"]));
    }
    match fields.iter().map(|field| number(&status[*field], 0)).min() {
        Some(count) if count < wanted => State::Waiting(format!("{count} of {wanted} pods are ready")),
        _ => State::Ready,
    }
}

fn job(object: &Value) -> State {
    if find(object, "Complete").is_some_and(|condition| condition["status"] == "True")
        || object["spec"]["suspend"] == true
    {
        return State::Ready;
    }
    match find(object, "Failed") {
        Some(failed) if failed["status"] == "True" => State::Failed(text(&failed["message"])),
        _ => State::Waiting("it is not complete".to_owned()),
    }
}

fn condition(object: &Value, name: &str) -> State {
    match find(object, name) {
        Some(found) if found["status"] == "True" => State::Ready,
        Some(found) => State::Waiting(text(&found["message"])),
        None => State::Waiting(format!("it is not {name} yet")),
    }
}

/// The condition of this type in an object's status.
pub fn find<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}

/// Whether a pod says that it is ready.
pub fn is_ready(pod: &Value) -> bool {
    find(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("no reason was given").to_owned()
}

/// The containers of a pod's `spec`, init containers first.
pub fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().filter_map(|field| spec[field].as_array()).flatten()
}

/// The images of a pod, or of the pods of a workload.
pub fn images(object: &Value) -> impl Iterator<Item = &str> {
    let spec = &object["spec"];
    let job = &spec["jobTemplate"]["spec"];
    let specs = [spec, &spec["template"]["spec"], &job["template"]["spec"]];
    specs.into_iter().flat_map(containers).filter_map(|container| container["image"].as_str())
}

/// Where the pods of a workload are listed.
pub fn pods_path(object: &Value) -> Option<String> {
    let labels = object["spec"]["selector"]["matchLabels"].as_object()?;
    let namespace = object::namespace(object)?;
    let terms = labels.iter().filter_map(|(key, value)| Some(format!("{key}%3D{}", value.as_str()?)));
    let selector: Vec<String> = terms.map(|term| term.replace('/', "%2F")).collect();
    Some(format!("/api/v1/namespaces/{namespace}/pods?labelSelector={}", selector.join("%2C")))
}

/// The reasons why pods are not ready, a line per pod.
pub fn troubles(pods: &Value) -> Vec<String> {
    object::items(pods).iter().filter_map(trouble).collect()
}

/// The reason why a pod is not ready, or why it was not before its containers were started again.
pub fn trouble(pod: &Value) -> Option<String> {
    let name = object::name(pod);
    let containers = ["initContainerStatuses", "containerStatuses"];
    let statuses = containers.iter().filter_map(|field| pod["status"][*field].as_array()).flatten();
    for status in statuses {
        for state in [&status["state"]["waiting"], &status["state"]["terminated"], &status["lastState"]["terminated"]] {
            let reason = state["reason"].as_str().unwrap_or_default();
            if !["", "Completed", "ContainerCreating", "PodInitializing"].contains(&reason) {
                let message = state["message"].as_str().map(|message| format!(": {}", message.trim()));
                return Some(format!("pod {name}: {reason}{}", message.unwrap_or_default()));
            }
        }
    }
    let scheduled = find(pod, "PodScheduled").filter(|condition| condition["status"] == "False")?;
    Some(format!("pod {name}: {}", text(&scheduled["message"])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_is_ready_when_every_replica_of_its_last_version_is_available() {
        let deployment = |status: Value| json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status});
        let old = deployment(json!({"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 2}));
        assert!(matches!(state(&old), State::Waiting(cause) if cause.contains("controller")));
        let half = deployment(json!({"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 2}));
        assert_eq!(state(&half), State::Waiting("1 of 2 pods are ready".to_owned()));
        let whole = deployment(json!({"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2}));
        assert_eq!(state(&whole), State::Ready);
        let surplus = json!({"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 3, "replicas": 3});
        assert_eq!(state(&deployment(surplus)), State::Waiting("1 old pod is still running".to_owned()));
        let failed = json!([{"type": "Progressing", "status": "False", "message": "exceeded its progress deadline"}]);
        let stuck = deployment(json!({"observedGeneration": 2, "conditions": failed}));
        assert_eq!(state(&stuck), State::Failed("exceeded its progress deadline".to_owned()));
    }

    #[test]
    fn a_daemon_set_that_no_controller_has_seen_is_not_ready() {
        let set = |status: Value| json!({"kind": "DaemonSet", "metadata": {"generation": 1}, "status": status});
        assert!(matches!(state(&set(json!({}))), State::Waiting(_)));
        let none = json!({"observedGeneration": 1, "desiredNumberScheduled": 0});
        assert_eq!(state(&set(none)), State::Ready);
        let old = json!({"observedGeneration": 1, "desiredNumberScheduled": 1, "numberAvailable": 1});
        let mut set = set(old);
        assert!(matches!(state(&set), State::Waiting(_)));
        set["spec"] = json!({"updateStrategy": {"type": "OnDelete"}});
        assert_eq!(state(&set), State::Ready);
    }

    #[test]
    fn the_images_of_a_pod_and_of_templates_are_found() {
        let pod = json!({"initContainers": [{"image": "a"}], "containers": [{"image": "b"}, {"image": "c"}]});
        let found = |object: Value| images(&object).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(found(json!({"spec": pod})), ["a", "b", "c"]);
        assert_eq!(found(json!({"spec": {"template": {"spec": pod}}})), ["a", "b", "c"]);
        let job = json!({"spec": {"template": {"spec": pod}}});
        assert_eq!(found(json!({"spec": {"jobTemplate": job}})), ["a", "b", "c"]);
    }

    #[test]
    fn a_job_ends_either_way() {
        let job = |name: &str| json!({"kind": "Job", "status": {"conditions": [{"type": name, "status": "True", "message": "why"}]}});
        assert_eq!(state(&job("Complete")), State::Ready);
        assert_eq!(state(&job("Failed")), State::Failed("why".to_owned()));
        assert!(matches!(state(&json!({"kind": "Job"})), State::Waiting(_)));
    }

    #[test]
    fn the_reason_why_a_pod_is_not_ready_is_reported() {
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"a\""}});
        let pods = json!({"items": [
            {"metadata": {"name": "one"}, "status": {"containerStatuses": [{"state": waiting}]}},
            {"metadata": {"name": "two"}, "status": {"containerStatuses": [{"state": {"running": {}}}]}},
            {"metadata": {"name": "three"}, "status": {
                "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}],
            }},
        ]});
        let lines = troubles(&pods);
        assert_eq!(lines[0], "pod one: ImagePullBackOff: Back-off pulling image \"a\"");
        assert_eq!(lines[1], "pod three: 0/1 nodes are available");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn pods_are_found_by_the_selector() {
        let object = json!({"metadata": {"namespace": "a"}, "spec": {"selector": {"matchLabels": {"x.io/b": "c"}}}});
        assert_eq!(pods_path(&object).unwrap(), "/api/v1/namespaces/a/pods?labelSelector=x.io%2Fb%3Dc");
    }
}
