//! Pods and namespaces, with only the fields that matter for policies.

use std::net::IpAddr;

use serde::Deserialize;

use super::selector::Labels;
use crate::object::{Metadata, NamespacedName, Object, Objects};

/// All pods that have and use a network of their own.
pub(crate) type Pods = Objects<PodObject>;
/// The labels of all namespaces.
pub(crate) type Namespaces = Objects<NamespaceObject>;

/// The fields of a pod that matter for policies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pod {
    /// Distinguishes this pod from another one of the same name; the kubelet gives it to CNI plugins.
    pub(crate) uid: String,
    /// Name of the node; empty before the pod is scheduled.
    pub(crate) node: String,
    pub(crate) labels: Labels,
    /// The pod's addresses in the API, which gets them late while a pod starts.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: Vec<NamedPort>,
}

/// A port of a container that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPort {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) number: u16,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// A Pod as the API sends it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PodObject {
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    host_network: bool,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    ports: Vec<ContainerPort>,
    restart_policy: String,
}

#[derive(Debug, Clone, Deserialize)]
struct ContainerPort {
    #[serde(default)]
    name: String,
    #[serde(default)]
    protocol: Protocol,
    #[serde(rename = "containerPort")]
    number: u16,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

#[derive(Debug, Clone, Deserialize)]
struct PodIp {
    ip: String,
}

impl Object for PodObject {
    const PATH: &'static str = "/api/v1/pods";
    type Key = NamespacedName;
    type Value = Pod;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn into_entry(self) -> (NamespacedName, Option<Pod>) {
        // A pod on the host's network cannot be distinguished from its node; a pod that has ended has released its address.
        if self.spec.host_network || matches!(self.status.phase.as_str(), "Succeeded" | "Failed") {
            return (self.metadata.into_key(), None);
        }
        // An init container with this policy is a sidecar, which runs while the pod runs.
        let sidecars = self.spec.init_containers.into_iter().filter(|container| container.restart_policy == "Always");
        let ports = self.spec.containers.into_iter().chain(sidecars).flat_map(|container| container.ports);
        let ports = ports.filter(|port| !port.name.is_empty());
        let pod = Pod {
            // The mirror of a static pod has an ID of its own.
            uid: self.metadata.annotations.config_hash.clone().unwrap_or_else(|| self.metadata.uid.clone()),
            node: self.spec.node_name,
            labels: self.metadata.labels.clone(),
            addresses: self.status.pod_ips.iter().filter_map(|address| address.ip.parse().ok()).collect(),
            ports: ports
                .map(|port| NamedPort { name: port.name, protocol: port.protocol, number: port.number })
                .collect(),
        };
        (self.metadata.into_key(), Some(pod))
    }
}

/// A Namespace as the API sends it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NamespaceObject {
    metadata: Metadata,
}

impl Object for NamespaceObject {
    const PATH: &'static str = "/api/v1/namespaces";
    type Key = String;
    type Value = Labels;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn into_entry(self) -> (String, Option<Labels>) {
        (self.metadata.name, Some(self.metadata.labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str, status: &str) -> Option<Pod> {
        let metadata = r#"{"namespace":"n","name":"p","uid":"u","labels":{"a":"b"},"annotations":{"x":"y"}}"#;
        let text = format!(r#"{{"metadata":{metadata},"spec":{spec},"status":{status}}}"#);
        let object: PodObject = serde_json::from_str(&text).unwrap();
        let (key, pod) = object.into_entry();
        assert_eq!(key.to_string(), "n/p");
        pod
    }

    #[test]
    fn ports_with_a_name_are_kept_including_those_of_sidecars() {
        let spec = r#"{"nodeName":"a","containers":[{"image":"i","ports":[{"name":"http","containerPort":8080},
            {"containerPort":1},{"name":"dns","protocol":"UDP","containerPort":53}]}],
            "initContainers":[{"restartPolicy":"Always","ports":[{"name":"side","containerPort":2}]},
            {"ports":[{"name":"early","containerPort":3}]}]}"#;
        let pod = pod(spec, r#"{"phase":"Running","podIP":"10.1.0.2","podIPs":[{"ip":"10.1.0.2"},{"ip":"fd00::2"}]}"#);
        let pod = pod.unwrap();
        let ports: Vec<_> = pod.ports.iter().map(|port| (port.name.as_str(), port.protocol, port.number)).collect();
        assert_eq!(ports, [("http", Protocol::Tcp, 8080), ("dns", Protocol::Udp, 53), ("side", Protocol::Tcp, 2)]);
        assert_eq!(pod.addresses, ["10.1.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]);
        assert_eq!((pod.uid.as_str(), pod.node.as_str()), ("u", "a"));
    }

    #[test]
    fn pods_of_the_host_network_and_pods_that_ended_do_not_count() {
        assert_eq!(pod(r#"{"hostNetwork":true}"#, "{}"), None);
        assert_eq!(pod("{}", r#"{"phase":"Succeeded","podIPs":[{"ip":"10.1.0.2"}]}"#), None);
        assert_eq!(pod("{}", r#"{"phase":"Failed"}"#), None);
        assert!(pod("{}", r#"{"phase":"Pending"}"#).is_some());
    }

    #[test]
    fn a_static_pod_has_the_id_that_its_kubelet_knows() {
        let text = r#"{"metadata":{"name":"p","uid":"u","annotations":{"kubernetes.io/config.hash":"h"}}}"#;
        let object: PodObject = serde_json::from_str(text).unwrap();
        assert_eq!(object.into_entry().1.unwrap().uid, "h");
    }
}
