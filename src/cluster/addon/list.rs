//! The add-ons, and which of them a cluster has.

use serde::Serialize;

use crate::catalog;
use crate::cluster::addon::state;
use crate::error::Result;
use crate::kubernetes::Client;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_cluster_the_list_is_what_there_is() {
        let names: Vec<String> = list(None).await.unwrap().into_iter().map(|addon| addon.name).collect();
        assert_eq!(names, catalog::names());
    }
}
