//! What must hold before a cluster is usable: named conditions, each with the reason why it does not hold yet.

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
    /// CoreDNS has an available replica.
    DnsAvailable,
    /// kube-proxy runs on this many nodes, so that services have addresses that work.
    ServicesReachable(usize),
    /// The default namespace has its ServiceAccount, so that pods can be created.
    DefaultServiceAccount,
}

impl Condition {
    /// What is awaited, for messages.
    pub fn what(self) -> &'static str {
        match self {
            Self::ApiReady => "the API server to be ready",
            Self::NodesReady(_) => "all nodes to be Ready",
            Self::DnsAvailable => "CoreDNS to be available",
            Self::ServicesReachable(_) => "kube-proxy to run on all nodes",
            Self::DefaultServiceAccount => "the default ServiceAccount",
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
            Self::DnsAvailable => {
                let deployment = client.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns").await?;
                // One is enough, unlike in `workload::state`, which requires all of them.
                let available = workload::number(&deployment["status"]["availableReplicas"], 0);
                Ok((available == 0).then(|| "no replica is available".to_owned()))
            }
            Self::ServicesReachable(count) => {
                let proxies = client.get("/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy").await?;
                // On all planned nodes, including those that its controller has not seen yet.
                let ready = workload::number(&proxies["status"]["numberReady"], 0);
                Ok((ready < count as u64).then(|| format!("it runs on {ready} of {count} nodes")))
            }
            Self::DefaultServiceAccount => {
                client.get("/api/v1/namespaces/default/serviceaccounts/default").await?;
                Ok(None)
            }
        }
    }
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
    fn a_node_counts_only_when_its_kubelet_says_ready() {
        let node = |status: &str| json!({"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": status, "message": "cni"}]}});
        let list = |nodes: Vec<Value>| json!({"items": nodes});
        assert_eq!(unready_nodes(&list(vec![node("True")]), 1), None);
        assert_eq!(unready_nodes(&list(vec![node("False")]), 1).unwrap(), "a: cni");
        assert_eq!(unready_nodes(&list(vec![node("True")]), 2).unwrap(), "1 of 2 nodes are registered");
        assert!(unready_nodes(&list(vec![json!({"metadata": {"name": "a"}})]), 1).unwrap().contains("not reported"));
    }
}
