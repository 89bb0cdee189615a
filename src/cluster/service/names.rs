//! The Services of a namespace.

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::engine::Engine;
use crate::error::Result;
use crate::kubernetes::object;

/// Names and types of the Services in a namespace.
pub async fn names(engine: &dyn Engine, cluster: &Cluster, namespace: &str) -> Result<Vec<(String, String)>> {
    let client = access::client(engine, cluster).await?;
    let list = client.get(&format!("/api/v1/namespaces/{namespace}/services")).await?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let named = |service| (object::name(service).to_owned(), text(&service["spec"]["type"]));
    Ok(object::items(&list).iter().map(named).collect())
}
