//! `NetworkPolicy` of `networking.k8s.io/v1`, with its defaults filled in.

use ipnet::IpNet;
use serde::Deserialize;

use super::objects::Protocol;
use super::selector::Selector;
use crate::object::{Metadata, NamespacedName, Object, Objects};

/// All policies.
pub(crate) type Policies = Objects<PolicyObject>;

/// The content of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Policy {
    /// The pods of the policy's namespace that it selects.
    pub(crate) selector: Selector,
    /// The allowed incoming connections; `None` if the policy does not restrict them.
    pub(crate) ingress: Option<Vec<Rule>>,
    /// The allowed outgoing connections.
    pub(crate) egress: Option<Vec<Rule>>,
}

/// What one rule allows: any of the peers at any of the ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rule {
    /// `None` means all peers.
    pub(crate) peers: Option<Vec<Peer>>,
    /// `None` means all ports, and also protocols without ports.
    pub(crate) ports: Option<Vec<Port>>,
}

/// The peers of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// Pods with these labels, in the policy's namespace or in namespaces with the labels.
    Pods { namespaces: Option<Selector>, pods: Selector },
    /// Addresses, whatever has them.
    Block { cidr: IpNet, except: Vec<IpNet> },
}

/// Ports of one protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Port {
    pub(crate) protocol: Protocol,
    pub(crate) numbers: Numbers,
}

/// Which ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Numbers {
    All,
    Range(u16, u16),
    /// The port with this name in the target pod.
    Named(String),
}

/// A `NetworkPolicy` as the API sends it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PolicyObject {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    pod_selector: Selector,
    policy_types: Option<Vec<String>>,
    ingress: Vec<IngressRule>,
    egress: Vec<EgressRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct IngressRule {
    from: Vec<PeerObject>,
    ports: Vec<PortObject>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct EgressRule {
    to: Vec<PeerObject>,
    ports: Vec<PortObject>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PeerObject {
    pod_selector: Option<Selector>,
    namespace_selector: Option<Selector>,
    ip_block: Option<Block>,
}

#[derive(Debug, Clone, Deserialize)]
struct Block {
    cidr: String,
    #[serde(default)]
    except: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PortObject {
    protocol: Protocol,
    port: Option<NumberOrName>,
    end_port: Option<u16>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum NumberOrName {
    Number(u16),
    Name(String),
}

impl Object for PolicyObject {
    const PATH: &'static str = "/apis/networking.k8s.io/v1/networkpolicies";
    type Key = NamespacedName;
    type Value = Policy;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn into_entry(self) -> (NamespacedName, Option<Policy>) {
        let spec = self.spec;
        let (says_ingress, says_egress) = match &spec.policy_types {
            Some(types) => (types.iter().any(|name| name == "Ingress"), types.iter().any(|name| name == "Egress")),
            None => (true, !spec.egress.is_empty()),
        };
        let ingress = spec.ingress.into_iter().map(|IngressRule { from, ports }| rule(from, ports));
        let egress = spec.egress.into_iter().map(|EgressRule { to, ports }| rule(to, ports));
        let policy = Policy {
            selector: spec.pod_selector,
            ingress: says_ingress.then(|| ingress.collect()),
            egress: says_egress.then(|| egress.collect()),
        };
        (self.metadata.into_key(), Some(policy))
    }
}

/// An empty list means everything; a list without a valid entry must not mean that.
fn rule(peers: Vec<PeerObject>, ports: Vec<PortObject>) -> Rule {
    Rule {
        peers: (!peers.is_empty()).then(|| peers.into_iter().filter_map(peer).collect()),
        ports: (!ports.is_empty()).then(|| ports.into_iter().map(port).collect()),
    }
}

fn peer(peer: PeerObject) -> Option<Peer> {
    if let Some(block) = peer.ip_block {
        let cidr: IpNet = block.cidr.parse().ok()?;
        // An invalid exception excludes everything.
        let except: Vec<IpNet> = block.except.iter().map(|cidr| cidr.parse().ok()).collect::<Option<_>>()?;
        return Some(Peer::Block { cidr: cidr.trunc(), except: IpNet::aggregate(&except) });
    }
    match (peer.namespace_selector, peer.pod_selector) {
        (None, None) => None,
        (namespaces, pods) => Some(Peer::Pods { namespaces, pods: pods.unwrap_or_default() }),
    }
}

fn port(port: PortObject) -> Port {
    let numbers = match port.port {
        None => Numbers::All,
        Some(NumberOrName::Number(first)) => Numbers::Range(first, port.end_port.unwrap_or(first).max(first)),
        Some(NumberOrName::Name(name)) => Numbers::Named(name),
    };
    Port { protocol: port.protocol, numbers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &str) -> Policy {
        let text = format!(r#"{{"metadata":{{"namespace":"n","name":"p"}},"spec":{spec}}}"#);
        serde_json::from_str::<PolicyObject>(&text).unwrap().into_entry().1.unwrap()
    }

    #[test]
    fn without_types_a_policy_restricts_ingress_and_also_egress_if_it_has_a_rule() {
        assert_eq!(policy(r#"{"podSelector":{}}"#), Policy { ingress: Some(vec![]), ..Policy::default() });
        assert_eq!(policy(r#"{"egress":[{}]}"#).egress, Some(vec![Rule::default()]));
        assert_eq!(policy(r#"{"egress":[{}]}"#).ingress, Some(vec![]));
        assert_eq!(policy(r#"{"ingress":[{}],"policyTypes":["Egress"]}"#).ingress, None);
        assert_eq!(policy(r#"{"ingress":[{}],"policyTypes":["Egress"]}"#).egress, Some(vec![]));
    }

    #[test]
    fn empty_peers_and_ports_mean_all() {
        assert_eq!(policy(r#"{"ingress":[{"from":[],"ports":[]}]}"#).ingress, Some(vec![Rule::default()]));
    }

    #[test]
    fn each_kind_of_peer_and_port_is_read() {
        let spec = r#"{"egress":[{"to":[{"podSelector":{}},{"namespaceSelector":{}},
            {"ipBlock":{"cidr":"10.1.2.3/8","except":["10.1.0.0/16","10.1.2.0/24"]}}],
            "ports":[{},{"port":80},{"port":90,"endPort":99,"protocol":"SCTP"},{"port":"dns","protocol":"UDP"}]}]}"#;
        let rule = policy(spec).egress.unwrap().remove(0);
        let all = Selector::default();
        assert_eq!(
            rule.peers.unwrap(),
            [
                Peer::Pods { namespaces: None, pods: all.clone() },
                Peer::Pods { namespaces: Some(all.clone()), pods: all },
                Peer::Block { cidr: "10.0.0.0/8".parse().unwrap(), except: vec!["10.1.0.0/16".parse().unwrap()] },
            ]
        );
        let port = |protocol, numbers| Port { protocol, numbers };
        assert_eq!(
            rule.ports.unwrap(),
            [
                port(Protocol::Tcp, Numbers::All),
                port(Protocol::Tcp, Numbers::Range(80, 80)),
                port(Protocol::Sctp, Numbers::Range(90, 99)),
                port(Protocol::Udp, Numbers::Named("dns".to_owned())),
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_allows_nothing() {
        let peers = |from: &str| policy(&format!(r#"{{"ingress":[{{"from":[{from}]}}]}}"#)).ingress.unwrap().remove(0);
        assert_eq!(peers("{}").peers, Some(vec![]));
        assert_eq!(peers(r#"{"ipBlock":{"cidr":"10.0.0.0/99"}}"#).peers, Some(vec![]));
        assert_eq!(peers(r#"{"ipBlock":{"cidr":"10.0.0.0/8","except":["x"]}}"#).peers, Some(vec![]));
    }
}
