//! Services of the type `LoadBalancer`, and the nodes of their pods.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;

use crate::object::{Metadata, NamespacedName, Object, Objects};

/// The class of services that the agent handles, beside those without a class.
pub(crate) const CLASS: &str = "coracle.dev/load-balancer";
/// The label by which an `EndpointSlice` names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A service that gets its address from the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Service {
    pub(crate) uid: String,
    pub(crate) created: String,
    pub(crate) version: String,
    /// For each address family that the service has, whether it is IPv4.
    pub(crate) families: Vec<bool>,
    /// `spec.loadBalancerIP`.
    pub(crate) requested: Option<String>,
    /// `externalTrafficPolicy: Local`.
    pub(crate) local: bool,
    /// The addresses in its status.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether the status has only these addresses, in the form that the agent writes.
    pub(crate) is_tidy: bool,
}

/// All services that get their address from the agent.
pub(crate) type Services = Objects<ServiceObject>;

/// A Service object as the API sends it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ServiceObject {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    ip_families: Vec<String>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<String>,
    load_balancer_class: Option<String>,
    external_traffic_policy: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    load_balancer: LoadBalancer,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<Ingress>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ingress {
    ip: Option<IpAddr>,
    ip_mode: Option<String>,
    hostname: Option<String>,
}

impl Object for ServiceObject {
    const PATH: &'static str = "/api/v1/services";
    // A service that changes its type leaves the selection: the watch reports it as deleted.
    const FIELD_SELECTOR: &'static str = "spec.type=LoadBalancer";
    type Key = NamespacedName;
    type Value = Service;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn into_entry(self) -> (NamespacedName, Option<Service>) {
        let Self { metadata, spec, status } = self;
        let class = spec.load_balancer_class.as_deref().unwrap_or(CLASS);
        if spec.kind != "LoadBalancer" || class != CLASS {
            return (metadata.into_key(), None);
        }
        let ingress = status.load_balancer.ingress;
        let tidy = |one: &Ingress| one.ip.is_some() && one.hostname.is_none() && one.ip_mode.as_deref() == Some("VIP");
        let service = Service {
            uid: metadata.uid.clone(),
            created: metadata.creation_timestamp.clone(),
            version: metadata.resource_version.clone(),
            families: spec.ip_families.iter().map(|family| family == "IPv4").collect(),
            requested: spec.load_balancer_ip.filter(|address| !address.is_empty()),
            local: spec.external_traffic_policy.as_deref() == Some("Local"),
            is_tidy: ingress.iter().all(tidy),
            addresses: ingress.iter().filter_map(|one| one.ip).collect(),
        };
        (metadata.into_key(), Some(service))
    }
}

/// The nodes of the endpoints of one slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The service that they belong to.
    pub(crate) service: NamespacedName,
    /// Nodes with an endpoint that is ready.
    pub(crate) ready: BTreeSet<String>,
    /// Nodes with one that is ending but still serves.
    pub(crate) leaving: BTreeSet<String>,
}

/// All slices.
pub(crate) type Slices = Objects<SliceObject>;

/// An `EndpointSlice` as the API sends it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceObject {
    metadata: Metadata,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    node_name: Option<String>,
    #[serde(default)]
    conditions: Conditions,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl Object for SliceObject {
    const PATH: &'static str = "/apis/discovery.k8s.io/v1/endpointslices";
    type Key = NamespacedName;
    type Value = Slice;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn into_entry(mut self) -> (NamespacedName, Option<Slice>) {
        let (mut ready, mut leaving) = (BTreeSet::new(), BTreeSet::new());
        for endpoint in self.endpoints.unwrap_or_default() {
            let Some(node) = endpoint.node_name else { continue };
            let Conditions { ready: is_ready, serving, terminating } = endpoint.conditions;
            // By the API, unknown counts as ready.
            if is_ready.unwrap_or(true) {
                ready.insert(node);
            } else if serving == Some(true) && terminating == Some(true) {
                leaving.insert(node);
            }
        }
        let service = self.metadata.labels.remove(SERVICE_NAME);
        let key = self.metadata.into_key();
        let service = service.map(|name| NamespacedName { namespace: key.namespace.clone(), name });
        let slice = service.map(|service| Slice { service, ready, leaving });
        // Without nodes, it is the same as no slice.
        (key, slice.filter(|slice| !slice.ready.is_empty() || !slice.leaving.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: &str, status: &str) -> Option<Service> {
        let metadata = r#"{"namespace":"n","name":"s","uid":"u","resourceVersion":"7","creationTimestamp":"2026-01-01T00:00:00Z"}"#;
        let text = format!(r#"{{"metadata":{metadata},"spec":{spec},"status":{status}}}"#);
        serde_json::from_str::<ServiceObject>(&text).unwrap().into_entry().1
    }

    #[test]
    fn services_without_a_class_and_of_our_class_are_handled() {
        let spec = |class: &str| format!(r#"{{"type":"LoadBalancer","ipFamilies":["IPv4"]{class}}}"#);
        assert!(service(&spec(""), "{}").is_some());
        assert!(service(&spec(r#","loadBalancerClass":"coracle.dev/load-balancer""#), "{}").is_some());
        assert!(service(&spec(r#","loadBalancerClass":"example.com/other""#), "{}").is_none());
        assert!(service(r#"{"type":"ClusterIP"}"#, "{}").is_none());
    }

    #[test]
    fn the_status_is_read_and_foreign_content_is_noticed() {
        let spec = r#"{"type":"LoadBalancer","ipFamilies":["IPv6","IPv4"],"externalTrafficPolicy":"Local","loadBalancerIP":"172.30.1.9"}"#;
        let ours =
            service(spec, r#"{"loadBalancer":{"ingress":[{"ip":"172.30.1.1","ipMode":"VIP","ports":[]}]}}"#).unwrap();
        assert_eq!(ours.addresses, ["172.30.1.1".parse::<IpAddr>().unwrap()]);
        assert_eq!((ours.is_tidy, ours.local), (true, true));
        assert_eq!((ours.families, ours.requested.as_deref()), (vec![false, true], Some("172.30.1.9")));
        let other = service(spec, r#"{"loadBalancer":{"ingress":[{"hostname":"x"}]}}"#).unwrap();
        assert!(!other.is_tidy && other.addresses.is_empty());
        assert!(service(spec, r#"{"loadBalancer":{}}"#).unwrap().is_tidy);
    }

    #[test]
    fn a_slice_lists_the_nodes_with_endpoints_that_serve() {
        let slice: SliceObject = serde_json::from_str(
            r#"{"metadata":{"namespace":"n","name":"s-x","labels":{"kubernetes.io/service-name":"s"}},"endpoints":[
                {"nodeName":"a","conditions":{"ready":true}},{"nodeName":"b","conditions":{"ready":false}},{"nodeName":"c"},
                {"nodeName":"d","conditions":{"ready":false,"serving":true,"terminating":true}},{"conditions":{}}]}"#,
        )
        .unwrap();
        let (key, slice) = slice.into_entry();
        let slice = slice.unwrap();
        assert_eq!((key.to_string(), slice.service.to_string()), ("n/s-x".to_owned(), "n/s".to_owned()));
        assert_eq!(slice.ready, BTreeSet::from(["a".to_owned(), "c".to_owned()]));
        assert_eq!(slice.leaving, BTreeSet::from(["d".to_owned()]));
        let empty: SliceObject =
            serde_json::from_str(r#"{"metadata":{"namespace":"n","name":"s-y"},"endpoints":null}"#).unwrap();
        assert_eq!(empty.into_entry().1, None);
    }
}
