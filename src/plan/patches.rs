//! Patches of the control plane's pods, of the kubelet's configuration and of CoreDNS, as files in a directory that are named
//! as kubeadm has them: `kube-apiserver0+json.yaml`. Pure.

use serde_json::{Map, Value, json};

use crate::error::{Code, Error, Result};

/// What a patch can change: the beginning of its file's name, in small letters.
pub const TARGETS: [&str; 6] = [
    "corednsdeployment",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubeletconfiguration",
];
/// The target of the kubelet's configuration.
pub const KUBELET: &str = "kubeletconfiguration";
/// The target of CoreDNS' Deployment.
pub const COREDNS: &str = "corednsdeployment";

/// The field that tells the items of a list apart, for the lists of pods that merge; all others are replaced.
const KEYS: &[(&str, &str)] = &[
    ("containers", "name"),
    ("env", "name"),
    ("ephemeralContainers", "name"),
    ("hostAliases", "ip"),
    ("imagePullSecrets", "name"),
    ("initContainers", "name"),
    ("ports", "containerPort"),
    ("resourceClaims", "name"),
    ("topologySpreadConstraints", "topologyKey"),
    ("volumeDevices", "devicePath"),
    ("volumeMounts", "mountPath"),
    ("volumes", "name"),
];
/// What a strategic merge patch says about the mapping that it stands in.
const DIRECTIVE: &str = "$patch";

/// How a patch is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// Lists of pods merge by the names of their items.
    Strategic,
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
}

/// A document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// One of [`TARGETS`].
    pub target: &'static str,
    pub kind: PatchType,
    /// The file, for messages.
    pub file: String,
    pub document: Value,
}

/// What the name of a file says, `target[suffix][+type].yaml` or `.json`; an error is the reason why it is no patch.
pub fn of_file_name(name: &str) -> std::result::Result<(&'static str, PatchType), String> {
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".json"));
    let stem = stem.ok_or("its name does not end in `.yaml` or `.json`")?;
    let (target, kind) = stem.split_once('+').unwrap_or((stem, "strategic"));
    let known = TARGETS.iter().find(|known| target.starts_with(**known));
    let target = known.ok_or_else(|| format!("its name begins with none of `{}`", TARGETS.join("`, `")))?;
    let kind = match kind {
        "strategic" => PatchType::Strategic,
        "merge" => PatchType::Merge,
        "json" => PatchType::Json,
        other => {
            return Err(format!("there is no type of patches `{other}`; they are `strategic`, `merge` and `json`"));
        }
    };
    Ok((target, kind))
}

/// Applies those of the patches that are for `target`, in their order.
///
/// Fails with [`Code::ConfigInvalid`] if one of them cannot be applied, or changes which object it is.
pub fn apply(patches: &[Patch], target: &str, object: &mut Value) -> Result<()> {
    for patch in patches.iter().filter(|patch| patch.target == target) {
        let before = identity(object);
        let failed = |cause: &str| {
            Error::new(Code::ConfigInvalid, format!("the patch `{}` cannot be applied", patch.file)).because(cause)
        };
        match patch.kind {
            PatchType::Strategic => strategic(object, &patch.document).map_err(|cause| failed(&cause))?,
            PatchType::Merge => json_patch::merge(object, &patch.document),
            PatchType::Json => {
                let operations: json_patch::Patch =
                    serde_json::from_value(patch.document.clone()).map_err(|cause| failed(&cause.to_string()))?;
                json_patch::patch(object, &operations).map_err(|cause| failed(&cause.to_string()))?;
            }
        }
        if identity(object) != before {
            return Err(failed("it changes `apiVersion`, `kind`, or the object's name"));
        }
    }
    Ok(())
}

/// What the rest of the cluster knows an object by.
fn identity(object: &Value) -> Value {
    let meta = &object["metadata"];
    json!([object["apiVersion"], object["kind"], meta["name"], meta["namespace"]])
}

/// Merges mappings, and lists of pods by their keys; the error is a directive that is not understood.
fn strategic(target: &mut Value, patch: &Value) -> std::result::Result<(), String> {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match changes.get(DIRECTIVE).and_then(Value::as_str) {
        Some("replace") => {
            let rest = changes.iter().filter(|(key, _)| *key != DIRECTIVE);
            *target = Value::Object(rest.map(|(key, value)| (key.clone(), value.clone())).collect());
            return Ok(());
        }
        Some("delete") => {
            *target = json!({});
            return Ok(());
        }
        None | Some("merge") => {}
        Some(other) => return Err(format!("there is no directive `{DIRECTIVE}: {other}`")),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, change) in changes.iter().filter(|(name, _)| *name != DIRECTIVE) {
        if name.starts_with('$') {
            return Err(format!("the directive `{name}` is not supported; a JSON patch can do the same"));
        }
        let key = KEYS.iter().find(|(list, _)| list == name).map(|(_, key)| *key);
        match (change, key) {
            (Value::Null, _) => drop(target.as_object_mut().and_then(|map| map.shift_remove(name))),
            (Value::Array(items), Some(key)) => merge_list(&mut target[name.as_str()], items, name, key)?,
            _ => strategic(&mut target[name.as_str()], change)?,
        }
    }
    Ok(())
}

/// Merges items into those with the same key; new ones come at the end.
fn merge_list(target: &mut Value, items: &[Value], name: &str, key: &str) -> std::result::Result<(), String> {
    let is_all_new = items.iter().any(|item| item[DIRECTIVE] == "replace" && item.get(key).is_none());
    if !target.is_array() || is_all_new {
        *target = json!([]);
    }
    let Some(known) = target.as_array_mut() else { return Ok(()) };
    for item in items.iter().filter(|item| !(item[DIRECTIVE] == "replace" && item.get(key).is_none())) {
        let own = item.get(key).ok_or_else(|| format!("an item of `{name}` has no `{key}`"))?;
        let place = known.iter().position(|other| other.get(key) == Some(own));
        match (place, item[DIRECTIVE].as_str()) {
            (Some(index), Some("delete")) => drop(known.remove(index)),
            (None, Some("delete")) => {}
            (Some(index), _) => strategic(&mut known[index], item)?,
            (None, _) => {
                let mut new = json!({});
                strategic(&mut new, item)?;
                known.push(new);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd", "namespace": "kube-system"},
            "spec": {"hostNetwork": true, "containers": [{
                "name": "etcd", "command": ["etcd", "--a=b"], "env": [{"name": "GOGC", "value": "40"}],
                "volumeMounts": [{"name": "data", "mountPath": "/var/lib/etcd"}],
            }]},
        })
    }

    fn patched(kind: PatchType, document: &Value) -> Result<Value> {
        let mut object = pod();
        let patch = |target| Patch { target, kind, file: "/p/etcd0.yaml".to_owned(), document: document.clone() };
        apply(&[patch("kube-scheduler"), patch("etcd")], "etcd", &mut object).map(|()| object)
    }

    #[test]
    fn names_are_those_of_kubeadm() {
        use PatchType::{Json, Merge, Strategic};
        for (name, expected) in [
            ("etcd.yaml", ("etcd", Strategic)),
            ("kube-apiserver0+merge.yaml", ("kube-apiserver", Merge)),
            ("kube-controller-manager_b+json.json", ("kube-controller-manager", Json)),
            ("kubeletconfiguration1+strategic.yaml", ("kubeletconfiguration", Strategic)),
            ("corednsdeployment.json", ("corednsdeployment", Strategic)),
        ] {
            assert_eq!(of_file_name(name), Ok(expected), "{name}");
        }
        for (name, reason) in
            [("etcd.yml", "does not end"), ("proxy.yaml", "begins with none"), ("etcd+patch.yaml", "no type")]
        {
            assert!(of_file_name(name).unwrap_err().contains(reason), "{name}");
        }
    }

    #[test]
    fn lists_of_pods_merge_by_their_keys_and_others_are_replaced() {
        let change = json!({"spec": {"hostNetwork": null, "containers": [{
            "name": "etcd",
            "command": ["etcd", "--c=d"],
            "resources": {"requests": {"cpu": "50m"}},
            "env": [{"name": "GOGC", "value": "90"}, {"name": "MORE", "value": "1"}],
            "volumeMounts": [{"mountPath": "/var/lib/etcd", "$patch": "delete"}, {"mountPath": "/x", "name": "x"}],
        }, {"name": "beside", "image": "i"}]}});
        let spec = patched(PatchType::Strategic, &change).unwrap()["spec"].take();
        assert!(spec.get("hostNetwork").is_none());
        assert_eq!(spec["containers"][1], json!({"name": "beside", "image": "i"}));
        let container = &spec["containers"][0];
        assert_eq!(container["command"], json!(["etcd", "--c=d"]));
        assert_eq!(container["resources"], json!({"requests": {"cpu": "50m"}}));
        assert_eq!(container["env"], json!([{"name": "GOGC", "value": "90"}, {"name": "MORE", "value": "1"}]));
        assert_eq!(container["volumeMounts"], json!([{"mountPath": "/x", "name": "x"}]));
        let all = json!({"spec": {"containers": [{"name": "new"}, {"$patch": "replace"}]}});
        assert_eq!(patched(PatchType::Strategic, &all).unwrap()["spec"]["containers"], json!([{"name": "new"}]));
    }

    #[test]
    fn other_types_do_what_their_standards_say() {
        let merged = patched(PatchType::Merge, &json!({"spec": {"containers": []}})).unwrap();
        assert_eq!(merged["spec"], json!({"hostNetwork": true, "containers": []}));
        let add = json!([{"op": "add", "path": "/spec/containers/0/command/-", "value": "--e=f"}]);
        let added = patched(PatchType::Json, &add).unwrap();
        assert_eq!(added["spec"]["containers"][0]["command"], json!(["etcd", "--a=b", "--e=f"]));
    }

    #[test]
    fn what_cannot_be_applied_is_told_with_its_file() {
        for (kind, document, cause) in [
            (PatchType::Json, json!([{"op": "remove", "path": "/x"}]), "/x"),
            (PatchType::Json, json!({"spec": {}}), "sequence"),
            (PatchType::Strategic, json!({"metadata": {"name": "other"}}), "the object's name"),
            (PatchType::Strategic, json!({"$setElementOrder/x": []}), "`$setElementOrder/x` is not supported"),
            (PatchType::Strategic, json!({"$patch": "all"}), "`$patch: all`"),
            (PatchType::Strategic, json!({"spec": {"containers": [{"image": "i"}]}}), "has no `name`"),
        ] {
            let error = patched(kind, &document).unwrap_err();
            assert!(error.message().contains("/p/etcd0.yaml"), "{error:?}");
            assert!(error.cause().unwrap_or_default().contains(cause), "{error:?}");
        }
    }
}
