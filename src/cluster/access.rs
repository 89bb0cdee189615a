//! What a running cluster is reached with: the administrator's kubeconfig and the API client.

use crate::cluster::found::Cluster;
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::error::{Code, Error, Result};
use crate::kubeconfig::Entry;
use crate::kubernetes::Client;

/// The kubeconfig entry of a cluster, from the administrator's kubeconfig in its control plane.
pub async fn entry(engine: &dyn Engine, cluster: &Cluster, internal: bool) -> Result<Entry> {
    let kubeconfig = node_kubeconfig(engine, cluster, "admin.conf").await?;
    let invalid = || {
        Error::new(
            Code::KubeconfigInvalid,
            format!("the administrator's kubeconfig of `{}` cannot be read", cluster.name),
        )
    };
    let text = |value: &serde_json::Value| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let user = &kubeconfig["users"][0]["user"];
    let inside = kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap_or_default();
    Ok(Entry {
        name: format!("coracle-{}", cluster.name),
        server: if internal { inside.to_owned() } else { cluster.endpoint().to_owned() },
        ca_pem: text(&kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]).ok_or_else(invalid)?,
        client_cert_pem: text(&user["client-certificate-data"]).ok_or_else(invalid)?,
        client_key_pem: text(&user["client-key-data"]).ok_or_else(invalid)?,
    })
}

async fn node_kubeconfig(engine: &dyn Engine, cluster: &Cluster, file: &str) -> Result<serde_json::Value> {
    let node = cluster.control_plane().ok_or_else(|| {
        Error::new(Code::NotFound, format!("cluster `{}` has no control plane", cluster.name))
            .hint(format!("it was not completed; remove it: `coracle delete cluster --name {}`", cluster.name))
    })?;
    let path = format!("/etc/kubernetes/{file}");
    let bytes = read_file(engine, &node.name, &path).await?.ok_or_else(|| {
        Error::new(Code::NotFound, format!("there is no `{path}`"))
            .on_node(&node.name)
            .hint(format!("the cluster was not completed; remove it: `coracle delete cluster --name {}`", cluster.name))
    })?;
    serde_yaml::from_slice(&bytes).map_err(|source| {
        Error::new(Code::KubeconfigInvalid, format!("`{path}` is damaged")).on_node(&node.name).cause(&source)
    })
}

/// A client of a running cluster's API.
pub async fn client(engine: &dyn Engine, cluster: &Cluster) -> Result<Client> {
    let entry = entry(engine, cluster, false).await?;
    Client::from_kubeconfig(&crate::kubeconfig::render(&entry)?).await
}
