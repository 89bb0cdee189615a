//! What a cluster has besides its nodes: add-ons and registries.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use crate::cluster::found::Cluster;
use crate::cluster::{addon, registry};
use crate::engine::Engine;
use crate::engine::spec::State;
use crate::error::Result;
use crate::kubernetes::Client;

/// How long each of them is looked for: who asks for the health of a cluster wants an answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// What was found; what could not be known is `None`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The add-ons that are enabled.
    pub addons: Option<Vec<Addon>>,
    /// The local registries that the cluster uses.
    pub registries: Option<Vec<LocalRegistry>>,
}

/// An add-on of the cluster.
#[derive(Debug, Serialize)]
pub struct Addon {
    pub name: String,
    pub version: String,
    /// What of it does not work.
    pub troubles: Vec<String>,
}

/// A registry of the cluster.
#[derive(Debug, Serialize)]
pub struct LocalRegistry {
    pub name: String,
    /// What names of images begin with.
    pub host: String,
    pub state: State,
}

impl Inventory {
    /// Looks for all of it at once; `client` speaks with the API.
    pub async fn of(engine: &dyn Engine, cluster: &Cluster, client: impl Future<Output = Result<Client>>) -> Self {
        let (addons, registries) =
            tokio::join!(timeout(TIMEOUT, addons(client)), timeout(TIMEOUT, registries(engine, cluster)));
        Self { addons: addons.ok().flatten(), registries: registries.ok().flatten() }
    }

    /// Whether everything that it names works.
    pub fn is_healthy(&self) -> bool {
        self.addons.iter().flatten().all(|addon| addon.troubles.is_empty())
            && self.registries.iter().flatten().all(|registry| registry.state == State::Running)
    }
}

async fn addons(client: impl Future<Output = Result<Client>>) -> Option<Vec<Addon>> {
    let health = addon::health(&client.await.ok()?).await.ok()?;
    Some(health.into_iter().map(|(name, (version, troubles))| Addon { name, version, troubles }).collect())
}

async fn registries(engine: &dyn Engine, cluster: &Cluster) -> Option<Vec<LocalRegistry>> {
    let found = registry::list(engine).await.ok()?;
    let own = found.into_iter().filter(|found| found.clusters.contains(&cluster.name));
    Some(own.map(|found| LocalRegistry { name: found.registry.name, host: found.host, state: found.state }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_work_is_not_healthy() {
        let registry = |state| LocalRegistry { name: "r".to_owned(), host: "localhost:5001".to_owned(), state };
        let addon = |troubles| Addon { name: "a".to_owned(), version: "1".to_owned(), troubles };
        assert!(Inventory::default().is_healthy());
        let with = |registry, addon| Inventory { registries: Some(vec![registry]), addons: Some(vec![addon]) };
        assert!(with(registry(State::Running), addon(Vec::new())).is_healthy());
        assert!(!with(registry(State::Exited), addon(Vec::new())).is_healthy());
        assert!(!with(registry(State::Running), addon(vec!["it waits".to_owned()])).is_healthy());
    }
}
