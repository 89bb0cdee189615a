//! What killed commands have left: found by labels, and removed only where it is certain that no one needs it any more.

use std::collections::BTreeSet;
use std::path::PathBuf;

use time::OffsetDateTime;

use crate::cluster::found::{self, Cluster};
use crate::cluster::lifecycle::delete::{Scope, delete};
use crate::cluster::lifecycle::finished::{self, Creation};
use crate::cluster::lifecycle::lifetime::{self, Over};
use crate::engine::process::{self, Life};
use crate::engine::spec::Labels;
use crate::engine::{SharedEngine, helper};
use crate::error::{Code, Error, Result};
use crate::plan::labels;

/// Something that is left.
#[derive(Debug)]
pub struct Item {
    /// What it is: `cluster`, `container`, `volume`, `network`, `image` or `directory`.
    pub kind: &'static str,
    pub name: String,
    /// Why it is left.
    pub why: String,
    pub fate: Fate,
}

/// What becomes of it.
#[derive(Debug)]
pub enum Fate {
    /// A cluster whose time is over.
    Expire(Box<Over>),
    /// Everything in this scope.
    Delete(Scope),
    Container(String),
    Volume,
    Network(String),
    Image(Vec<String>),
    Directory(PathBuf),
    /// It stays, because it is not certain that no one needs it.
    Stays,
}

impl Item {
    fn new(kind: &'static str, name: impl Into<String>, why: impl Into<String>, fate: Fate) -> Self {
        Self { kind, name: name.into(), why: why.into(), fate }
    }

    /// Whether it is removed.
    pub fn goes(&self) -> bool {
        !matches!(self.fate, Fate::Stays)
    }
}

/// Finds everything that is left on the engine, beside these directories of killed builds.
pub async fn find(engine: &SharedEngine, directories: Vec<PathBuf>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut handled = BTreeSet::new();
    for over in lifetime::over(&**engine, OffsetDateTime::now_utc()).await? {
        let name = over.cluster.name.to_string();
        handled.insert(name.clone());
        let why = format!("it expired at {}", over.expiry);
        items.push(match &over.kept {
            Some(kept) => Item::new("cluster", name, format!("{why}, but {kept}"), Fate::Stays),
            None => Item::new("cluster", name, why, Fate::Expire(Box::new(over))),
        });
    }
    let clusters = found::list(&**engine).await?;
    for cluster in &clusters {
        if !handled.contains(cluster.name.as_str()) {
            items.extend(unfinished(engine, cluster).await?);
        }
    }
    items.extend(helpers(engine).await?);
    items.extend(parts(engine, &clusters).await?);
    let directories = directories.into_iter();
    items.extend(
        directories.map(|path| {
            Item::new("directory", path.display().to_string(), "a build was killed", Fate::Directory(path))
        }),
    );
    Ok(items)
}

/// A cluster whose creation was killed.
async fn unfinished(engine: &SharedEngine, cluster: &Cluster) -> Result<Option<Item>> {
    let name = cluster.name.to_string();
    let runs: BTreeSet<&String> = cluster.containers().filter_map(|one| one.labels.get(labels::RUN)).collect();
    Ok(match (finished::of(&**engine, cluster).await?, runs.first()) {
        (Creation::Killed, Some(run)) if runs.len() == 1 => {
            Some(Item::new("cluster", name, "its creation was killed", Fate::Delete(Scope::Run((*run).clone()))))
        }
        (Creation::Killed | Creation::Unknown, _) => {
            let why = format!(
                "it is not finished; if no other command is creating it, run `coracle delete cluster --name {name}`"
            );
            Some(Item::new("cluster", name, why, Fate::Stays))
        }
        (Creation::Running | Creation::Finished, _) => None,
    })
}

/// Containers, volumes and images that lived as long as one piece of work.
async fn helpers(engine: &SharedEngine) -> Result<Vec<Item>> {
    let left = helper::left(&**engine).await?;
    let why = "the command that used it was killed";
    let containers = left.containers.into_iter();
    let mut items: Vec<Item> =
        containers.map(|found| Item::new("container", found.name, why, Fate::Container(found.id))).collect();
    items.extend(left.volumes.into_iter().map(|found| Item::new("volume", found.name, why, Fate::Volume)));
    items.extend(left.images.into_iter().map(|found| {
        Item::new("image", found.tags.first().unwrap_or(&found.id).clone(), why, Fate::Image(found.tags))
    }));
    Ok(items)
}

/// Volumes and networks of clusters that have no container any more, or none yet.
async fn parts(engine: &SharedEngine, clusters: &[Cluster]) -> Result<Vec<Item>> {
    let orphaned =
        |labels: &Labels| found::cluster_of(labels).filter(|name| clusters.iter().all(|cluster| cluster.name != *name));
    let item = |kind, name: String, labels: &Labels, fate| {
        let cluster = orphaned(labels)?;
        match labels.get(labels::PROCESS).map_or(Life::Unknown, |mark| process::life(mark)) {
            Life::Lives => None,
            Life::Gone => Some(Item::new(
                kind,
                name,
                format!("the command that made or removed cluster `{cluster}` was killed"),
                fate,
            )),
            Life::Unknown => Some(Item::new(
                kind,
                name,
                format!(
                    "cluster `{cluster}` has no container; if no other command is creating it, run `coracle delete cluster --name {cluster}`"
                ),
                Fate::Stays,
            )),
        }
    };
    let volumes = engine.volumes(&[labels::CLUSTER.to_owned()]).await?.into_iter();
    let mut items: Vec<Item> =
        volumes.filter_map(|found| item("volume", found.name, &found.labels, Fate::Volume)).collect();
    let networks = engine.networks().await?.into_iter();
    items.extend(networks.filter_map(|found| item("network", found.name, &found.labels, Fate::Network(found.id))));
    Ok(items)
}

/// Removes something. Clusters whose time is over are for the caller, who knows what leads to them.
pub async fn remove(engine: &SharedEngine, item: &Item) -> Result<()> {
    match &item.fate {
        Fate::Expire(_) | Fate::Stays => Ok(()),
        Fate::Delete(scope) => delete(engine, scope).await.map(drop),
        Fate::Container(id) => engine.remove_container(id).await,
        Fate::Volume => engine.remove_volume(&item.name).await,
        Fate::Network(id) => engine.remove_network(id).await,
        Fate::Image(tags) => {
            for tag in tags {
                engine.remove_image(tag).await?;
            }
            Ok(())
        }
        Fate::Directory(path) => match std::fs::remove_dir_all(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::new(Code::FileFailed, format!("cannot remove `{}`", path.display())).with_cause(&source))
            }
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
#[path = "garbage_tests.rs"]
mod tests;
