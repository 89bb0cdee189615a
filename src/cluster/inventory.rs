//! What a cluster has besides its nodes, and what runs out some day: add-ons, registries, certificates and the disk.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;

use crate::cluster::found::Cluster;
use crate::cluster::{access, addon, registry};
use crate::config::Role;
use crate::engine::Engine;
use crate::engine::spec::State;

/// How long each of them is looked for: who asks for the health of a cluster wants an answer.
const LIMIT: Duration = Duration::from_secs(3);
/// Prints when the API server's certificate ends, in seconds, and the free and all blocks of the node's disk with their size.
const LOOK: &str = "date -d \"$(openssl x509 -noout -enddate -in /etc/kubernetes/pki/apiserver.crt | cut -d= -f2)\" +%s; \
                    stat --file-system --format='%a %b %S' /var";

/// What was found; what could not be known is `None`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The add-ons that are enabled.
    pub addons: Option<Vec<Addon>>,
    /// The local registries that the cluster uses.
    pub registries: Option<Vec<LocalRegistry>>,
    /// When the API server's certificate ends, in the form of RFC 3339.
    pub certificates_expire: Option<String>,
    /// The engine's disk.
    pub disk: Option<Disk>,
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

/// Space where nodes have their files, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    pub free: u64,
    pub size: u64,
}

impl Inventory {
    /// Looks for all of it at once.
    pub async fn of(engine: &dyn Engine, cluster: &Cluster) -> Self {
        let (addons, registries, node) = tokio::join!(
            timeout(LIMIT, addons(engine, cluster)),
            timeout(LIMIT, registries(engine, cluster)),
            timeout(LIMIT, in_node(engine, cluster)),
        );
        let (certificates_expire, disk) = node.unwrap_or_default();
        Self { addons: addons.ok().flatten(), registries: registries.ok().flatten(), certificates_expire, disk }
    }

    /// Whether everything that it names works.
    pub fn is_healthy(&self) -> bool {
        self.addons.iter().flatten().all(|addon| addon.troubles.is_empty())
            && self.registries.iter().flatten().all(|registry| registry.state == State::Running)
    }
}

async fn addons(engine: &dyn Engine, cluster: &Cluster) -> Option<Vec<Addon>> {
    let client = access::client(engine, cluster).await.ok()?;
    let health = addon::health(&client).await.ok()?;
    Some(health.into_iter().map(|(name, (version, troubles))| Addon { name, version, troubles }).collect())
}

async fn registries(engine: &dyn Engine, cluster: &Cluster) -> Option<Vec<LocalRegistry>> {
    let found = registry::list(engine).await.ok()?;
    let own = found.into_iter().filter(|found| found.clusters.contains(&cluster.name));
    Some(own.map(|found| LocalRegistry { name: found.registry.name, host: found.host, state: found.state }).collect())
}

/// What a running control plane says of its certificate and its disk.
async fn in_node(engine: &dyn Engine, cluster: &Cluster) -> (Option<String>, Option<Disk>) {
    let Some(node) = cluster.running().find(|node| node.role == Role::ControlPlane) else {
        return (None, None);
    };
    match engine.exec(&node.name, &["sh", "-c", LOOK], None).await {
        Ok(output) => read(&String::from_utf8_lossy(&output.stdout)),
        Err(_) => (None, None),
    }
}

/// Reads what [`LOOK`] prints.
fn read(text: &str) -> (Option<String>, Option<Disk>) {
    let (mut ends, mut disk) = (None, None);
    for line in text.lines() {
        let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        match numbers[..] {
            [seconds] => {
                let time = i64::try_from(seconds).ok().and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
                ends = time.and_then(|time| time.format(&Rfc3339).ok());
            }
            [free, all, size] => {
                disk = Some(Disk { free: free.saturating_mul(size), size: all.saturating_mul(size) });
            }
            _ => {}
        }
    }
    (ends, disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_prints_is_read_as_far_as_it_goes() {
        let disk = Disk { free: 4096 * 10, size: 4096 * 100 };
        assert_eq!(read("2095286400\n10 100 4096\n"), (Some("2036-05-25T00:00:00Z".to_owned()), Some(disk)));
        assert_eq!(read("10 100 4096\n"), (None, Some(disk)));
        assert_eq!(read("date: invalid date\n"), (None, None));
    }

    #[test]
    fn what_does_not_work_is_not_healthy() {
        let registry = |state| LocalRegistry { name: "r".to_owned(), host: "localhost:5001".to_owned(), state };
        let addon = |troubles| Addon { name: "a".to_owned(), version: "1".to_owned(), troubles };
        assert!(Inventory::default().is_healthy());
        let with = |registry, addon| Inventory {
            registries: Some(vec![registry]),
            addons: Some(vec![addon]),
            ..Inventory::default()
        };
        assert!(with(registry(State::Running), addon(Vec::new())).is_healthy());
        assert!(!with(registry(State::Exited), addon(Vec::new())).is_healthy());
        assert!(!with(registry(State::Running), addon(vec!["it waits".to_owned()])).is_healthy());
    }
}
