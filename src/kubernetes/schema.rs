//! What is wrong with an object according to the types of the API, before there is an API server to ask. Pure.
//!
//! Only what every API server refuses is reported: values of the wrong type, fields and kinds that do not exist, names
//! and labels that cannot be, and what belongs to one object of one cluster. Objects of custom kinds are not known here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::error::closest;
use crate::kubernetes::object;

static TYPES: LazyLock<Types> = LazyLock::new(|| Types::read(include_str!("types.txt")));
/// The Kubernetes version of which these are all types.
const VERSION: &str = "v1.36.";
/// Fields that the API server sets, and refuses in a new object; an object that has them was taken out of a cluster.
const OF_SERVER: [&str; 2] = ["managedFields", "uid"];

/// Previews that have gone for good, and still stand in manifests.
const REMOVED: [&str; 10] = [
    "apiextensions.k8s.io/v1beta1",
    "apps/v1beta1",
    "apps/v1beta2",
    "autoscaling/v2beta1",
    "autoscaling/v2beta2",
    "batch/v1beta1",
    "extensions/v1beta1",
    "policy/v1beta1",
    "rbac.authorization.k8s.io/v1alpha1",
    "rbac.authorization.k8s.io/v1beta1",
];

/// A problem of an object, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// A JSON pointer such as `/spec/replicas`.
    pub pointer: String,
    /// Whether it is about the field's name, and not about its value.
    pub is_name: bool,
    /// What is wrong there, one line.
    pub message: String,
}

/// Everything that the API server of this version is known to refuse in an object.
pub fn problems(object: &Value, version: &str) -> Vec<Wrong> {
    let (api, kind) = (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    let exact = version.starts_with(VERSION);
    let mut check = Check { exact, wrong: Vec::new() };
    match TYPES.kinds.get(&(api, kind)) {
        Some(known) => {
            check.value(object, known.definition, "");
            check.metadata(object, api.starts_with("rbac."));
            check.selector(object);
        }
        None if exact => check.kind(api, kind),
        None => {}
    }
    for field in OF_SERVER.iter().filter(|field| object["metadata"].get(**field).is_some_and(|value| !value.is_null()))
    {
        let message = format!("`metadata.{field}` belongs to an object of another cluster; leave it out");
        check.wrong.push(Wrong { pointer: format!("/metadata/{field}"), is_name: true, message });
    }
    check.wrong
}

/// Whether objects of this kind are in a namespace; `None` if the kind is not known.
pub fn is_namespaced(object: &Value) -> Option<bool> {
    let key = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    TYPES.kinds.get(&key).map(|kind| kind.namespaced)
}

/// The API's kinds, and its types with their fields.
#[derive(Debug, Default)]
struct Types {
    kinds: BTreeMap<(&'static str, &'static str), Kind>,
    fields: BTreeMap<&'static str, BTreeMap<&'static str, &'static str>>,
}

#[derive(Debug)]
struct Kind {
    namespaced: bool,
    definition: &'static str,
}

impl Types {
    fn read(text: &'static str) -> Self {
        let mut types = Self::default();
        let mut current = "";
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["kind", api, kind, scope, definition] => {
                    types.kinds.insert((api, kind), Kind { namespaced: *scope == "namespaced", definition });
                }
                ["type", name] if !line.starts_with(' ') => current = name,
                [field, definition] => {
                    types.fields.entry(current).or_default().insert(field, definition);
                }
                _ => {}
            }
        }
        types
    }
}

struct Check {
    /// Whether the types are those of the cluster's version, so that what they lack does not exist.
    exact: bool,
    wrong: Vec<Wrong>,
}

impl Check {
    fn report(&mut self, pointer: &str, is_name: bool, message: String) {
        self.wrong.push(Wrong { pointer: pointer.to_owned(), is_name, message });
    }

    /// A kind that is not among those of the API: custom, unless its group is one of Kubernetes' own.
    fn kind(&mut self, api: &str, kind: &str) {
        let group = |api: &str| api.split_once('/').map_or("", |(group, _)| group).to_owned();
        let is_own = TYPES.kinds.keys().any(|(known, _)| group(known) == group(api));
        // Other previews are served when they are asked for with `runtime-config`.
        let is_preview = api.contains("alpha") || api.contains("beta");
        if !(is_own && !is_preview || REMOVED.contains(&api)) {
            return;
        }
        let elsewhere: Vec<&str> =
            TYPES.kinds.keys().filter(|(_, known)| *known == kind).map(|(api, _)| *api).collect();
        let names = TYPES.kinds.keys().filter(|(known, _)| *known == api).map(|(_, kind)| *kind);
        let meant = closest(kind, names).map(|kind| format!("; did you mean `{kind}`?"));
        let hint = match elsewhere.as_slice() {
            [] => meant.unwrap_or_default(),
            apis => format!("; it is in `{}`", apis.join("` and `")),
        };
        let pointer = if elsewhere.is_empty() { "/kind" } else { "/apiVersion" };
        self.report(pointer, false, format!("Kubernetes has no kind `{kind}` in `{api}`{hint}"));
    }

    fn value(&mut self, value: &Value, definition: &str, pointer: &str) {
        if value.is_null() || definition == "any" {
            return;
        }
        if let Some(inner) = definition.strip_prefix('[') {
            let Some(items) = value.as_array() else { return self.wrong_type(value, "a list", pointer) };
            for (index, item) in items.iter().enumerate() {
                self.value(item, inner, &format!("{pointer}/{index}"));
            }
        } else if let Some(inner) = definition.strip_prefix('{') {
            let Some(map) = value.as_object() else { return self.wrong_type(value, "a mapping", pointer) };
            for (key, value) in map {
                self.value(value, inner, &below(pointer, key));
            }
        } else if let Some(fields) = TYPES.fields.get(definition) {
            self.fields(value, fields, pointer);
        } else {
            self.scalar(value, definition, pointer);
        }
    }

    fn fields(&mut self, value: &Value, fields: &BTreeMap<&str, &str>, pointer: &str) {
        let Some(map) = value.as_object() else { return self.wrong_type(value, "a mapping", pointer) };
        for (key, value) in map {
            let pointer = below(pointer, key);
            match fields.get(key.as_str()) {
                Some(definition) => self.value(value, definition, &pointer),
                None if self.exact => {
                    let hint = closest(key, fields.keys().copied()).map_or_else(
                        || format!("the fields here are {}", fields.keys().copied().collect::<Vec<_>>().join(", ")),
                        |name| format!("did you mean `{name}`?"),
                    );
                    self.report(&pointer, true, format!("unknown field `{}`; {hint}", path(&pointer)));
                }
                None => {}
            }
        }
    }

    /// Names and labels, by the rules that hold for all kinds; those of RBAC may have any name.
    fn metadata(&mut self, object: &Value, any_name: bool) {
        let name = object::name(object);
        if !any_name && !is_domain(name) {
            let message = format!(
                "`metadata.name` must be made of lower-case letters, digits, `-` and `.`, not `{}`",
                name.escape_debug()
            );
            self.report("/metadata/name", false, message);
        }
        for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
            let pointer = below("/metadata/labels", key);
            let (prefix, name) =
                key.split_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
            if name.is_empty() || !is_label(name) || prefix.is_some_and(|prefix| !is_domain(prefix)) {
                self.report(&pointer, true, format!("`{}` cannot be the key of a label", key.escape_debug()));
            }
            if let Some(value) = value.as_str().filter(|value| !is_label(value)) {
                let rule =
                    "has up to 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or a digit";
                self.report(
                    &pointer,
                    false,
                    format!("the value of a label {rule}; `{}` does not", value.escape_debug()),
                );
            }
        }
    }

    /// The pods of a workload must have the labels by which it finds them.
    fn selector(&mut self, object: &Value) {
        if object["apiVersion"] != "apps/v1" {
            return;
        }
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        for (key, wanted) in object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten() {
            if labels[key] != *wanted {
                let message = format!("the pods of `spec.template` do not have this label: `{key}: {}`", plain(wanted));
                self.report(&below("/spec/selector/matchLabels", key), true, message);
            }
        }
    }

    fn scalar(&mut self, value: &Value, definition: &str, pointer: &str) {
        let text = value.as_str();
        let (fits, wanted) = match definition {
            "string" => (text.is_some(), "a string"),
            "base64" => {
                let decodes = |text: &str| BASE64_STANDARD.decode(text.replace(['\r', '\n'], "")).is_ok();
                (text.is_some_and(decodes), "text in base64")
            }
            "boolean" => (value.is_boolean(), "`true` or `false`"),
            "int32" => {
                (value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()), "a whole number of 32 bits")
            }
            "int64" => (value.is_i64(), "a whole number"),
            "double" => (value.is_number(), "a number"),
            "quantity" => {
                (value.is_number() || text.is_some_and(is_quantity), "a quantity such as `500m`, `2` or `1.5Gi`")
            }
            "int-or-string" => (value.is_i64() || text.is_some(), "a whole number or a string"),
            "object" => (value.is_object(), "a mapping"),
            // A type that this version of coracle does not know.
            _ => (true, ""),
        };
        if !fits {
            self.wrong_type(value, wanted, pointer);
        }
    }

    fn wrong_type(&mut self, value: &Value, wanted: &str, pointer: &str) {
        let quotes = if wanted == "a string" && !(value.is_object() || value.is_array()) {
            "; put it in quotes"
        } else if wanted == "text in base64" && value.is_string() && pointer.starts_with("/data/") {
            "; plain text belongs in `stringData`"
        } else {
            ""
        };
        let found = match value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the boolean `{value}`"),
            Value::Number(number) => format!("the number `{number}`"),
            // What is not base64 may be a secret.
            Value::String(_) if wanted == "text in base64" => "something else".to_owned(),
            Value::String(text) if text.chars().count() > 60 => "a long text".to_owned(),
            Value::String(text) => format!("the text `{}`", text.escape_debug()),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
        };
        self.report(pointer, false, format!("`{}` must be {wanted}, not {found}{quotes}", path(pointer)));
    }
}

fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// A pointer as people write it: `spec.ports[0].port`.
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        // Items of lists, and keys such as `example.org/name`.
        let is_index = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
        if is_index || step.contains(['.', '/']) {
            path.extend(["[", &step, "]"]);
        } else {
            path.push_str(if path.is_empty() { "" } else { "." });
            path.push_str(&step);
        }
    }
    path
}

/// A scalar without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether this is a DNS subdomain, as names of objects are.
fn is_domain(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part =
        |part: &str| part.starts_with(inner) && part.ends_with(inner) && part.chars().all(|c| inner(c) || c == '-');
    text.len() <= 253 && text.split('.').all(part)
}

/// Whether this can be the value of a label.
fn is_label(text: &str) -> bool {
    let outer = |c: char| c.is_ascii_alphanumeric();
    let all = text.chars().all(|c| outer(c) || matches!(c, '-' | '_' | '.'));
    text.is_empty() || (text.len() <= 63 && text.starts_with(outer) && text.ends_with(outer) && all)
}

/// A number with one of Kubernetes' units.
fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = unsigned.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(end);
    let is_exponent = |digits: &str| digits.parse::<i32>().is_ok();
    let is_unit = matches!(
        unit,
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei"
    ) || unit.strip_prefix(['e', 'E']).is_some_and(is_exponent);
    is_unit && number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
