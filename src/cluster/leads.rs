//! What leads to a cluster: the kubeconfigs that got its entry. Its control planes have the list, so that everything goes
//! with the cluster, wherever it was written.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures_util::future::try_join_all;

use crate::cluster::access;
use crate::cluster::found::{self, Cluster};
use crate::cluster::upload::write_files;
use crate::config::{ClusterName, Role};
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::error::{Error, Result};
use crate::kubeconfig::{self, Location};
use crate::plan::FileTree;

/// The file in control planes with the paths of the kubeconfigs, one a line.
const LIST: &str = "/etc/coracle/kubeconfigs";

/// The kubeconfigs that may have the entry of a cluster, and how its entry is recognised.
#[derive(Debug)]
pub struct Leads {
    context: String,
    files: Vec<PathBuf>,
    authority: String,
}

/// Adds the list to the files of a control plane.
pub(crate) fn add_to(files: &mut FileTree, location: &Location) {
    files.text(LIST, text(&places(location)));
}

/// Adds the list that a control plane has to the files of others.
pub(crate) async fn copy<'f>(
    engine: &dyn Engine,
    plane: &str,
    others: impl Iterator<Item = &'f mut FileTree>,
) -> Result<()> {
    let known = listed(engine, plane).await?;
    others.for_each(|files| files.text(LIST, text(&known)));
    Ok(())
}

/// Adds the files of `location` to the list of an existing cluster.
pub async fn note(engine: &dyn Engine, cluster: &Cluster, location: &Location) -> Result<()> {
    let Some(node) = cluster.control_plane() else { return Ok(()) };
    let known = listed(engine, &node.name).await?;
    let all: BTreeSet<String> = known.iter().cloned().chain(places(location)).collect();
    if all == known {
        return Ok(());
    }
    let mut files = FileTree::default();
    files.text(LIST, text(&all));
    let planes = cluster.nodes.iter().filter(|node| node.role == Role::ControlPlane);
    try_join_all(planes.map(|node| write_files(engine, &node.container.id, &files))).await.map(drop)
}

/// Gives the entry of a cluster its address of now, in all kubeconfigs that have it; returns those in which it could not be
/// changed. Of files that got a cluster of the same name from elsewhere, nothing is changed.
pub async fn correct(engine: &dyn Engine, cluster: &Cluster) -> Result<Vec<(PathBuf, Error)>> {
    let Some(node) = cluster.control_plane() else { return Ok(Vec::new()) };
    let entry = access::entry(engine, cluster, false).await?;
    let mut left = Vec::new();
    for file in listed(engine, &node.name).await?.into_iter().map(PathBuf::from) {
        if let Err(error) = kubeconfig::correct(&file, &entry).await {
            left.push((file, error));
        }
    }
    Ok(left)
}

/// What leads to a cluster; `None` if no control plane can tell. To be asked before the cluster is deleted.
pub async fn find(engine: &dyn Engine, name: &ClusterName) -> Option<Leads> {
    let cluster = found::get(engine, name).await.ok()?;
    let node = cluster.control_plane()?;
    let authority = access::entry(engine, &cluster, false).await.ok()?.ca_pem;
    let files = listed(engine, &node.name).await.ok()?.into_iter().map(PathBuf::from).collect();
    Some(Leads { context: cluster.context(), files, authority })
}

impl Leads {
    /// Removes the entry from all files, and returns those from which it could not be removed.
    pub async fn remove(&self) -> Vec<(PathBuf, Error)> {
        let mut left = Vec::new();
        for file in &self.files {
            if let Err(error) = kubeconfig::remove_from(file, &self.context, &self.authority).await {
                left.push((file.clone(), error));
            }
        }
        left
    }
}

fn places(location: &Location) -> BTreeSet<String> {
    let places = location.places().into_iter().filter_map(|path| path.into_os_string().into_string().ok());
    places.filter(|path| !path.contains('\n')).collect()
}

fn text(places: &BTreeSet<String>) -> String {
    places.iter().flat_map(|place| [place.as_str(), "\n"]).collect()
}

async fn listed(engine: &dyn Engine, node: &str) -> Result<BTreeSet<String>> {
    let text = read_file(engine, node, LIST).await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::inside::Inside;
    use crate::engine::spec::{ContainerSpec, Labels};
    use crate::kubeconfig::Entry;
    use crate::plan::labels;
    use crate::plan::node::kubelet;

    fn location(file: &Path) -> Location {
        Location::new(Some(file), None, None).unwrap()
    }

    #[tokio::test]
    async fn the_entry_goes_wherever_it_was_written() {
        let engine = FakeEngine::new(&["node"]);
        let labels = [(labels::CLUSTER, "dev"), (labels::ROLE, "control-plane")];
        let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        engine
            .create_container(&ContainerSpec { labels, ..ContainerSpec::new("dev-control-plane", "node") })
            .await
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let [first, second, other] = ["first", "second", "other"].map(|name| directory.path().join(name));
        let mut files = FileTree::default();
        let admin = kubelet::kubeconfig("https://172.18.0.3:6443", "authority", "admin", "certificate", "key").unwrap();
        files.text("/etc/kubernetes/admin.conf", admin);
        add_to(&mut files, &location(&first));
        write_files(&engine, "dev-control-plane", &files).await.unwrap();
        let name: ClusterName = "dev".parse().unwrap();
        let cluster = found::get(&engine, &name).await.unwrap();
        for file in [&second, &other] {
            note(&engine, &cluster, &location(file)).await.unwrap();
        }
        // The same again costs nothing.
        let calls = engine.transcript().len();
        note(&engine, &cluster, &location(&other)).await.unwrap();
        assert_eq!(engine.transcript().len(), calls + 1);

        let mut entry = access::entry(&engine, &cluster, false).await.unwrap();
        for file in [&first, &second] {
            kubeconfig::merge(&location(file), &entry, true).await.unwrap();
        }
        // A cluster of the same name that another engine has.
        entry = Entry { ca_pem: "another".to_owned(), ..entry };
        kubeconfig::merge(&location(&other), &entry, true).await.unwrap();
        // Its address changes where it is the same cluster.
        let labels =
            [(labels::CLUSTER, "dev"), (labels::ROLE, "control-plane"), (labels::ENDPOINT, "https://127.0.0.1:2")];
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        engine.republish("dev-control-plane", &[], &labels).await.unwrap();
        let cluster = found::get(&engine, &name).await.unwrap();
        assert!(correct(&engine, &cluster).await.unwrap().is_empty());
        let is_new = |file: &Path| std::fs::read_to_string(file).unwrap().contains("https://127.0.0.1:2\n");
        assert_eq!([&first, &second, &other].map(|file| is_new(file)), [true, true, false]);

        let leads = find(&engine, &name).await.unwrap();
        assert!(leads.remove().await.is_empty());
        let has = |file: &Path| std::fs::read_to_string(file).unwrap().contains("coracle-dev");
        assert_eq!([&first, &second, &other].map(|file| has(file)), [false, false, true]);
    }
}
