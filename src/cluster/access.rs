//! Files of nodes, and the API client of a running cluster.

use std::io::Read;

use futures_util::TryStreamExt;

use crate::cluster::found::Cluster;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::kubeconfig::Entry;
use crate::kubernetes::Client;

/// Bytes of a header in a tar archive.
const TAR_BLOCK: usize = 512;

/// A file of a container, also of one that is stopped.
pub async fn read_file(engine: &dyn Engine, container: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let failed = |source: &dyn std::error::Error| {
        Error::new(Code::EngineFailed, format!("cannot read `{path}`")).on_node(container).cause(source)
    };
    let Some(mut stream) = engine.download(container, path).await? else { return Ok(None) };
    let mut tar = Vec::new();
    while let Some(chunk) = stream.try_next().await.map_err(|source| failed(&source))? {
        tar.extend_from_slice(&chunk);
    }
    let mut archive = tar::Archive::new(&tar[..]);
    for entry in archive.entries().map_err(|source| failed(&source))? {
        let mut entry = entry.map_err(|source| failed(&source))?;
        if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(|source| failed(&source))?;
            return Ok(Some(content));
        }
    }
    Ok(None)
}

/// The size of a file of a container, of which only the beginning of the archive is read.
pub async fn file_size(engine: &dyn Engine, container: &str, path: &str) -> Result<Option<u64>> {
    let failed = |source: &dyn std::error::Error| {
        Error::new(Code::EngineFailed, format!("cannot read `{path}` in container `{container}`")).cause(source)
    };
    let Some(mut stream) = engine.download(container, path).await? else { return Ok(None) };
    let mut head = Vec::new();
    while head.len() < TAR_BLOCK {
        let Some(chunk) = stream.try_next().await.map_err(|source| failed(&source))? else { return Ok(None) };
        head.extend_from_slice(&chunk);
    }
    let header = tar::Header::from_byte_slice(&head[..TAR_BLOCK]);
    header.entry_size().map(Some).map_err(|source| failed(&source))
}

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
