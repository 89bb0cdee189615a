//! The pods behind a Service that take connections, as kube-proxy sees them, and why there are none.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::cluster::found::Cluster;
use crate::kubernetes::{Client, Failure, object, workload};

/// The nodes with pods that take connections, by the name of the Service's port; `None` is a place outside the cluster.
#[derive(Debug, Default)]
pub(super) struct Endpoints(BTreeMap<String, BTreeSet<Option<String>>>);

impl Endpoints {
    /// The endpoints of a Service, without those on nodes that do not run, which Kubernetes notices only later.
    pub(super) async fn of(client: &Client, cluster: &Cluster, service: &Value) -> Result<Self, Failure> {
        let namespace = object::namespace(service).unwrap_or_default();
        let name = object::name(service);
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{name}"
        );
        let stopped = cluster.nodes.iter().filter(|node| !node.is_running()).map(|node| node.name.as_str());
        Ok(Self::read(&client.get(&path).await?, &stopped.collect()))
    }

    pub(super) fn read(slices: &Value, stopped: &BTreeSet<&str>) -> Self {
        let mut found = Self::default();
        for slice in object::items(slices) {
            let endpoints = slice["endpoints"].as_array().into_iter().flatten().filter(|endpoint| is_usable(endpoint));
            let nodes = endpoints.map(|endpoint| endpoint["nodeName"].as_str());
            let nodes: BTreeSet<_> = nodes
                .filter(|node| node.is_none_or(|node| !stopped.contains(node)))
                .map(|node| node.map(str::to_owned))
                .collect();
            if nodes.is_empty() {
                continue;
            }
            for port in slice["ports"].as_array().into_iter().flatten() {
                let name = port["name"].as_str().unwrap_or_default().to_owned();
                found.0.entry(name).or_default().extend(nodes.iter().cloned());
            }
        }
        found
    }

    #[cfg(test)]
    pub(super) fn on(port: &str, nodes: &[&str]) -> Self {
        let nodes = nodes.iter().map(|node| Some((*node).to_owned())).collect();
        Self(BTreeMap::from([(port.to_owned(), nodes)]))
    }

    /// Whether no pod takes connections, at any port.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a pod takes connections at this port of the Service.
    pub(super) fn has(&self, port: &str) -> bool {
        self.0.contains_key(port)
    }

    /// Whether a pod on this node takes connections at this port of the Service.
    pub(super) fn has_on(&self, port: &str, node: &str) -> bool {
        self.0.get(port).is_some_and(|nodes| nodes.contains(&Some(node.to_owned())))
    }

    /// All nodes with such pods.
    pub(super) fn nodes(&self) -> BTreeSet<&str> {
        self.0.values().flatten().filter_map(Option::as_deref).collect()
    }
}

/// Whether kube-proxy sends connections there; to pods that are ending only if there are no others.
fn is_usable(endpoint: &Value) -> bool {
    let condition = |name: &str| endpoint["conditions"][name].as_bool();
    condition("ready").unwrap_or(true) || condition("serving") == Some(true)
}

/// Why no pod takes connections, and the reason of each pod.
pub(super) async fn why_none(client: &Client, cluster: &Cluster, service: &Value) -> (String, Vec<String>) {
    let Some(selector) = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty()) else {
        return ("it has no selector and no endpoints".to_owned(), Vec::new());
    };
    let object = json!({"metadata": service["metadata"], "spec": {"selector": {"matchLabels": selector}}});
    let path = workload::pods_path(&object).unwrap_or_default();
    let pods = match client.get(&path).await {
        Ok(pods) => pods,
        Err(failure) => return (format!("its pods cannot be listed: {}", failure.text()), Vec::new()),
    };
    let labels: Vec<String> =
        selector.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if object::items(&pods).is_empty() {
        return (format!("no pod has the labels `{}`", labels.join(",")), Vec::new());
    }
    let stopped = cluster.nodes.iter().filter(|node| !node.is_running()).map(|node| node.name.as_str()).collect();
    (not_ready(object::items(&pods), &stopped), workload::troubles(&pods))
}

/// Why none of these pods takes connections.
fn not_ready(pods: &[Value], stopped: &BTreeSet<&str>) -> String {
    let nodes: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    let down: Vec<String> = nodes.intersection(stopped).map(|node| format!("`{node}`")).collect();
    if !down.is_empty() && down.len() == nodes.len() {
        let are = if down.len() == 1 { "is" } else { "are" };
        return format!("its pods are on {}, which {are} not running", down.join(", "));
    }
    match pods.len() {
        1 => "its pod is not ready, or has no such port".to_owned(),
        count => format!("none of its {count} pods is ready and has such a port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_on_nodes_that_do_not_run_are_told_apart() {
        let pod = |node: &str| json!({"spec": {"nodeName": node}});
        let stopped = BTreeSet::from(["b"]);
        assert_eq!(not_ready(&[pod("b"), pod("b")], &stopped), "its pods are on `b`, which is not running");
        assert_eq!(not_ready(&[pod("a"), pod("b")], &stopped), "none of its 2 pods is ready and has such a port");
        assert_eq!(not_ready(&[pod("a")], &stopped), "its pod is not ready, or has no such port");
    }

    #[test]
    fn pods_count_where_kube_proxy_sends_connections() {
        let endpoint = |node: &str, conditions: Value| json!({"nodeName": node, "conditions": conditions});
        let slices = json!({"items": [{
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                endpoint("a", json!({"ready": false})),
                endpoint("b", json!({"ready": true})),
                endpoint("c", json!({})),
                endpoint("d", json!({"ready": false, "serving": true, "terminating": true})),
                endpoint("e", json!({"ready": true})),
            ],
        }]});
        let endpoints = Endpoints::read(&slices, &BTreeSet::from(["e"]));
        assert_eq!(endpoints.nodes().into_iter().collect::<Vec<_>>(), ["b", "c", "d"]);
        assert!(endpoints.has("http") && !endpoints.has("metrics"));
        assert!(endpoints.has_on("http", "b") && !endpoints.has_on("http", "a"));
        assert!(Endpoints::read(&slices, &BTreeSet::from(["b", "c", "d", "e"])).is_empty());
    }
}
