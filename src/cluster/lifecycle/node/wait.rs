//! Waiting until new nodes are usable: Ready, with the pods on them by which Services and pods of other nodes are reached.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::error::{Code, Error, Result};
use crate::kubernetes::ready::unready;
use crate::kubernetes::{Client, Failure, object, workload};
use crate::ui::Step;

/// Pause between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// What every node needs of the workloads in `kube-system`, as far as a cluster has it.
const NEEDED: [&str; 2] = ["kube-proxy", "coracle-agent"];

/// Waits until these nodes are usable. Without `needs_network` they only have to be there.
pub(super) async fn until_usable(
    client: &Client,
    nodes: &[String],
    deadline: Instant,
    step: &Step,
    needs_network: bool,
) -> Result<()> {
    loop {
        let mut open = Vec::new();
        let seen = look(client).await;
        for node in nodes {
            let cause = match &seen {
                Ok(seen) => seen.cause(node, needs_network),
                Err(failure) => Some(failure.text().to_owned()),
            };
            match cause {
                Some(cause) => {
                    step.detail(node, &cause);
                    open.push(format!("{node}: {cause}"));
                }
                None => step.detail(node, "is ready"),
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let what = if open.len() == 1 { "the new node" } else { "the new nodes" };
            return Err(Error::new(Code::NotReady, format!("gave up waiting for {what}")).because(open.join("; ")));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// What the API says of nodes and of what they need.
struct Objects {
    nodes: Value,
    sets: Value,
    pods: Value,
}

async fn look(client: &Client) -> Result<Objects, Failure> {
    let (nodes, sets, pods) = tokio::try_join!(
        client.get("/api/v1/nodes"),
        client.get("/apis/apps/v1/namespaces/kube-system/daemonsets"),
        client.get("/api/v1/namespaces/kube-system/pods"),
    )?;
    Ok(Objects { nodes, sets, pods })
}

impl Objects {
    /// Why a node is not usable yet.
    fn cause(&self, node: &str, needs_network: bool) -> Option<String> {
        let object = object::items(&self.nodes).iter().find(|object| object::name(object) == node);
        let Some(object) = object else { return Some("it has not registered".to_owned()) };
        match unready(object) {
            // A kubelet that has reported is there, even if it waits for a network.
            Some(_) if !needs_network && workload::find(object, "Ready").is_some() => return None,
            Some(cause) => return Some(cause),
            None => {}
        }
        let sets = object::items(&self.sets).iter().map(object::name).filter(|name| NEEDED.contains(name));
        let missing = sets.filter(|set| !self.is_ready(set, node)).map(|set| format!("{set} is not ready"));
        missing.into_iter().next()
    }

    /// Whether the pod of a `DaemonSet` on a node is ready.
    fn is_ready(&self, set: &str, node: &str) -> bool {
        let is_of =
            |pod: &&Value| pod["spec"]["nodeName"] == node && pod["metadata"]["ownerReferences"][0]["name"] == set;
        let mut pods = object::items(&self.pods).iter().filter(is_of);
        pods.any(workload::is_ready)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(ready: &str, proxy: &str) -> Objects {
        let condition =
            |status: &str| json!({"conditions": [{"type": "Ready", "status": status, "message": "no network"}]});
        let pod = json!({
            "metadata": {"ownerReferences": [{"name": "kube-proxy"}]},
            "spec": {"nodeName": "a"},
            "status": condition(proxy),
        });
        Objects {
            nodes: json!({"items": [{"metadata": {"name": "a"}, "status": condition(ready)}]}),
            sets: json!({"items": [{"metadata": {"name": "kube-proxy"}}, {"metadata": {"name": "mine"}}]}),
            pods: json!({"items": [pod]}),
        }
    }

    #[test]
    fn a_node_is_usable_once_it_is_ready_and_services_are_reached_from_it() {
        assert_eq!(seen("True", "True").cause("a", true), None);
        assert_eq!(seen("True", "False").cause("a", true).unwrap(), "kube-proxy is not ready");
        assert_eq!(seen("False", "True").cause("a", true).unwrap(), "no network");
        assert_eq!(seen("True", "True").cause("b", true).unwrap(), "it has not registered");
    }

    #[test]
    fn where_no_network_is_installed_a_node_that_reports_is_enough() {
        assert_eq!(seen("False", "False").cause("a", false), None);
    }
}
