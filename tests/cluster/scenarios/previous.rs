//! A cluster that the previous command made is still a cluster for this one.

use serde_json::Value;

use super::{hello, nodes, reports};
use crate::Group;
use crate::harness::SKIPPED;
use crate::harness::chance::is_long;
use crate::harness::cluster::{Cluster, json};
use crate::harness::previous::{command, is_built};
use crate::harness::run::{LIMIT, contains, ensure, run};

/// One control plane and one worker, made by the previous command and handled by this one.
pub const PREVIOUS: Group = Group {
    name: "previous",
    environment: &[],
    create,
    together: &[],
    scenarios: &[
        ("found", found),
        ("get", reports::get),
        ("status", reports::status),
        ("load", hello::load),
        ("page", hello::page),
        ("image-ls", image_ls),
        ("export-kubeconfig", reports::export_kubeconfig),
        ("export-logs", reports::export_logs),
        ("delete", nodes::delete),
    ],
};

/// NodePort 30080 leads to a host port that coracle chooses.
const CONFIG: &str = "apiVersion: coracle.dev/v1alpha1
kind: Cluster
nodes:
  - role: control-plane
    extraPortMappings:
      - containerPort: 30080
        hostPort: 0
  - role: worker
";

fn create(cluster: &Cluster) -> Result<(), String> {
    // Compiling that command takes a tenth of the time of all clusters.
    ensure(is_long() || is_built(), || format!("{SKIPPED}left to the long run"))?;
    let command = command()?;
    // On a busy machine that command may give up on a component that failed while another one started. It removes what it
    // made then, and is not what is tested here.
    cluster.create_with(&command, CONFIG, &[]).or_else(|_| cluster.create_with(&command, CONFIG, &[]))
}

/// Both commands see the same cluster and the same nodes, in all that the previous one can tell.
fn found(cluster: &Cluster) -> Result<(), String> {
    for what in ["clusters", "nodes"] {
        let arguments = ["get", what, "--output=json"];
        let before = json(&run(cluster.command_of(&command()?, &arguments), None, LIMIT)?.ok()?)?;
        let now = cluster.coracle_json(&arguments)?;
        let own = own(cluster, &before);
        ensure(!own.is_empty(), || format!("the previous command does not see its cluster: {before}"))?;
        let other = self::own(cluster, &now);
        let is_seen = |one: &&Value| other.iter().any(|other| has_all(other, one));
        let missing: Vec<&&Value> = own.iter().filter(|one| !is_seen(one)).collect();
        ensure(missing.is_empty(), || format!("`get {what}` printed {now}, and not {missing:?}"))?;
        ensure(own.len() == other.len(), || format!("`get {what}` printed {now} and before {before}"))?;
    }
    Ok(())
}

/// Of a list, what belongs to this cluster; others may come and go meanwhile.
fn own<'v>(cluster: &Cluster, all: &'v Value) -> Vec<&'v Value> {
    let is_own = |one: &&Value| one["name"].as_str().is_some_and(|name| name.starts_with(&cluster.name));
    all.as_array().into_iter().flatten().filter(is_own).collect()
}

/// Whether an object has every field of another one, with the same value.
fn has_all(one: &Value, other: &Value) -> bool {
    other.as_object().is_some_and(|fields| fields.iter().all(|(name, value)| one[name] == *value))
}

/// The image that was loaded is listed.
fn image_ls(cluster: &Cluster) -> Result<(), String> {
    contains(&cluster.coracle(&["image", "ls"])?, "hello-world:latest")
}
