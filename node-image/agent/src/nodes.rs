//! The nodes of the cluster, with only the fields that the agent acts on.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::object::{Metadata, Object, Objects};

/// What the agent knows about a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Node {
    /// Subnets of the node's pods.
    pub(crate) pod_cidrs: Vec<IpNet>,
    /// The node's `InternalIP` addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether the node must not answer for services from outside.
    pub(crate) excluded: bool,
    /// Whether it has the labels that only an administrator may set.
    pub(crate) labelled: bool,
}

/// The label for that.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// All nodes by name.
pub(crate) type Nodes = Objects<NodeObject>;

/// A Node object as the API sends it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NodeObject {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Spec {
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Debug, Clone, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl Object for NodeObject {
    const PATH: &'static str = "/api/v1/nodes";
    type Key = String;
    type Value = Node;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn into_entry(self) -> (String, Option<Node>) {
        let pod_cidrs = self.spec.pod_cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect();
        let addresses = self.status.addresses.iter();
        let addresses = addresses.filter(|address| address.kind == "InternalIP");
        let addresses = addresses.filter_map(|address| address.address.parse().ok()).collect();
        let excluded = self.metadata.labels.contains_key(EXCLUDED);
        let labelled = self.metadata.annotations.labelled.is_some();
        (self.metadata.name, Some(Node { pod_cidrs, addresses, excluded, labelled }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_internal_addresses_and_pod_subnets_are_kept() {
        let object: NodeObject = serde_json::from_str(
            r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"b","resourceVersion":"7","labels":{"x":"y"}},
                "spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00:0:0:1::/64"]},
                "status":{"addresses":[{"type":"InternalIP","address":"172.30.0.3"},{"type":"Hostname","address":"b"},
                {"type":"ExternalIP","address":"1.2.3.4"},{"type":"InternalIP","address":"fd01::3"}],"images":[{"names":["x"]}]}}"#,
        )
        .unwrap();
        let (name, node) = object.into_entry();
        let node = node.unwrap();
        assert_eq!((name.as_str(), node.excluded), ("b", false));
        assert_eq!(node.pod_cidrs, ["10.244.1.0/24".parse().unwrap(), "fd00:0:0:1::/64".parse().unwrap()]);
        assert_eq!(node.addresses, ["172.30.0.3".parse::<IpAddr>().unwrap(), "fd01::3".parse().unwrap()]);
    }

    #[test]
    fn the_label_that_excludes_a_node_counts_with_any_value() {
        let text = format!(r#"{{"metadata":{{"name":"b","labels":{{"{EXCLUDED}":""}}}}}}"#);
        let object: NodeObject = serde_json::from_str(&text).unwrap();
        assert!(object.into_entry().1.unwrap().excluded);
    }

    #[test]
    fn the_annotation_of_a_node_with_all_labels_is_read() {
        let text =
            format!(r#"{{"metadata":{{"name":"b","annotations":{{"{}":"true"}}}}}}"#, coracle_shared::labels::LABELLED);
        let object: NodeObject = serde_json::from_str(&text).unwrap();
        assert!(object.into_entry().1.unwrap().labelled);
    }

    #[test]
    fn a_node_that_has_no_subnet_yet_is_read() {
        let object: NodeObject = serde_json::from_str(r#"{"metadata":{"name":"b"},"spec":{}}"#).unwrap();
        assert_eq!(object.into_entry(), ("b".to_owned(), Some(Node::default())));
    }
}
