//! What must hold before a cluster is usable: named conditions, each with the reason why it does not hold yet.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::Value;

use crate::kubernetes::client::{Client, Failure};
use crate::kubernetes::{object, workload};

/// Something to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The API server reports that it is ready.
    ApiReady,
    /// This many Node objects exist, and all are Ready.
    NodesReady(usize),
    /// This many API servers say of themselves that they are ready: each then adds its address to the Service `kubernetes`.
    ServersReady(usize),
    /// CoreDNS has an available replica.
    DnsAvailable,
    /// kube-proxy runs on this many nodes and has set their rules, so that services have addresses that work. Whether it has is
    /// asked only where it answers others.
    ServicesReachable { nodes: usize, answers: bool },
    /// The default namespace has its ServiceAccount, so that pods can be created.
    DefaultServiceAccount,
    /// The storage provisioner has its pod, which nothing in the cluster, such as a policy for pods, refuses; and the scheduler
    /// has looked at it. No other pod of a new cluster shows that the scheduler works.
    StorageStarted,
}

const PROXY_PODS: &str = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-proxy";
/// Where kube-proxy says how it is.
const PROXY_PORT: u16 = 10256;
const SERVERS: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";
const PROVISIONER: &str = "/apis/apps/v1/namespaces/local-path-storage/deployments/local-path-provisioner";
const PROVISIONER_PODS: &str = "/api/v1/namespaces/local-path-storage/pods";

impl Condition {
    /// What is awaited, for messages.
    pub fn what(self) -> &'static str {
        match self {
            Self::ApiReady => "the API server to be ready",
            Self::NodesReady(_) => "all nodes to be Ready",
            Self::ServersReady(_) => "all API servers to be ready",
            Self::DnsAvailable => "CoreDNS to be available",
            Self::ServicesReachable { .. } => "kube-proxy to run on all nodes",
            Self::DefaultServiceAccount => "the default ServiceAccount",
            Self::StorageStarted => "the storage provisioner to start",
        }
    }

    /// `Ok(None)` if it holds, `Ok(Some(cause))` if it does not hold yet.
    pub async fn check(self, client: &Client) -> Result<Option<String>, Failure> {
        match self {
            Self::ApiReady => {
                client.get("/readyz").await?;
                Ok(None)
            }
            Self::NodesReady(count) => Ok(unready_nodes(&client.get("/api/v1/nodes").await?, count)),
            Self::ServersReady(count) => Ok(unready_servers(&client.get(SERVERS).await?, count)),
            Self::DnsAvailable => {
                let deployment = client.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns").await?;
                // One is enough, unlike in `workload::state`, which requires all of them.
                let available = workload::number(&deployment["status"]["availableReplicas"], 0);
                Ok((available == 0).then(|| "no replica is available".to_owned()))
            }
            Self::ServicesReachable { nodes, answers } => {
                let pods = client.get(PROXY_PODS).await?;
                let ready = nodes_with_ready(&pods);
                if ready.len() < nodes {
                    return Ok(Some(format!("it runs on {} of {nodes} nodes", ready.len())));
                }
                if !answers {
                    return Ok(None);
                }
                let asked = ready.iter().map(|node| async move { without_rules(client, node).await });
                Ok(join_all(asked).await.into_iter().flatten().next())
            }
            Self::DefaultServiceAccount => {
                client.get("/api/v1/namespaces/default/serviceaccounts/default").await?;
                Ok(None)
            }
            Self::StorageStarted => match client.get(PROVISIONER).await {
                Ok(deployment) => match without_pod(&deployment) {
                    None => Ok(unseen(&client.get(PROVISIONER_PODS).await?)),
                    cause => Ok(cause),
                },
                // A node image without one: what it has was applied before.
                Err(Failure::Status(404, ..)) => Ok(None),
                Err(failure) => Err(failure),
            },
        }
    }
}

/// The nodes on which one of these pods is ready.
fn nodes_with_ready(pods: &Value) -> Vec<&str> {
    let ready = object::items(pods).iter().filter(|pod| workload::is_ready(pod));
    ready.filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect()
}

/// The reason why kube-proxy has not set the rules of a node. It is asked by the API server: a container of it that runs may
/// be about to end.
async fn without_rules(client: &Client, node: &str) -> Option<String> {
    match client.get(&format!("/api/v1/nodes/http:{node}:{PROXY_PORT}/proxy/healthz")).await {
        // The year 1 stands for never.
        Ok(health) if health["lastUpdated"].as_str().is_some_and(|time| !time.starts_with("0001")) => None,
        Ok(_) => Some(format!("{node}: it has not set its rules yet")),
        Err(_) => Some(format!("{node}: it does not answer")),
    }
}

/// The reason why a Deployment has no pod.
fn without_pod(deployment: &Value) -> Option<String> {
    if workload::number(&deployment["status"]["replicas"], 0) > 0 {
        return None;
    }
    let failure = workload::find(deployment, "ReplicaFailure").filter(|failure| failure["status"] == "True");
    let message = failure.and_then(|failure| failure["message"].as_str());
    Some(message.unwrap_or("it has no pod yet").to_owned())
}

/// The scheduler has not looked at any of these pods.
fn unseen(pods: &Value) -> Option<String> {
    let seen = object::items(pods).iter().any(|pod| workload::find(pod, "PodScheduled").is_some());
    (!seen).then(|| "the scheduler has not seen its pod yet".to_owned())
}

/// The reason why not all of `count` API servers are ready. None at all is a cluster whose servers keep no such list, as with
/// `endpoint-reconciler-type: none`.
fn unready_servers(slices: &Value, count: usize) -> Option<String> {
    let endpoints = object::items(slices).iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
    let addresses: HashSet<&str> = endpoints.filter_map(|endpoint| endpoint["addresses"][0].as_str()).collect();
    let ready = addresses.len();
    (ready > 0 && ready < count).then(|| format!("{ready} of {count} are"))
}

/// The reason why not all of `count` nodes are Ready.
fn unready_nodes(list: &Value, count: usize) -> Option<String> {
    let nodes = object::items(list);
    let cause = |node| Some(format!("{}: {}", object::name(node), unready(node)?));
    let mut causes: Vec<String> = nodes.iter().filter_map(cause).collect();
    if nodes.len() < count {
        causes.push(format!("{} of {count} nodes are registered", nodes.len()));
    }
    (!causes.is_empty()).then(|| causes.join("; "))
}

/// The reason why a Node object is not Ready; `None` if it is.
pub fn unready(node: &Value) -> Option<String> {
    match workload::find(node, "Ready") {
        None => Some("the kubelet has not reported yet".to_owned()),
        Some(ready) if ready["status"] == "True" => None,
        Some(ready) => Some(ready["message"].as_str().unwrap_or("not ready").to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_provisioner_that_is_refused_has_not_started() {
        let refused = json!({"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity"});
        let deployment = |replicas: u64| json!({"status": {"replicas": replicas, "conditions": [refused]}});
        assert_eq!(without_pod(&deployment(0)).unwrap(), "violates PodSecurity");
        assert_eq!(without_pod(&deployment(1)), None);
        assert_eq!(without_pod(&json!({})).unwrap(), "it has no pod yet");
    }

    #[test]
    fn a_node_has_a_proxy_once_its_pod_is_ready() {
        let pod = |node: &str, status: &str| json!({"spec": {"nodeName": node}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
        let pods = json!({"items": [pod("a", "True"), pod("b", "False"), {"spec": {}, "status": {}}]});
        assert_eq!(nodes_with_ready(&pods), ["a"]);
    }

    #[test]
    fn a_pod_is_seen_once_the_scheduler_says_something_about_it() {
        let pods = |conditions: Value| json!({"items": [{"status": {"conditions": conditions}}]});
        assert!(unseen(&pods(json!([]))).is_some() && unseen(&json!({"items": []})).is_some());
        let full = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]);
        assert_eq!(unseen(&pods(full)), None);
    }

    #[test]
    fn every_api_server_adds_its_address() {
        let slice = |addresses: &[&str]| {
            let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
            json!({"endpoints": endpoints})
        };
        let list = |slices: &[Value]| json!({"items": slices});
        assert_eq!(unready_servers(&list(&[slice(&["10.0.0.2"])]), 3).unwrap(), "1 of 3 are");
        assert_eq!(
            unready_servers(&list(&[slice(&["10.0.0.2", "10.0.0.3"]), slice(&["10.0.0.2"])]), 3).unwrap(),
            "2 of 3 are"
        );
        assert_eq!(unready_servers(&list(&[slice(&["10.0.0.2", "10.0.0.3", "10.0.0.4"])]), 3), None);
        assert_eq!(unready_servers(&list(&[json!({"endpoints": null})]), 3), None);
    }

    #[test]
    fn a_node_counts_only_when_its_kubelet_says_ready() {
        let node = |status: &str| json!({"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": status, "message": "cni"}]}});
        let list = |nodes: Vec<Value>| json!({"items": nodes});
        assert_eq!(unready_nodes(&list(vec![node("True")]), 1), None);
        assert_eq!(unready_nodes(&list(vec![node("False")]), 1).unwrap(), "a: cni");
        assert_eq!(unready_nodes(&list(vec![node("True")]), 2).unwrap(), "1 of 2 nodes are registered");
        assert!(unready_nodes(&list(vec![json!({"metadata": {"name": "a"}})]), 1).unwrap().contains("not reported"));
    }
}
