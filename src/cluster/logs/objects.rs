//! What the API knows: events, and objects without values that may be secret.

use futures_util::future::join_all;
use serde_json::Value;

use crate::cluster::access;
use crate::cluster::found::{Cluster, Node};
use crate::cluster::logs::directory::Directory;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::kubernetes::{Client, object};

/// Where they are written.
const DIRECTORY: &str = "api";
/// The first list, which shows whether the API answers.
const EVENTS: &str = "/api/v1/events";
/// The other lists, and their files. Secrets and ConfigMaps are none of them.
const LISTS: [(&str, &str); 17] = [
    ("nodes.json", "/api/v1/nodes"),
    ("namespaces.json", "/api/v1/namespaces"),
    ("pods.json", "/api/v1/pods"),
    ("services.json", "/api/v1/services"),
    ("serviceaccounts.json", "/api/v1/serviceaccounts"),
    ("persistentvolumes.json", "/api/v1/persistentvolumes"),
    ("persistentvolumeclaims.json", "/api/v1/persistentvolumeclaims"),
    ("deployments.json", "/apis/apps/v1/deployments"),
    ("replicasets.json", "/apis/apps/v1/replicasets"),
    ("statefulsets.json", "/apis/apps/v1/statefulsets"),
    ("daemonsets.json", "/apis/apps/v1/daemonsets"),
    ("jobs.json", "/apis/batch/v1/jobs"),
    ("cronjobs.json", "/apis/batch/v1/cronjobs"),
    ("endpointslices.json", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("ingresses.json", "/apis/networking.k8s.io/v1/ingresses"),
    ("networkpolicies.json", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("storageclasses.json", "/apis/storage.k8s.io/v1/storageclasses"),
];
const REDACTED: &str = "REDACTED";

/// Writes what the API knows. One problem stands for all if it does not answer.
pub(super) async fn export(engine: &dyn Engine, cluster: &Cluster, top: &Directory) {
    if let Err(error) = write(engine, cluster, top).await {
        top.problem(DIRECTORY, &error);
    }
}

async fn write(engine: &dyn Engine, cluster: &Cluster, top: &Directory) -> Result<()> {
    if !cluster.control_plane().is_some_and(Node::is_running) {
        return Err(Error::new(Code::NotReady, "no control plane runs"));
    }
    let client = access::client(engine, cluster).await?;
    let events = client.get(EVENTS).await?;
    let directory = top.directory(DIRECTORY)?;
    directory.text("events.txt", &in_lines(&events));
    directory.json("events.json", &cleaned(events));
    join_all(LISTS.iter().map(|(file, path)| write_list(&client, &directory, file, path))).await;
    Ok(())
}

async fn write_list(client: &Client, directory: &Directory, file: &str, path: &str) {
    match client.get(path).await {
        Ok(list) => directory.json(file, &cleaned(list)),
        Err(failure) => directory.problem(file, &failure.text()),
    }
}

/// Events as people read them, the oldest one first.
fn in_lines(events: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |event: &Value| {
        let of = &event["involvedObject"];
        let time = ["lastTimestamp", "eventTime", "firstTimestamp"].map(|field| text(&event[field]));
        let time =
            time.into_iter().chain([text(&event["metadata"]["creationTimestamp"])]).find(|time| !time.is_empty());
        let place = [text(&of["namespace"]), text(&of["name"])].join("/");
        let times = event["count"].as_u64().filter(|count| *count > 1).map(|count| format!(" (x{count})"));
        format!(
            "{} {} {} {} {}: {}{}\n",
            time.unwrap_or_default(),
            text(&event["type"]),
            text(&event["reason"]),
            text(&of["kind"]),
            place.trim_start_matches('/'),
            text(&event["message"]).trim().replace('\n', " "),
            times.unwrap_or_default()
        )
    };
    let mut lines: Vec<String> = object::items(events).iter().map(line).collect();
    lines.sort();
    lines.concat()
}

/// A list without the values of variables, and without what only machines read.
fn cleaned(mut value: Value) -> Value {
    clean(&mut value);
    value
}

fn clean(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(fields) => {
            fields.remove("managedFields");
            // It repeats the object, with the values.
            fields.remove("kubectl.kubernetes.io/last-applied-configuration");
            for variable in fields.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
                if variable["value"].is_string() {
                    variable["value"] = Value::String(REDACTED.to_owned());
                }
            }
            fields.values_mut().for_each(clean);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_variables_and_what_repeats_them_are_left_out() {
        let applied = "kubectl.kubernetes.io/last-applied-configuration";
        let env =
            json!([{"name": "A", "value": "secret"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]);
        let spec = json!({"containers": [{"name": "c", "image": "i", "env": env}]});
        let pod = json!({"metadata": {"name": "p", "managedFields": [1], "annotations": {applied: "secret", "a": "b"}}, "spec": spec});
        let text = cleaned(json!({"items": [pod, {"spec": {"template": {"spec": spec}}}]})).to_string();
        assert!(!text.contains("secret") && !text.contains("managedFields"), "{text}");
        assert!(text.contains("REDACTED") && text.contains("fieldPath") && text.contains("\"image\":\"i\""), "{text}");
    }

    #[test]
    fn events_are_lines_in_the_order_of_time() {
        let event = |time: &str, count: u64, message: &str| {
            json!({
                "lastTimestamp": time, "count": count, "type": "Warning", "reason": "Failed", "message": message,
                "involvedObject": {"kind": "Pod", "namespace": "n", "name": "p"},
            })
        };
        let events =
            json!({"items": [event("2026-01-02T00:00:00Z", 3, "b\nc"), event("2026-01-01T00:00:00Z", 1, "a")]});
        assert_eq!(
            in_lines(&events),
            "2026-01-01T00:00:00Z Warning Failed Pod n/p: a\n2026-01-02T00:00:00Z Warning Failed Pod n/p: b c (x3)\n"
        );
    }
}
