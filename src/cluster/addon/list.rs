//! The add-ons, and which of them a cluster has.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use crate::catalog;
use crate::cluster::addon::objects::ADDON_LABEL;
use crate::cluster::addon::state;
use crate::error::Result;
use crate::kubernetes::{Client, object, workload};

/// An add-on and whether a cluster has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub name: String,
    /// The version that this coracle has.
    pub version: String,
    /// The version that the cluster has; `None` if it is not enabled.
    pub enabled: Option<String>,
    /// One line.
    pub description: String,
}

/// All add-ons; with a client also those that the cluster has and this coracle does not know.
pub async fn list(client: Option<&Client>) -> Result<Vec<Listed>> {
    let mut enabled = match client {
        Some(client) => state::enabled(client).await?,
        None => Vec::new(),
    };
    let mut listed = Vec::new();
    for addon in catalog::all()? {
        let here = enabled.iter().position(|other| other.name == addon.name).map(|index| enabled.remove(index));
        let catalog::About { version, description, .. } = addon.about;
        listed.push(Listed { name: addon.name, version, enabled: here.map(|here| here.version), description });
    }
    listed.extend(enabled.into_iter().map(|other| Listed {
        name: other.name,
        version: String::new(),
        enabled: Some(other.version),
        description: "unknown to this version of coracle".to_owned(),
    }));
    Ok(listed)
}

/// The versions of the add-ons that a cluster has, by name, and what of each does not work.
pub async fn health(client: &Client) -> Result<BTreeMap<String, (String, Vec<String>)>> {
    let mut health: BTreeMap<String, (String, Vec<String>)> =
        state::enabled(client).await?.into_iter().map(|addon| (addon.name, (addon.version, Vec::new()))).collect();
    if health.is_empty() {
        return Ok(health);
    }
    for (kind, plural) in [("Deployment", "deployments"), ("DaemonSet", "daemonsets"), ("StatefulSet", "statefulsets")]
    {
        let path = format!("/apis/apps/v1/{plural}?labelSelector={ADDON_LABEL}");
        for listed in object::items(&client.get(&path).await?) {
            let mut listed = listed.clone();
            listed["kind"] = json!(kind);
            let cause = match workload::state(&listed) {
                workload::State::Ready => continue,
                workload::State::Waiting(cause) | workload::State::Failed(cause) => cause,
            };
            let addon = listed["metadata"]["labels"][ADDON_LABEL].as_str().unwrap_or_default();
            if let Some((_, troubles)) = health.get_mut(addon) {
                troubles.push(format!("{}: {cause}", object::title(&listed)));
            }
        }
    }
    Ok(health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_cluster_the_list_is_what_there_is() {
        let names: Vec<String> = list(None).await.unwrap().into_iter().map(|addon| addon.name).collect();
        assert_eq!(names, catalog::names());
    }
}
