//! The administrator's credentials of a running cluster, and a client that uses them.

use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;
use tokio::sync::oneshot::Receiver;
use tokio::time::timeout;

use crate::cluster::found::Cluster;
use crate::config::ClusterName;
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::engine::place::Place;
use crate::error::{Code, Error, Result};
use crate::kubeconfig::Entry;
use crate::kubernetes::Client;
use crate::plan::Credentials;
use crate::plan::facts::guest_address;
use crate::plan::layout::API_PORT;
use crate::plan::node::container::network_name;

/// The administrator's kubeconfig in a control plane.
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// How long a kubeconfig may take that a control plane is asked for anyway.
const KUBECONFIG_TIMEOUT: Duration = Duration::from_secs(1);

/// The kubeconfig entry of a cluster; with `internal` it has the address that the cluster's network uses.
pub async fn entry(engine: &dyn Engine, cluster: &Cluster, internal: bool) -> Result<Entry> {
    let mut credentials = if internal { inside(engine, cluster).await? } else { from_here(engine, cluster).await? };
    // What users of kind run beside the nodes is in the network that they share, where only their names are known.
    let front = cluster.balancer.as_ref().map(|balancer| &balancer.name);
    if let Some(name) =
        front.or(cluster.control_plane().map(|node| &node.name)).filter(|_| cluster.is_as_kind && internal)
    {
        credentials.server = format!("https://{name}:{API_PORT}");
    }
    Ok(entry_of(cluster.context(), credentials))
}

/// The entry of this name with these credentials.
pub fn entry_of(name: String, credentials: Credentials) -> Entry {
    Entry {
        name,
        server: credentials.server,
        ca_pem: credentials.authority,
        client_cert_pem: credentials.certificate,
        client_key_pem: credentials.key,
    }
}

/// A client of a running cluster's API; an error at once if no API server can answer.
pub async fn client(engine: &dyn Engine, cluster: &Cluster) -> Result<Client> {
    cluster.require_api()?;
    Client::connect(&from_here(engine, cluster).await?)
}

/// The same, with a kubeconfig that a control plane is asked for anyway. If it does not come soon, it is read in the usual
/// way, which costs an engine more than everything else that is asked of a cluster.
pub async fn client_of(engine: &dyn Engine, cluster: &Cluster, kubeconfig: Receiver<Vec<u8>>) -> Result<Client> {
    cluster.require_api()?;
    let text = timeout(KUBECONFIG_TIMEOUT, kubeconfig).await.ok().and_then(Result::ok);
    match text.and_then(|text| parse(&text).ok()) {
        Some(credentials) => Client::connect(&reached_from_here(engine, cluster, credentials).await?),
        None => client(engine, cluster).await,
    }
}

/// The administrator's credentials, with the address at which this process reaches the API server.
async fn from_here(engine: &dyn Engine, cluster: &Cluster) -> Result<Credentials> {
    let inside = inside(engine, cluster).await?;
    reached_from_here(engine, cluster, inside).await
}

async fn reached_from_here(engine: &dyn Engine, cluster: &Cluster, inside: Credentials) -> Result<Credentials> {
    if join(engine, &cluster.name).await? {
        return Ok(inside);
    }
    Ok(Credentials { server: cluster.endpoint.clone().unwrap_or_default(), ..inside })
}

/// Connects the container that this process is in, if it is one of the engine's, with the network of a cluster: the ports
/// that are published on the engine's host are not on this container's 127.0.0.1. Returns whether it is in one.
pub async fn join(engine: &dyn Engine, cluster: &ClusterName) -> Result<bool> {
    let Place::Container { id, name } = engine.place() else { return Ok(false) };
    let network = network_name(cluster.as_str());
    let networks = engine.networks().await?;
    let subnets = networks.iter().find(|other| other.name == network).map(|other| other.subnets.as_slice());
    let address = guest_address(name, subnets.unwrap_or_default());
    let connected = engine.connect_network(&network, id, name, address.as_slice()).await;
    connected.map(|()| true).map_err(|error| {
        error.hint("coracle runs in this container and must reach the cluster; run it on the engine's host, or in a container with `--network host`")
    })
}

/// The administrator's credentials as a control plane has them, with the address inside the cluster's network.
async fn inside(engine: &dyn Engine, cluster: &Cluster) -> Result<Credentials> {
    let node = cluster.control_plane().ok_or_else(|| {
        Error::new(Code::NotFound, format!("cluster `{}` has no control plane", cluster.name))
            .hint(format!("it was never completed; delete it: `coracle delete cluster --name {}`", cluster.name))
    })?;
    let text = read_file(engine, &node.name, ADMIN).await?.ok_or_else(|| {
        Error::new(Code::NotFound, format!("`{ADMIN}` does not exist")).on_node(&node.name).hint(format!(
            "the cluster was never completed; delete it: `coracle delete cluster --name {}`",
            cluster.name
        ))
    })?;
    parse(&text).map_err(|error| error.on_node(&node.name))
}

/// The credentials in the text of an administrator's kubeconfig.
pub fn parse(kubeconfig: &[u8]) -> Result<Credentials> {
    let damaged = || Error::new(Code::KubeconfigInvalid, "cannot read the administrator's kubeconfig");
    let kubeconfig = serde_yaml::from_slice(kubeconfig).map_err(|source| damaged().with_cause(&source))?;
    read(&kubeconfig).ok_or_else(damaged)
}

/// The credentials in a kubeconfig with one cluster and one user.
fn read(kubeconfig: &Value) -> Option<Credentials> {
    let text = |value: &Value| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let (cluster, user) = (&kubeconfig["clusters"][0]["cluster"], &kubeconfig["users"][0]["user"]);
    Some(Credentials {
        server: cluster["server"].as_str().unwrap_or_default().to_owned(),
        authority: text(&cluster["certificate-authority-data"])?,
        certificate: text(&user["client-certificate-data"])?,
        key: text(&user["client-key-data"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::node::kubelet::kubeconfig;

    #[test]
    fn what_the_plan_writes_is_read_back() {
        let text = kubeconfig("https://172.18.0.3:6443", "authority", "admin", "certificate", "key").unwrap();
        let credentials = parse(text.as_bytes()).unwrap();
        assert_eq!(credentials.server, "https://172.18.0.3:6443");
        assert_eq!(
            (credentials.authority.as_str(), credentials.certificate.as_str(), credentials.key.as_str()),
            ("authority", "certificate", "key")
        );
        assert_eq!(parse(b"{}").unwrap_err().code(), Code::KubeconfigInvalid);
    }
}
