//! What is read before a cluster exists: the types of the API, settings, and how long to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, fetch, json};
use crate::harness::run::{contains, ensure, eventually};

use super::mistakes::nothing_of;

/// The types by which manifests are checked before there is an API server, in this repository.
const TYPES: &str = "src/kubernetes/types.txt";
const HEAD: &str =
    "# The types of Kubernetes 1.36's API, made of its OpenAPI document by tests/cluster/scenarios/reading.rs.\n";
/// Groups of types, whose names begin like this in the document.
const PREFIXES: [&str; 5] = [
    "io.k8s.api.",
    "io.k8s.apimachinery.pkg.apis.",
    "io.k8s.apimachinery.pkg.",
    "io.k8s.apiextensions-apiserver.pkg.apis.",
    "io.k8s.kube-aggregator.pkg.apis.",
];

/// The types by which manifests are checked are those of the API; with `CORACLE_UPDATE=1`, they are written again.
pub(super) fn types(cluster: &Cluster) -> Result<(), String> {
    let version = json(&cluster.kubectl(&["get", "--raw", "/version"])?)?;
    if !HEAD.contains(&format!("{}.{}'s", text(&version["major"]), text(&version["minor"]))) {
        println!("        not compared: this is Kubernetes {}", text(&version["gitVersion"]));
        return Ok(());
    }
    let now = table(&json(&cluster.kubectl(&["get", "--raw", "/openapi/v2"])?)?);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(TYPES);
    if std::env::var_os("CORACLE_UPDATE").is_some() {
        return std::fs::write(file, now).map_err(|error| error.to_string());
    }
    let then = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (then.lines().collect(), now.lines().collect());
    let differ: Vec<_> = old.symmetric_difference(&new).take(10).collect();
    ensure(then == now, || format!("{TYPES} is not what the API says, such as {differ:?}; CORACLE_UPDATE=1 writes it"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn short(name: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// A kind, in whatever order its parts stand.
fn identity(kind: &Value) -> [&str; 3] {
    ["group", "version", "kind"].map(|part| text(&kind[part]))
}

/// The kinds that can be applied, and all types that their fields need.
fn table(document: &Value) -> String {
    let definitions = &document["definitions"];
    let mut roots = BTreeMap::new();
    for (name, definition) in definitions.as_object().into_iter().flatten() {
        for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            roots.insert(identity(kind), name.as_str());
        }
    }
    let mut kinds = BTreeSet::new();
    let mut types = BTreeMap::new();
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        let patch = &operations["patch"];
        let kind = &patch["x-kubernetes-group-version-kind"];
        let Some(name) = roots.get(&identity(kind)).filter(|_| path.ends_with('}')) else { continue };
        let (group, version) = (text(&kind["group"]), text(&kind["version"]));
        let api = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let scope = if path.contains("{namespace}") { "namespaced" } else { "cluster" };
        kinds.insert(format!("kind {api} {} {scope} {}\n", text(&kind["kind"]), short(name)));
        visit(definitions, name, &mut types);
    }
    let kinds: String = kinds.into_iter().collect();
    let types: String = types.into_iter().flat_map(|(name, fields)| [format!("type {name}\n"), fields]).collect();
    format!("{HEAD}{kinds}{types}")
}

fn visit<'d>(definitions: &'d Value, name: &'d str, types: &mut BTreeMap<&'d str, String>) {
    if types.contains_key(short(name)) {
        return;
    }
    // A type may have itself in a field.
    types.insert(short(name), String::new());
    let fields = definitions[name]["properties"].as_object().into_iter().flatten();
    let lines: BTreeMap<&String, String> =
        fields.map(|(field, schema)| (field, type_of(definitions, schema, types))).collect();
    let lines = lines
        .into_iter()
        .flat_map(|(field, definition)| [" ", field, " ", &definition, "\n"].map(str::to_owned))
        .collect();
    types.insert(short(name), lines);
}

/// A type in one word: a list's items stand behind `[`, a mapping's values behind `{`.
fn type_of<'d>(definitions: &'d Value, schema: &'d Value, types: &mut BTreeMap<&'d str, String>) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return match name {
            "io.k8s.apimachinery.pkg.api.resource.Quantity" => "quantity".to_owned(),
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => "int-or-string".to_owned(),
            _ if definitions[name]["properties"].is_object() => {
                visit(definitions, name, types);
                short(name).to_owned()
            }
            _ => type_of(definitions, &definitions[name], types),
        };
    }
    match (text(&schema["type"]), text(&schema["format"])) {
        ("array", _) => format!("[{}", type_of(definitions, &schema["items"], types)),
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("{{{}", type_of(definitions, &schema["additionalProperties"], types))
        }
        ("object", _) => "object".to_owned(),
        ("integer", format) => if format.is_empty() { "int64" } else { format }.to_owned(),
        ("number", _) => "double".to_owned(),
        ("string", "byte") => "base64".to_owned(),
        (name @ ("string" | "boolean"), _) => name.to_owned(),
        _ => "any".to_owned(),
    }
}

/// etcd offers its metrics where it was told to, and is still asked for its health; odd search domains reach the node.
pub(super) fn metrics_and_search(cluster: &Cluster) -> Result<(), String> {
    let address = cluster.address()?;
    eventually(EVENTUALLY_TIMEOUT, || {
        contains(&fetch(&format!("http://{address}:2391/metrics"))?, "etcd_server_has_leader 1")
    })?;
    contains(&cluster.in_node("cat /etc/resolv.conf")?, "_sites.Corp.Example")?;
    contains(&cluster.in_node("cat /etc/resolv.conf")?, "lab.example.")
}

/// `--wait 0s` returns before the cluster is usable and keeps it; a time that is over has an exit code of its own.
pub(super) fn wait(cluster: &Cluster) -> Result<(), String> {
    let name = format!("{}wait-{}", cleanup::PREFIX, std::process::id());
    let home = cluster.home.join("wait");
    cleanup::register(&name, &home);
    let kubeconfig = home.join("kubeconfig").display().to_string();
    std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    let create = |wait: &str| {
        cluster.coracle_output(&["create", "cluster", "--name", &name, "--kubeconfig", &kubeconfig, "--wait", wait])
    };
    let late = create("1s")?;
    ensure(late.code == 5, || late.told())?;
    contains(&late.stderr, "error[not-ready]")?;
    nothing_of(&name)?;

    let begun = create("0s")?;
    ensure(begun.code == 0, || begun.told())?;
    contains(&begun.stderr, "is starting")?;
    contains(&begun.stderr, "coracle status")?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status", "--name", &name]))?;
    cluster.coracle(&["delete", "cluster", "--name", &name, "--kubeconfig", &kubeconfig]).map(drop)
}

/// What the API server would refuse in a manifest is told before anything is made.
pub(super) fn manifests(cluster: &Cluster) -> Result<(), String> {
    let name = format!("{}manifest-{}", cleanup::PREFIX, std::process::id());
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  port: 0400\n---\napiVersion: apps/v1\n\
                    kind: Deployment\nmetadata: {name: a}\nspec:\n  replica: 3\n";
    cluster.write("wrong-types.yaml", manifest)?;
    let config = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nmanifests: [wrong-types.yaml]\n";
    let path = cluster.write("wrong-manifests.yaml", config)?;
    let output = cluster.coracle_output(&["create", "cluster", "--name", &name, "--config", &path])?;
    ensure(output.code == 2, || output.told())?;
    for part in [
        "wrong-types.yaml:5:9",
        "`data.port` must be a string, not the number `256`",
        "wrong-types.yaml:11:3",
        "did you mean `replicas`?",
    ] {
        contains(&output.stderr, part)?;
    }
    nothing_of(&name)?;
    // The API server agrees.
    for object in manifest.split("---\n") {
        let file = cluster.write("wrong-object.yaml", object)?;
        let refused = cluster.kubectl_output(&["apply", "--server-side", "--dry-run=server", "--filename", &file])?;
        ensure(refused.code != 0, || format!("the API server takes {object}"))?;
    }
    Ok(())
}
