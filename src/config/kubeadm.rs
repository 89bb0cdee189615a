//! Advice for `kubeadmConfigPatches`, which files of kind have: what to write for what a patch sets.

use super::reader::{Field, Reader};
use super::tree;
use super::value::{Mark, Node, Value, quoted};
use crate::error::closest;

/// The kinds that a patch can be for.
const KINDS: &[&str] = &[
    "ClusterConfiguration",
    "InitConfiguration",
    "JoinConfiguration",
    "KubeletConfiguration",
    "KubeProxyConfiguration",
];
/// What is said where a patch does not show what is wanted.
const GENERAL: &str = "use `kubelet`, `kubeProxy`, `apiServer`, `controllerManager`, `scheduler` or `etcd` of the cluster, or `labels` and `taints` of the node";

impl Reader<'_> {
    /// Reports each patch of these fields at its place, with what to write for it.
    pub(super) fn kubeadm_patches(&mut self, fields: &[(&str, Field<'_>)]) {
        for (name, field) in fields {
            self.kubeadm_patch(name, field);
        }
    }

    fn kubeadm_patch(&mut self, name: &str, field: &Field<'_>) {
        let Value::List(items) = &field.node.value else {
            return self.problem_at_key(field, format!("coracle has no field {}; {GENERAL}", quoted(name)));
        };
        if items.is_empty() {
            self.problem_at_key(field, format!("coracle has no field {}; leave it out", quoted(name)));
        }
        for item in items {
            let (mark, advice) = match read(&item.value) {
                Ok((kind, settings)) => (item.mark, advice(&kind, &settings)),
                Err((inner, message)) => (inner.unwrap_or(item.mark), message),
            };
            self.problem(mark, format!("coracle has no field {}; {advice}", quoted(name)));
        }
    }
}

/// A value that a patch sets, and its path.
type Setting = (Vec<String>, Value);

/// The kind that a patch is for and what it sets; or what is wrong with it, and where if that is known.
fn read(patch: &Value) -> Result<(String, Vec<Setting>), (Option<Mark>, String)> {
    let mut settings = Vec::new();
    let parse = |text: &str| {
        let unreadable = |(mark, message): (Mark, String)| format!("on line {} of this patch: {message}", mark.line);
        tree::parse(text).map_err(|flaw| (None, unreadable(flaw)))
    };
    match patch {
        Value::Text(text, _) => {
            let Some(root) = parse(text)? else { return Ok((String::new(), settings)) };
            let kind = text_of(&root.value, "kind").unwrap_or_default();
            flatten(&root.value, &mut Vec::new(), &mut settings);
            settings.retain(|(path, _)| !matches!(path[0].as_str(), "apiVersion" | "kind" | "metadata"));
            Ok((kind, settings))
        }
        Value::Map(_) => {
            let kind = text_of(patch, "kind").unwrap_or_default();
            let root = text_of(patch, "patch").map(|text| parse(&text)).transpose()?.flatten();
            let Some(Value::List(operations)) = root.map(|root| root.value) else { return Ok((kind, settings)) };
            for operation in operations {
                let pointer = text_of(&operation.value, "path").unwrap_or_default();
                let mut steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/")).collect();
                let value = operation.value.get("value").map_or(Value::Null, |node| node.value.clone());
                flatten(&value, &mut steps, &mut settings);
            }
            Ok((kind, settings))
        }
        _ => Ok((String::new(), settings)),
    }
}

fn text_of(value: &Value, name: &str) -> Option<String> {
    value.get(name).map(|node| node.value.text())
}

/// All that a value sets. Arguments of kubeadm's newer versions are lists of `name` and `value`.
fn flatten(value: &Value, path: &mut Vec<String>, settings: &mut Vec<Setting>) {
    let is_arguments = path.last().is_some_and(|last| last.to_lowercase().ends_with("extraargs"));
    let mut inside = |name: String, value: &Value| {
        path.push(name);
        flatten(value, path, settings);
        path.pop();
    };
    match value {
        Value::Map(entries) => entries.iter().for_each(|entry| inside(entry.key.clone(), &entry.node.value)),
        Value::List(items) if is_arguments => {
            for item in items {
                let value = item.value.get("value").map_or(&Value::Null, |node| &node.value);
                inside(text_of(&item.value, "name").unwrap_or_default(), value);
            }
        }
        // Nothing is set, as by an `extraArgs:` with flags beside it instead of below it.
        Value::Null => {}
        _ if path.is_empty() => {}
        _ => settings.push((path.clone(), value.clone())),
    }
}

/// What to write for these settings.
fn advice(kind: &str, settings: &[Setting]) -> String {
    if !kind.is_empty() && !KINDS.contains(&kind) {
        let meant =
            closest(kind, KINDS.iter().copied()).map(|kind| format!("; did you mean `{kind}`?")).unwrap_or_default();
        return format!("and kubeadm has no kind {}{meant}", quoted(kind));
    }
    let (mut known, mut unknown): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for (path, value) in &together(settings) {
        match instead(kind, path, value) {
            Some(text) if !known.contains(&text) => known.push(text),
            Some(_) => {}
            None => unknown.push(quoted(path.join(".").trim_end_matches(".-"))),
        }
    }
    let mut parts = Vec::new();
    if !known.is_empty() {
        parts.push(format!("instead of this patch, write {}", known.join(", and ")));
    }
    if !unknown.is_empty() {
        parts.push(format!("it cannot set {}", unknown.join(", ")));
    }
    if parts.is_empty() { GENERAL.to_owned() } else { parts.join("; ") }
}

/// The settings, with the values of a flag that is given several times as a list.
fn together(settings: &[Setting]) -> Vec<Setting> {
    let mut all: Vec<Setting> = Vec::new();
    for (path, value) in settings {
        let node = |value: &Value| Node { mark: Mark { line: 1, column: 1 }, value: value.clone() };
        match all.iter_mut().find(|(known, _)| known == path) {
            Some((_, Value::List(items))) => items.push(node(value)),
            Some((_, first)) => *first = Value::List(vec![node(first), node(value)]),
            None => all.push((path.clone(), value.clone())),
        }
    }
    all
}

/// What coracle has for one setting of kubeadm.
fn instead(kind: &str, path: &[String], value: &Value) -> Option<String> {
    let steps: Vec<&str> = path.iter().map(String::as_str).collect();
    let pair = |name: &str| format!("{{{name}: {}}}", literal(value));
    Some(match (kind, steps.as_slice()) {
        ("KubeletConfiguration", [field, ..]) => format!("`{field}` in `kubelet`"),
        ("KubeProxyConfiguration", [field, ..]) => format!("`{field}` in `kubeProxy`"),
        (_, ["nodeRegistration", "kubeletExtraArgs", "node-labels"]) => {
            let text = value.text();
            let label = |label: &str| {
                let (key, value) = label.split_once('=').unwrap_or((label, ""));
                format!("{key}: \"{value}\"")
            };
            let labels: Vec<String> = text.split(',').filter(|label| !label.is_empty()).map(label).collect();
            format!("`labels: {{{}}}` in the node", labels.join(", "))
        }
        (_, ["nodeRegistration", "kubeletExtraArgs", "register-with-taints"] | ["nodeRegistration", "taints", ..]) => {
            "`taints` in the node".to_owned()
        }
        (_, ["nodeRegistration", "kubeletExtraArgs", "v"]) => {
            format!("`kubelet: {{logging: {{verbosity: {}}}}}`", value.text())
        }
        (_, ["nodeRegistration", "kubeletExtraArgs", flag]) => format!("`{}` in `kubelet`", field_of(flag)),
        (_, [component @ ("apiServer" | "controllerManager" | "scheduler"), "extraArgs", flag]) => {
            format!("`{component}: {}`", pair(flag))
        }
        (_, ["apiServer" | "controllerManager" | "scheduler", "extraVolumes", ..]) => {
            "`extraMounts` in the node for the files that flags name".to_owned()
        }
        // A flag that is not below `extraArgs`, which kubeadm silently ignores.
        (_, [component @ ("apiServer" | "controllerManager" | "scheduler"), flag]) if flag.contains('-') => {
            format!("`{component}: {}`", pair(flag))
        }
        (_, ["etcd", "local", "extraArgs", flag]) => format!("`etcd: {}`", pair(flag)),
        (_, ["networking", field @ ("podSubnet" | "serviceSubnet")]) => format!("`networking: {}`", pair(field)),
        (_, ["featureGates", gate]) => format!("`featureGates: {}`", pair(gate)),
        _ => return None,
    })
}

/// A scalar as it can be written; text is quoted where it could be something else.
fn literal(value: &Value) -> String {
    match value {
        Value::Text(text, _) => {
            let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
            if is_word && !text.contains([',', '#', ' ', '}', ']']) { text.clone() } else { format!("\"{text}\"") }
        }
        Value::List(items) => {
            format!("[{}]", items.iter().map(|item| literal(&item.value)).collect::<Vec<_>>().join(", "))
        }
        Value::Map(_) => "…".to_owned(),
        other => other.text(),
    }
}

/// The field of the kubelet's configuration for a flag: `max-pods` is `maxPods`.
fn field_of(flag: &str) -> String {
    let mut words = flag.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        let head: String = letters.next().map(|c| c.to_ascii_uppercase()).into_iter().collect();
        format!("{name}{head}{}", letters.as_str())
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, load};

    fn problems(text: &str) -> Vec<String> {
        let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{text}");
        let error = load(&text, "c.yaml", &Overrides::default()).unwrap_err();
        error.problems().iter().map(|problem| format!("{} {}", problem.place, problem.message)).collect()
    }

    #[test]
    fn the_hint_says_what_to_write_for_what_the_patch_sets() {
        let text = r#"
nodes:
- role: control-plane
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration:
      kubeletExtraArgs:
        node-labels: "ingress-ready=true,a.io/b=c"
        max-pods: "42"
kubeadmConfigPatches:
- |
  apiVersion: kubeadm.k8s.io/v1beta4
  kind: ClusterConfiguration
  apiServer:
    certSANs: [a]
    extraArgs:
    - {name: audit-log-path, value: /var/log/a.log}
    - {name: service-account-issuer, value: "https://a"}
    - {name: service-account-issuer, value: "https://b"}
    - {name: enable-admission-plugins, value: "A,B"}
  etcd: {local: {extraArgs: {quota-backend-bytes: "5"}}}
- "kind: [KubeletConfiguration"
- "kind: ClusterConfigurations"
- "{kind: KubeletConfiguration, maxPods: 5, evictionHard: {memory.available: 1Mi}}"
kubeadmConfigPatchesJSON6902:
- {group: kubeadm.k8s.io, version: v1beta3, kind: ClusterConfiguration, patch: "[{op: add, path: /apiServer/extraArgs/profiling, value: 'false'}]"}
"#;
        let expected = [
            "c.yaml:7:5 coracle has no field `kubeadmConfigPatches`; instead of this patch, write \
             `labels: {ingress-ready: \"true\", a.io/b: \"c\"}` in the node, and `maxPods` in `kubelet`",
            "c.yaml:14:3 coracle has no field `kubeadmConfigPatches`; instead of this patch, write \
             `apiServer: {audit-log-path: /var/log/a.log}`, \
             and `apiServer: {service-account-issuer: [https://a, https://b]}`, \
             and `apiServer: {enable-admission-plugins: \"A,B\"}`, and `etcd: {quota-backend-bytes: \"5\"}`; \
             it cannot set `apiServer.certSANs`",
            "c.yaml:25:3 coracle has no field `kubeadmConfigPatches`; on line 1 of this patch: \
             this is not YAML: did not find expected `,` or `]` while parsing a flow sequence",
            "c.yaml:26:3 coracle has no field `kubeadmConfigPatches`; and kubeadm has no kind `ClusterConfigurations`; \
             did you mean `ClusterConfiguration`?",
            "c.yaml:27:3 coracle has no field `kubeadmConfigPatches`; instead of this patch, write \
             `maxPods` in `kubelet`, and `evictionHard` in `kubelet`",
            "c.yaml:29:3 coracle has no field `kubeadmConfigPatchesJSON6902`; instead of this patch, write \
             `apiServer: {profiling: false}`",
        ];
        let found = problems(text);
        assert_eq!(found, expected, "{found:#?}");
    }

    #[test]
    fn flags_beside_extra_args_are_known() {
        let text = "kubeadmConfigPatches:\n- |\n  kind: ClusterConfiguration\n  apiServer:\n    extraArgs:\n    enable-admission-plugins: A\n";
        assert!(
            problems(text)[0].ends_with("write `apiServer: {enable-admission-plugins: A}`"),
            "{:?}",
            problems(text)
        );
    }

    #[test]
    fn a_patch_that_says_nothing_gets_the_general_hint() {
        for text in ["kubeadmConfigPatches: x", "kubeadmConfigPatches: [\"\"]", "kubeadmConfigPatches: [{}]"] {
            assert!(problems(text)[0].contains("use `kubelet`, `kubeProxy`, `apiServer`"), "{text}");
        }
        assert!(problems("kubeadmConfigPatches: []")[0].contains("leave it out"));
    }
}
