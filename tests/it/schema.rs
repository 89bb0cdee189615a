//! The JSON Schema of configuration files: which fields there are, and which words, is asked of the reader, and what they are
//! and mean is taken from the documentation.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use coracle::catalog;
use coracle::config::{Overrides, load};
use coracle::error::Error;
use serde_json::{Map, Value, json};

use crate::command_line::coracle;
use crate::settings::{is_row, known, sections};
use crate::sources::{files, page, read, root};
use crate::validator::problems;

const FILE: &str = "configs/cluster.schema.json";
/// A word that stands nowhere.
const NO_WORD: &str = "zzzz";

/// What the documentation says about a field.
struct Row {
    of_type: String,
    default: String,
    meaning: String,
}

impl Row {
    /// The row of a field in the section that is named after its mapping, or in the page that the mapping's own row leads to.
    fn of(path: &str, name: &str) -> Self {
        let main = page("configuration.md");
        let text = read(&main);
        let mapping = path.rsplit('.').next().unwrap().trim_end_matches("[]");
        let all = sections(&text);
        let of_cluster = |lines: &[&str]| lines.iter().any(|line| is_row(line, "apiVersion"));
        let section = all.iter().find(|(title, lines)| match mapping {
            "" => of_cluster(lines),
            _ => *title == mapping.to_lowercase(),
        });
        let found = if let Some((_, lines)) = section {
            lines.iter().find(|line| is_row(line, name)).map(|line| (*line).to_owned())
        } else {
            let row = text.lines().find(|line| is_row(line, mapping)).unwrap();
            let link = row.split("](").nth(1).unwrap().split(['#', ')']).next().unwrap();
            let other = read(&format!("{}/{link}", main.rsplit_once('/').unwrap().0));
            other.lines().find(|line| is_row(line, name)).map(str::to_owned)
        };
        let row = found.unwrap_or_else(|| panic!("`{path}.{name}` has no row in a table"));
        let cells: Vec<String> = row.trim_matches('|').split('|').map(|cell| plain(cell.trim())).collect();
        let [_, of_type, default, meaning]: [String; 4] =
            cells.try_into().unwrap_or_else(|cells| panic!("{row}: {cells:?}"));
        Self { of_type, default, meaning }
    }

    fn is_required(&self) -> bool {
        self.default == "required"
    }
}

/// Markdown without its links.
fn plain(text: &str) -> String {
    let mut parts = text.split("](");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let open = plain.rfind('[').unwrap();
        plain.remove(open);
        plain.push_str(part.split_once(')').unwrap().1);
    }
    plain
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The schema of the mapping at a path.
fn mapping(path: &str) -> Map<String, Value> {
    let names = known(path);
    let mut properties = Map::new();
    for name in &names {
        properties.insert(name.clone(), property(path, name));
    }
    let required: Vec<&String> = names.iter().filter(|name| Row::of(path, name).is_required()).collect();
    let mut schema = Map::from_iter([("type".to_owned(), json!("object"))]);
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema
}

/// The schema of a field.
fn property(path: &str, name: &str) -> Value {
    let row = Row::of(path, name);
    let mut described = Map::new();
    let default = row.default.trim_matches('`');
    let is_value = row.default == format!("`{default}`") && !default.contains('`');
    let is_told = row.is_required() || is_value || row.default == "see below";
    let said = if is_told { String::new() } else { format!("Default: {}.", row.default) };
    let meaning = format!("{} {said}", row.meaning).trim().to_owned();
    if !meaning.is_empty() {
        described.insert("description".to_owned(), json!(meaning));
    }
    let mut shape = words(path, name).unwrap_or_else(|| shape(path, name, &row.of_type));
    if !row.is_required() {
        allow_null(&mut shape);
    }
    described.extend(shape);
    let value: Value = serde_yaml::from_str(default).unwrap_or_default();
    if is_value && (value.is_string() || value.is_boolean() || value.is_number()) {
        described.insert("default".to_owned(), value);
    }
    Value::Object(described)
}

/// A field without a value counts as not given.
fn allow_null(shape: &mut Map<String, Value>) {
    // `null` itself is the value to `json!`.
    let nothing = json!("null");
    if let Some(of_type) = shape.get_mut("type") {
        match of_type {
            Value::Array(types) => types.push(nothing),
            one => *one = json!([one.take(), nothing]),
        }
    } else if let Some(Value::Array(words)) = shape.get_mut("enum") {
        words.push(Value::Null);
    } else if let Some(Value::Array(choices)) = shape.get_mut("anyOf") {
        choices.push(json!({"type": nothing}));
    } else {
        panic!("{shape:?} cannot be without a value");
    }
}

/// The words that the reader wants in a field, if it wants one of a few.
fn words(path: &str, name: &str) -> Option<Map<String, Value>> {
    let problems = refused(&document(path, name, &json!(NO_WORD)));
    let listed = problems.iter().find_map(|problem| problem.split_once(" must be one of ").map(|(_, rest)| rest));
    if let Some(listed) = listed {
        let (listed, _) = listed.split_once(", not ").unwrap();
        let mut words: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
        // Kubernetes has a word for any type.
        words.extend((name == "pathType").then_some(""));
        return Some(Map::from_iter([("enum".to_owned(), json!(words))]));
    }
    let constant = problems.iter().find_map(|problem| problem.strip_prefix("this must be `"));
    let constant = constant.map(|rest| rest.split('`').next().unwrap());
    constant.map(|word| Map::from_iter([("const".to_owned(), json!(word))]))
}

/// The shape of what the documentation calls a type.
fn shape(path: &str, name: &str, of_type: &str) -> Map<String, Value> {
    let below = joined(path, name);
    let object = |values: Value| json!({"type": "object", "additionalProperties": values});
    let strings = json!({"type": "array", "items": {"type": "string"}});
    let limit = json!({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "unlimited"}]});
    let value = match of_type {
        "list" if name == "addons" => json!({"type": "array", "items": {"enum": catalog::names()}}),
        "list" if !known(&format!("{below}[]")).is_empty() => {
            json!({"type": "array", "items": mapping(&format!("{below}[]"))})
        }
        "list" | "list of domains" | "list of names" => strings,
        "mapping" if !known(&below).is_empty() => Value::Object(mapping(&below)),
        "mapping" => json!({"type": "object"}),
        "string" | "path" | "period" | "IP address" => json!({"type": "string"}),
        "boolean" => json!({"type": "boolean"}),
        "boolean or name" => json!({"type": ["boolean", "string"]}),
        "quantity" | "number" => json!({"type": ["number", "string"]}),
        "0 to 65535" => json!({"type": "integer", "minimum": 0, "maximum": 65535}),
        "1 to 65535" => json!({"type": "integer", "minimum": 1, "maximum": 65535}),
        "subnet, or one of each family" => json!({"anyOf": [{"type": "string"}, strings]}),
        "key → string" | "name → string" => object(json!({"type": "string"})),
        "name → boolean" => object(json!({"type": "boolean"})),
        "name → value" => object(json!({"type": ["string", "number"]})),
        "name → limit" => {
            let both = json!({
                "type": "object", "required": ["soft", "hard"], "additionalProperties": false,
                "properties": {"soft": limit, "hard": limit},
            });
            object(json!({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "unlimited"}, both]}))
        }
        "flag → value" => {
            let one = json!(["string", "number", "boolean"]);
            object(json!({"anyOf": [{"type": one}, {"type": "array", "items": {"type": one}}]}))
        }
        other => panic!("{below}: the documentation calls its type `{other}`, which has no schema yet"),
    };
    value.as_object().unwrap().clone()
}

fn schema() -> Value {
    let mut schema = Map::from_iter([
        ("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#")),
        ("title".to_owned(), json!("A cluster of coracle")),
        ("description".to_owned(), json!("The file of `coracle create cluster --config`, coracle.dev/v1alpha1.")),
    ]);
    schema.extend(mapping(""));
    Value::Object(schema)
}

/// A value for a field that must be there.
fn usual(name: &str) -> Value {
    match name {
        "apiVersion" => json!("coracle.dev/v1alpha1"),
        "kind" => json!("Cluster"),
        "role" => json!("control-plane"),
        "key" => json!("example.com/key"),
        "effect" => json!("NoSchedule"),
        "ip" => json!("10.0.0.9"),
        "hostnames" => json!(["git.example"]),
        "hostPath" | "containerPath" | "mountPath" => json!("/files"),
        "containerPort" => json!(30080),
        "component" => json!("etcd"),
        "host" => json!("docker.io"),
        other => panic!("`{other}` is required; what is a good value?"),
    }
}

/// The smallest mapping at a path.
fn smallest(path: &str) -> Value {
    // It is asked for thousands of times.
    static KNOWN: Mutex<BTreeMap<String, Value>> = Mutex::new(BTreeMap::new());
    if let Some(mapping) = KNOWN.lock().unwrap().get(path) {
        return mapping.clone();
    }
    let names = known(path).into_iter().filter(|name| Row::of(path, name).is_required());
    let mapping: Value = names.map(|name| (name.clone(), usual(&name))).collect::<Map<_, _>>().into();
    KNOWN.lock().unwrap().insert(path.to_owned(), mapping.clone());
    mapping
}

/// The smallest document with this mapping at a path.
fn around(path: &str, mapping: Value) -> Value {
    let Some((above, name)) = path.rsplit_once('.').or((!path.is_empty()).then_some(("", path))) else {
        return mapping;
    };
    let mut outer = smallest(above);
    match name.strip_suffix("[]") {
        Some(name) => outer[name] = json!([mapping]),
        None => outer[name] = mapping,
    }
    around(above, outer)
}

/// The smallest document in which a field has this value.
fn document(path: &str, name: &str, value: &Value) -> Value {
    let mut mapping = smallest(path);
    mapping[name] = value.clone();
    around(path, mapping)
}

/// What the reader says against a document.
fn refused(document: &Value) -> Vec<String> {
    let overrides = Overrides { base_directory: Some(root().join("configs")), ..Overrides::default() };
    let error = load(&document.to_string(), "probe.json", &overrides).err();
    error.iter().flat_map(Error::problems).map(|problem| problem.message.clone()).collect()
}

/// The paths of all mappings whose fields are known.
fn mappings() -> Vec<String> {
    let (mut all, mut next) = (vec![String::new()], 0);
    while let Some(path) = all.get(next).cloned() {
        next += 1;
        for name in known(&path) {
            let below = joined(&path, &name);
            let inner = [below.clone(), format!("{below}[]")].into_iter().filter(|path| !known(path).is_empty());
            all.extend(inner);
        }
    }
    all
}

#[test]
fn the_schema_in_configs_is_that_of_the_reader_and_its_documentation() {
    let made = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("CORACLE_UPDATE").is_some() {
        fs::write(root().join(FILE), &made).unwrap();
    }
    assert_eq!(read(FILE), made, "run `CORACLE_UPDATE=1 cargo test --test it schema`, and review the difference");
}

#[test]
fn the_command_prints_the_schema_without_an_engine() {
    let said = coracle(["config", "schema"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert_eq!(said.stdout, read(FILE));
}

#[test]
fn the_reader_requires_what_the_documentation_calls_required() {
    for path in mappings() {
        let empty = if path.is_empty() { json!({}) } else { around(&path, json!({})) };
        let told = refused(&empty).join("\n");
        let named: Vec<&str> = told.split('`').skip(1).step_by(2).map(|word| word.split(':').next().unwrap()).collect();
        for name in known(&path) {
            assert_eq!(named.contains(&name.as_str()), Row::of(&path, &name).is_required(), "{path}.{name}: {told}");
        }
        assert_eq!(refused(&around(&path, smallest(&path))), Vec::<String>::new(), "{path}");
    }
}

/// Values of every kind of JSON.
fn samples() -> Vec<Value> {
    let scalars = [json!(null), json!(true), json!(7), json!(1.5), json!(NO_WORD), json!("")];
    let lists = [json!([]), json!([7]), json!([true]), json!([NO_WORD]), json!([{}])];
    let maps = [json!({}), json!({NO_WORD: 7}), json!({NO_WORD: true}), json!({NO_WORD: "x"}), json!({NO_WORD: {}})];
    [&scalars[..], &lists, &maps].concat()
}

/// An editor must not mark what is right, and marks what is of a wrong type.
#[test]
fn the_schema_and_the_reader_agree_about_types() {
    let schema = schema();
    for path in mappings() {
        for name in known(&path) {
            for value in samples() {
                let document = document(&path, &name, &value);
                let (by_schema, by_reader) = (problems(&schema, &document, ""), refused(&document));
                let place = format!("{path}.{name}: {value}: {by_schema:?}, {by_reader:?}");
                assert!(by_schema.is_empty() || !by_reader.is_empty(), "only the schema refuses {place}");
                let is_type = by_reader.iter().any(|message| message.contains(" must be ")) && !value.is_string();
                assert!(!is_type || !by_schema.is_empty(), "only the reader refuses {place}");
            }
        }
    }
}

/// YAML as JSON.
pub(crate) fn json_of(text: &str) -> Value {
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    value.apply_merge().unwrap();
    serde_json::to_value(value).unwrap()
}

/// What is wrong with a file by the schema in `configs`.
pub(crate) fn by_schema(text: &str) -> Vec<String> {
    problems(&serde_json::from_str(&read(FILE)).unwrap(), &json_of(text), "")
}

#[test]
fn every_configuration_of_the_repository_fits_the_schema() {
    let mut seen = 0;
    for path in [files("configs", ".yaml"), files("docs", ".md"), files("samples", ""), files("tests", "")].concat() {
        let text = fs::read_to_string(root().join(&path)).unwrap_or_default();
        let documents: Vec<&str> = match path.rsplit('.').next() {
            Some("yaml") => vec![text.as_str()],
            Some("md") => text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect(),
            _ => continue,
        };
        for document in documents.into_iter().filter(|text| text.contains("apiVersion: coracle.dev/v1alpha1\n")) {
            assert_eq!(by_schema(document), Vec::<String>::new(), "{path}: {document}");
            let overrides = Overrides { base_directory: Some(root().join("configs")), ..Overrides::default() };
            let cluster = load(document, &path, &overrides).unwrap();
            let written =
                [cluster.to_text().unwrap(), coracle::yaml::to_string(&cluster.effective().unwrap()).unwrap()];
            for text in written {
                assert_eq!(by_schema(&text), Vec::<String>::new(), "{path}: {text}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen}");
}

#[test]
fn wrong_configurations_do_not_fit_the_schema() {
    let wrong = [
        "",
        "nodes: {role: worker}",
        "nodes: [{role: boss}]",
        "nodes: [{}]",
        "nodes: [{role: worker, extraMount: []}]",
        "nodes: [{role: worker, extraPortMappings: [{containerPort: 80, hostPort: '80'}]}]",
        "nodes: [{role: worker, extraPortMappings: [{containerPort: 70000}]}]",
        "nodes: [{role: worker, taints: [{key: a, effect: NoExecution}]}]",
        "networking: {kubeProxyMode: userspace}",
        "featureGates: {ImageVolume: 'true'}",
        "apiServer: {v: {a: 1}}",
        "addons: [dashboard]",
        "registries: [{mirrors: []}]",
        "containerdConfigPatches: []",
    ];
    for body in wrong {
        let head = if body.is_empty() { "kind: Cluster" } else { "apiVersion: coracle.dev/v1alpha1\nkind: Cluster" };
        let text = format!("{head}\n{body}\n");
        assert!(!by_schema(&text).is_empty(), "{text}");
        assert!(load(&text, "c.yaml", &Overrides::default()).is_err(), "{text}");
    }
}
