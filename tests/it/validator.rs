//! Checks values against a JSON Schema, as far as the schema of our configuration files goes.

use serde_json::Value;

/// Keywords that say nothing about which values are right, and those that [`fields`] is about.
const ELSEWHERE: [&str; 6] = ["$schema", "additionalProperties", "default", "description", "properties", "title"];

/// What is wrong with a value, as its path and a reason.
pub(crate) fn problems(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, wanted) in schema.as_object().unwrap() {
        let told = match keyword.as_str() {
            name if ELSEWHERE.contains(&name) => Vec::new(),
            "type" => told(is_of_types(wanted, value), path, &format!("is not of the type {wanted}")),
            "enum" => told(wanted.as_array().unwrap().contains(value), path, &format!("is none of {wanted}")),
            "const" => told(wanted == value, path, &format!("is not {wanted}")),
            "minimum" => {
                told(value.as_f64().is_none_or(|value| value >= wanted.as_f64().unwrap()), path, "is too small")
            }
            "maximum" => {
                told(value.as_f64().is_none_or(|value| value <= wanted.as_f64().unwrap()), path, "is too large")
            }
            "anyOf" => {
                let mut choices = wanted.as_array().unwrap().iter();
                told(choices.any(|schema| problems(schema, value, path).is_empty()), path, "fits none of `anyOf`")
            }
            "required" => {
                let names = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                let missing = names.filter(|name| value.as_object().is_some_and(|fields| !fields.contains_key(*name)));
                missing.map(|name| format!("{path}: has no {name}")).collect()
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.flat_map(|(index, item)| problems(wanted, item, &format!("{path}[{index}]"))).collect()
            }
            other => panic!("the schema uses `{other}`, which this check does not know"),
        };
        found.extend(told);
    }
    found.extend(fields(schema, value, path));
    found
}

fn told(is_right: bool, path: &str, reason: &str) -> Vec<String> {
    if is_right { Vec::new() } else { vec![format!("{path}: {reason}")] }
}

fn fields(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(schema), _) => found.extend(problems(schema, value, &path)),
            (None, None | Some(Value::Bool(true))) => {}
            (None, Some(Value::Bool(false))) => found.push(format!("{path}: is not known")),
            (None, Some(others)) => found.extend(problems(others, value, &path)),
        }
    }
    found
}

fn is_of_types(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::Array(several) => several.iter().any(|one| is_of_types(one, value)),
        one => match one.as_str().unwrap() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "number" => value.is_number(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            other => panic!("JSON Schema has no type `{other}`"),
        },
    }
}

#[test]
fn what_does_not_fit_is_found_where_it_is() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {
            "a": {"type": ["integer", "null"], "minimum": 1, "maximum": 3},
            "b": {"type": "array", "items": {"enum": ["x", "y"]}},
            "c": {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, {"const": 7}]}},
        },
    });
    let check = |value: Value| problems(&schema, &value, "");
    let good = serde_json::json!({"a": 2, "b": ["x"], "c": {"any": "text", "other": 7}});
    assert_eq!(check(good), Vec::<String>::new());
    assert_eq!(check(serde_json::json!({"a": null})), Vec::<String>::new());
    assert_eq!(check(serde_json::json!({"b": ["z"], "d": 1})).len(), 3);
    assert_eq!(check(serde_json::json!({"a": 1.5})), [".a: is not of the type [\"integer\",\"null\"]"]);
    assert_eq!(check(serde_json::json!({"a": 4, "c": {"x": 8}})).len(), 2);
    assert_eq!(check(serde_json::json!([])).len(), 1);
}
