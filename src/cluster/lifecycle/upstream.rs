//! What the configuration sets in Kubernetes' own components, checked against the node images before anything is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::known::Known;
use crate::config::upstream::{Images, Written};
use crate::config::{self, ClusterConfig, Role};
use crate::engine::Engine;
use crate::error::{Problem, Result};
use crate::node_image::choose;
use crate::plan::NodeImage;
use crate::plan::facts::{SETTINGS, known};
use crate::ui::Ui;

/// Fails with every name that the Kubernetes version of a node does not know; `images` are those of the nodes, in order.
pub(super) fn check(ui: &Ui, cluster: &ClusterConfig, images: &[NodeImage], written: Option<&Written>) -> Result<()> {
    let Some(written) = written else { return Ok(()) };
    let set = set(cluster);
    if set.is_empty() {
        return Ok(());
    }
    let unknown: BTreeSet<&str> =
        images.iter().filter(|image| image.known.is_none()).map(|image| image.reference.as_str()).collect();
    for reference in unknown {
        ui.warn(format!(
            "the image `{reference}` does not list what can be set in its Kubernetes, so the fields of `{}` are not checked",
            set.join("`, `")
        ));
    }
    let of_nodes = cluster.nodes.iter().zip(images);
    let control_planes = of_nodes.filter(|(node, _)| node.role == Role::ControlPlane).map(|(_, image)| image);
    let known = Images { nodes: lists(images.iter()), control_planes: lists(control_planes) };
    let problems = written.problems(&known);
    let Some(image) = images.iter().find(|image| image.known.is_some()).filter(|_| !problems.is_empty()) else {
        return Ok(());
    };
    Err(config::invalid(&written.file, problems)
        .hint(format!("what can be set: `docker run --rm --entrypoint cat {} {SETTINGS}`", image.reference)))
}

/// The same for a file that nothing is created from: what the node images that are here do not know, and what could not be
/// checked. Nothing is made or pulled.
pub async fn look(
    engine: &dyn Engine,
    cluster: &ClusterConfig,
    written: &Written,
) -> Result<(Vec<Problem>, Vec<String>)> {
    let mut found: BTreeMap<Option<&str>, Option<Arc<Known>>> = BTreeMap::new();
    let mut warnings = Vec::new();
    for node in &cluster.nodes {
        let named = node.image.as_deref().or(cluster.image.as_deref());
        if found.contains_key(&named) {
            continue;
        }
        let (reference, labels) = choose::labels_of(engine, named).await?;
        let list = labels.as_ref().and_then(known);
        let cause = match labels {
            None => format!("the image `{reference}` is not here"),
            Some(_) => format!("the image `{reference}` does not list what can be set in its Kubernetes"),
        };
        warnings.extend(list.is_none().then(|| unchecked(cluster, &cause)));
        found.insert(named, list);
    }
    let planes = cluster.nodes.iter().filter(|node| node.role == Role::ControlPlane);
    let control_planes = planes
        .map(|node| node.image.as_deref().or(cluster.image.as_deref()))
        .filter_map(|named| found.get(&named).and_then(Option::as_deref));
    let nodes = found.values().filter_map(Option::as_deref).collect();
    let images = Images { nodes, control_planes: control_planes.collect() };
    Ok((written.problems(&images), warnings))
}

/// The warning about what is not checked.
pub fn unchecked(cluster: &ClusterConfig, cause: &str) -> String {
    format!("the fields of `{}` are not checked: {cause}", set(cluster).join("`, `"))
}

/// The lists that the images have, each once.
fn lists<'a>(images: impl Iterator<Item = &'a NodeImage>) -> Vec<&'a Known> {
    let mut lists: Vec<&Known> = Vec::new();
    for known in images.filter_map(|image| image.known.as_deref()) {
        // Nodes with the same image share the list itself.
        if !lists.iter().any(|list| std::ptr::eq(*list, known)) {
            lists.push(known);
        }
    }
    lists
}

/// The fields that the configuration sets and that mean what the Kubernetes version makes of them.
pub fn set(cluster: &ClusterConfig) -> Vec<&'static str> {
    let is_patch = |value: &serde_json::Value| value.as_object().is_some_and(|fields| !fields.is_empty());
    let all = [
        ("featureGates", !cluster.feature_gates.is_empty()),
        ("kubelet", is_patch(&cluster.kubelet) || cluster.nodes.iter().any(|node| !node.settings.kubelet.is_empty())),
        ("kubeletFlags", cluster.nodes.iter().any(|node| !node.kubelet_flags.is_empty())),
        ("kubeProxy", is_patch(&cluster.kube_proxy)),
        ("apiServer", !cluster.api_server.is_empty()),
        ("controllerManager", !cluster.controller_manager.is_empty()),
        ("scheduler", !cluster.scheduler.is_empty()),
        ("etcd", !cluster.etcd.is_empty()),
    ];
    all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}
