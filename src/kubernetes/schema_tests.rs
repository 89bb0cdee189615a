use serde_json::json;

use super::*;

const NOW: &str = "v1.36.3";

#[expect(clippy::needless_pass_by_value, reason = "the callers write the value where they call it")]
fn found(object: Value, version: &str) -> Vec<String> {
    problems(&object, version).into_iter().map(|wrong| format!("{} {}", wrong.pointer, wrong.message)).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "the callers write the value where they call it")]
fn pod(container: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}})
}

#[test]
fn every_type_that_is_in_the_table_is_known() {
    let scalars =
        ["any", "base64", "boolean", "double", "int-or-string", "int32", "int64", "object", "quantity", "string"];
    let is_known = |name: &str| scalars.contains(&name) || TYPES.fields.contains_key(name);
    let of_fields = TYPES.fields.values().flat_map(BTreeMap::values).map(|name| name.trim_start_matches(['[', '{']));
    let of_kinds = TYPES.kinds.values().map(|kind| kind.definition);
    for name in of_fields.chain(of_kinds) {
        assert!(is_known(name), "{name}");
    }
    assert!(TYPES.kinds.len() > 50 && TYPES.fields.len() > 400);
}

#[test]
fn values_of_the_wrong_type_are_told_with_their_path() {
    let container = json!({
        "name": "a", "image": 5, "ports": [{"containerPort": "80"}, {"containerPort": 3_000_000_000_i64}], "tty": "yes",
        "env": [{"name": "PORT", "value": 8080}, {"name": "ON", "value": true}], "args": "x",
        "resources": {"limits": {"cpu": 1, "memory": "1.5Gi", "a/b": "1 GB"}}, "livenessProbe": {"httpGet": {"port": 1.5}},
    });
    let mut all = found(pod(container), NOW);
    all.sort();
    assert_eq!(
        all,
        [
            "/spec/containers/0/args `spec.containers[0].args` must be a list, not the text `x`",
            "/spec/containers/0/env/0/value `spec.containers[0].env[0].value` must be a string, not the number `8080`; put it in quotes",
            "/spec/containers/0/env/1/value `spec.containers[0].env[1].value` must be a string, not the boolean `true`; put it in quotes",
            "/spec/containers/0/image `spec.containers[0].image` must be a string, not the number `5`; put it in quotes",
            "/spec/containers/0/livenessProbe/httpGet/port `spec.containers[0].livenessProbe.httpGet.port` must be a whole number or a string, not the number `1.5`",
            "/spec/containers/0/ports/0/containerPort `spec.containers[0].ports[0].containerPort` must be a whole number of 32 bits, not the text `80`",
            "/spec/containers/0/ports/1/containerPort `spec.containers[0].ports[1].containerPort` must be a whole number of 32 bits, not the number `3000000000`",
            "/spec/containers/0/resources/limits/a~1b `spec.containers[0].resources.limits[a/b]` must be a quantity such as `500m`, `2` or `1.5Gi`, not the text `1 GB`",
            "/spec/containers/0/tty `spec.containers[0].tty` must be `true` or `false`, not the text `yes`",
        ]
    );
}

#[test]
fn fields_and_kinds_that_do_not_exist_are_told_for_the_version_that_is_known() {
    let typo = pod(json!({"name": "a", "imagePullpolicy": "Never", "zzz": 1}));
    let all = found(typo.clone(), NOW);
    assert!(all[0].contains("unknown field `spec.containers[0].imagePullpolicy`; did you mean `imagePullPolicy`?"));
    assert!(all[1].contains("unknown field `spec.containers[0].zzz`; the fields here are args, "), "{all:?}");
    assert_eq!(found(typo, "v1.37.0"), [""; 0], "another version may have it");
    let kind = |api: &str, kind: &str| found(json!({"apiVersion": api, "kind": kind, "metadata": {"name": "a"}}), NOW);
    assert_eq!(
        kind("apps/v1", "Deploymnt"),
        ["/kind Kubernetes has no kind `Deploymnt` in `apps/v1`; did you mean `Deployment`?"]
    );
    assert_eq!(
        kind("extensions/v1beta1", "Ingress"),
        ["/apiVersion Kubernetes has no kind `Ingress` in `extensions/v1beta1`; it is in `networking.k8s.io/v1`"]
    );
    assert_eq!(
        kind("v1", "Deployment"),
        ["/apiVersion Kubernetes has no kind `Deployment` in `v1`; it is in `apps/v1`"]
    );
    for (api, name) in [
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("example.org/v1", "Deployment"),
        ("resource.k8s.io/v1alpha3", "DeviceTaintRule"),
        ("resource.k8s.io/v1beta1", "DeviceClass"),
        ("snapshot.storage.k8s.io/v1", "VolumeSnapshot"),
    ] {
        assert_eq!(kind(api, name), [""; 0], "{api} {name}");
    }
}

#[test]
fn secrets_are_base64_and_are_not_shown() {
    let secret = |data: Value| {
        found(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": data}), NOW)
    };
    assert_eq!(secret(json!({"a": "aGVsbG8=", "b": null, "c": ""})), [""; 0]);
    assert_eq!(
        secret(json!({"a.b": "not base64"})),
        ["/data/a.b `data[a.b]` must be text in base64, not something else; plain text belongs in `stringData`"]
    );
}

#[test]
fn what_an_exported_object_has_is_told() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "uid": "x", "resourceVersion": "5", "creationTimestamp": null, "labels": {"a": 1}}});
    let all = found(object, NOW);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[1].starts_with("/metadata/uid") && all[1].ends_with("leave it out"), "{all:?}");
}

#[test]
fn what_is_right_is_left_alone() {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "annotations": {"x": "true"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"a": "b"}, "creationTimestamp": null}, "spec": {
                "containers": [{"name": "a", "resources": {"requests": {"cpu": 0.5, "memory": "1e9", "x": "+.5Gi"}}}],
                "volumes": [{"name": "v", "emptyDir": {}, "configMap": null}, {"name": "w", "secret": {"defaultMode": 256}}],
            }}},
    });
    assert_eq!(found(object, NOW), [""; 0]);
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a.b"},
        "spec": {"versions": [{"schema": {"openAPIV3Schema": {"type": "object", "default": {"x": 1}, "minimum": 0.5,
            "properties": {"a": {"enum": [1, "b"], "items": {"type": "string"}, "additionalProperties": false}}}}}]},
    });
    assert_eq!(found(definition, NOW), [""; 0]);
    assert_eq!(is_namespaced(&json!({"apiVersion": "v1", "kind": "Pod"})), Some(true));
    assert_eq!(is_namespaced(&json!({"apiVersion": "v1", "kind": "Node"})), Some(false));
    assert_eq!(is_namespaced(&json!({"apiVersion": "a.b/v1", "kind": "C"})), None);
}

#[test]
fn names_labels_and_selectors_that_cannot_be_are_told() {
    let workload = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "My_App", "labels": {"a b": "", "x": "-y", "": "z"}},
        "spec": {"selector": {"matchLabels": {"app": "a", "tier": "b"}}, "template": {"metadata": {"labels": {"app": "a"}}}}});
    let all: Vec<_> = problems(&workload, NOW).into_iter().map(|wrong| (wrong.pointer, wrong.is_name)).collect();
    let value = |pointer: &str, is_name: bool| (pointer.to_owned(), is_name);
    assert_eq!(
        all,
        [
            value("/metadata/name", false),
            value("/metadata/labels/a b", true),
            value("/metadata/labels/x", false),
            value("/metadata/labels/", true),
            value("/spec/selector/matchLabels/tier", true),
        ]
    );
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "system:My_Role",
        "labels": {"app.kubernetes.io/name": "A_b.c", "e": ""}}});
    assert_eq!(found(role, NOW), [""; 0]);
}
