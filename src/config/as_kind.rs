//! Clusters that tools and scripts take for one of kind: their context, their network and where their ports listen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ClusterConfig;
use super::value::quoted;

impl ClusterConfig {
    /// The kubeconfig context, cluster and user name.
    pub fn context(&self) -> String {
        if self.kind_network.is_some() { self.name.kind_context() } else { self.name.context() }
    }

    /// The host's address on which ports of nodes are published where none is named: every address for what stands in for a
    /// cluster of kind, whose scripts rely on it.
    pub(super) fn usual_listen_address(&self) -> IpAddr {
        let loopback = self.networking.loopback();
        match (self.kind_network.is_some(), loopback.is_ipv4()) {
            (false, _) => loopback,
            (true, true) => Ipv4Addr::UNSPECIFIED.into(),
            (true, false) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// Checks the name of a network of the engine.
pub(super) fn network_name(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let is_name = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_allowed);
    // The engine's own networks have no names of containers.
    if !is_name || ["bridge", "host", "none"].contains(&text) {
        return Err(format!("{} is not the name of a network that nodes can join, such as `kind`", quoted(text)));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, load};
    use super::*;

    fn read(text: &str, overrides: &Overrides) -> ClusterConfig {
        load(text, "f", overrides).unwrap()
    }

    #[test]
    fn a_cluster_for_tools_of_kind_has_names_and_ports_as_kind_gives_them() {
        let text = "{kind: Cluster, apiVersion: kind.x-k8s.io/v1alpha4, nodes: [{role: control-plane, \
                    extraPortMappings: [{containerPort: 80, hostPort: 8080}]}]}";
        let listen = |cluster: &ClusterConfig| cluster.nodes[0].extra_port_mappings[0].listen_address.to_string();
        let usual = read(text, &Overrides::default());
        assert_eq!((usual.context(), listen(&usual)), ("coracle-coracle".to_owned(), "127.0.0.1".to_owned()));
        let as_kind = Overrides { kind_network: Some("kind".to_owned()), ..Overrides::default() };
        let cluster = read(text, &as_kind);
        assert_eq!((cluster.context(), listen(&cluster)), ("kind-kind".to_owned(), "0.0.0.0".to_owned()));
        let named = read(&text.replace("kind: Cluster", "kind: Cluster, name: dev"), &as_kind);
        assert_eq!(named.context(), "kind-dev");
        // What the nodes keep is read back as the same.
        let again = read(&cluster.to_text().unwrap(), &Overrides::default());
        assert_eq!((again.context(), again.kind_network), (cluster.context(), Some("kind".to_owned())));
    }

    #[test]
    fn only_a_network_that_containers_can_join_is_one() {
        assert_eq!(network_name("my-kind_1.x"), Ok("my-kind_1.x".to_owned()));
        for wrong in ["", "-kind", "a b", "host", "none", "bridge", "käse"] {
            assert!(network_name(wrong).is_err(), "{wrong}");
        }
    }
}
