//! The settings of the agent, from its environment.

use std::path::PathBuf;

use coracle_shared::paths::{CNI_DIRECTORY, HEARTBEAT_KEY, NODE_REGISTRATION, RUN_DIRECTORY};
use ipnet::IpNet;

/// An address at which the cluster's API may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// URL of the API server, such as `https://172.30.0.2:6443`.
    pub(crate) url: String,
    /// The name that the server's certificate must have; `None` means the URL's host.
    pub(crate) server_name: Option<&'static str>,
}

/// The agent's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Name of the Node object of the node that the agent runs on.
    pub(crate) node_name: String,
    /// The cluster's pod subnets: Kubernetes allows at most one of IPv4 and one of IPv6, the agent any number.
    pub(crate) pod_subnets: Vec<IpNet>,
    /// The subnets of services whose addresses kube-proxy translates; empty if another program handles services.
    pub(crate) service_subnets: Vec<IpNet>,
    /// API servers, at least one, in the order in which they are tried.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Where CNI configurations are.
    pub(crate) cni_directory: PathBuf,
    /// Whether the agent handles the pods' network, or another CNI plugin does.
    pub(crate) pod_network: bool,
    /// Addresses for services of the type `LoadBalancer`; empty if another program handles these.
    pub(crate) load_balancer_subnets: Vec<IpNet>,
    /// Where the CNI plugin finds the agent, and records the addresses of each pod.
    pub(crate) run_directory: PathBuf,
    /// The key with which the nodes of the cluster sign their heartbeats.
    pub(crate) key_file: PathBuf,
    /// What this node's object had when the node was made.
    pub(crate) registration_file: PathBuf,
}

impl Config {
    /// Reads the settings through `get`, which looks up an environment variable.
    pub(crate) fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let get = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let node_name = get("NODE_NAME").ok_or("NODE_NAME is not set")?;
        let pod_subnets = subnets("POD_SUBNETS", &get("POD_SUBNETS").ok_or("POD_SUBNETS is not set")?)?;
        let optional = |name| get(name).map_or_else(|| Ok(Vec::new()), |value| subnets(name, &value));
        let service_subnets = optional("SERVICE_SUBNETS")?;
        let load_balancer_subnets = optional("LOAD_BALANCER_SUBNETS")?;
        let mut endpoints = Vec::new();
        if let Some(endpoint) = get("CONTROL_PLANE_ENDPOINT") {
            endpoints.push(control_plane(endpoint));
        }
        // The address of the service: it answers once kube-proxy has run on this node.
        if let Some(host) = get("KUBERNETES_SERVICE_HOST") {
            let port = get("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            endpoints.push(Endpoint { url: format!("https://{host}:{port}"), server_name: None });
        }
        if endpoints.is_empty() {
            return Err("neither CONTROL_PLANE_ENDPOINT nor KUBERNETES_SERVICE_HOST is set".to_owned());
        }
        let pod_network = get("POD_NETWORK").as_deref() != Some("off");
        let cni_directory = get("CNI_DIRECTORY").map_or_else(|| PathBuf::from(CNI_DIRECTORY), PathBuf::from);
        let run_directory = get("RUN_DIRECTORY").map_or_else(|| PathBuf::from(RUN_DIRECTORY), PathBuf::from);
        Ok(Self {
            node_name,
            pod_subnets,
            service_subnets,
            endpoints,
            cni_directory,
            pod_network,
            load_balancer_subnets,
            run_directory,
            key_file: get("HEARTBEAT_KEY").map_or_else(|| PathBuf::from(HEARTBEAT_KEY), PathBuf::from),
            registration_file: get("NODE_REGISTRATION").map_or_else(|| PathBuf::from(NODE_REGISTRATION), PathBuf::from),
        })
    }
}

fn subnets(name: &str, value: &str) -> Result<Vec<IpNet>, String> {
    let parse =
        |subnet: &str| subnet.trim().parse().map_err(|_| format!("{name} has `{subnet}`, which is not a subnet"));
    value.split(',').map(parse).collect()
}

/// `host:port`, or a whole URL such as the `http://127.0.0.1:8001` of `kubectl proxy`.
fn control_plane(endpoint: String) -> Endpoint {
    let url = if endpoint.contains("://") { endpoint } else { format!("https://{endpoint}") };
    // A certificate of kubeadm has this name whatever the address is; the name of the endpoint may be missing.
    Endpoint { url, server_name: Some("kubernetes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::from_env(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_control_plane_endpoint_comes_before_the_service_address() {
        let config = config(&[
            ("NODE_NAME", "a"),
            ("POD_SUBNETS", "10.244.0.0/16, fd00:10:244::/56"),
            ("CONTROL_PLANE_ENDPOINT", "c1-control-plane:6443"),
            ("KUBERNETES_SERVICE_HOST", "fd00::1"),
            ("POD_NETWORK", "off"),
        ])
        .unwrap();
        assert_eq!((config.pod_subnets.len(), config.pod_network), (2, false));
        assert_eq!(
            config.endpoints,
            [
                Endpoint { url: "https://c1-control-plane:6443".into(), server_name: Some("kubernetes") },
                Endpoint { url: "https://[fd00::1]:443".into(), server_name: None },
            ]
        );
    }

    #[test]
    fn a_missing_or_wrong_setting_is_named() {
        assert_eq!(config(&[]).unwrap_err(), "NODE_NAME is not set");
        let wrong = config(&[("NODE_NAME", "a"), ("POD_SUBNETS", "10.244.0.0/16,x")]);
        assert_eq!(wrong.unwrap_err(), "POD_SUBNETS has `x`, which is not a subnet");
        let wrong =
            config(&[("NODE_NAME", "a"), ("POD_SUBNETS", "10.244.0.0/16"), ("LOAD_BALANCER_SUBNETS", "172.18.1")]);
        assert_eq!(wrong.unwrap_err(), "LOAD_BALANCER_SUBNETS has `172.18.1`, which is not a subnet");
        let nowhere = config(&[("NODE_NAME", "a"), ("POD_SUBNETS", "10.244.0.0/16"), ("CONTROL_PLANE_ENDPOINT", " ")]);
        assert!(nowhere.unwrap_err().contains("KUBERNETES_SERVICE_HOST"));
    }
}
