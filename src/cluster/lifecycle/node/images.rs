//! The images that were loaded into a cluster: nodes that are added later get them too, as far as the engine has them.

use futures_util::future::try_join_all;

use crate::cluster::found::Cluster;
use crate::cluster::run::Run;
use crate::engine::Engine;
use crate::error::{Result, counted};
use crate::image::{Store, familiar, inventory, load_docker_images};

/// What became of the loaded images.
#[derive(Debug, Default)]
pub struct Images {
    /// Names of images that the new nodes have got.
    pub loaded: Vec<String>,
    /// Names of images that the engine no longer has.
    pub missing: Vec<String>,
}

/// Loads into new nodes what was loaded into all other nodes of the cluster.
pub(super) async fn follow(run: &Run, before: &Cluster, new: &[String]) -> Result<Images> {
    let nodes: Vec<String> = before.running().map(|node| node.name.clone()).collect();
    let wanted = in_all(&inventory(&*run.engine, &nodes).await?);
    let found = try_join_all(wanted.iter().map(|(name, id)| is_here(&*run.engine, name, id))).await?;
    let of = |here: bool| {
        let names = wanted.iter().zip(&found).filter(|(_, found)| **found == here);
        names.map(|((name, _), _)| name.clone()).collect::<Vec<_>>()
    };
    let images = Images { loaded: of(true), missing: of(false) };
    if !images.loaded.is_empty() {
        let what = counted(images.loaded.len(), "image");
        let step = run.ui.step(format!("Loading {what} that the other nodes have"));
        let progress = |_: &str, done: u64, total: u64| step.bytes(done, total);
        load_docker_images(&run.engine, new, &images.loaded, &progress).await?;
        step.finish();
    }
    Ok(images)
}

/// The engine has the same image under this name; a newer one would make the nodes differ.
async fn is_here(engine: &dyn Engine, name: &str, id: &str) -> Result<bool> {
    Ok(engine.image(name).await?.is_some_and(|image| image.id == id))
}

/// Names and IDs of the images that were loaded into all of these nodes. What was loaded into one node only was not meant for
/// others.
fn in_all(stores: &[Store]) -> Vec<(String, String)> {
    let Some((first, others)) = stores.split_first() else { return Vec::new() };
    let loaded = first.images.iter().filter(|image| image.loaded);
    let named = loaded.flat_map(|image| image.names.iter().map(|name| (familiar(name), image.id.clone())));
    let is_in = |store: &Store, name: &str, id: &str| {
        store.images.iter().any(|image| image.id == id && image.names.iter().any(|other| familiar(other) == name))
    };
    named.filter(|(name, id)| others.iter().all(|store| is_in(store, name, id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::StoredImage;

    fn store(images: &[(&str, &str, bool)]) -> Store {
        let image = |(name, id, loaded): &(&str, &str, bool)| StoredImage {
            id: (*id).to_owned(),
            names: vec![format!("docker.io/library/{name}")],
            loaded: *loaded,
            ..StoredImage::default()
        };
        Store { node: String::new(), images: images.iter().map(image).collect(), containers: Vec::new() }
    }

    #[test]
    fn what_all_nodes_were_given_is_what_a_new_one_gets() {
        let one =
            store(&[("web:v1", "1", true), ("only:here", "2", true), ("pulled:v1", "3", false), ("old:v1", "4", true)]);
        let other = store(&[("web:v1", "1", true), ("pulled:v1", "3", false), ("old:v1", "5", true)]);
        assert_eq!(in_all(&[one, other]), [("web:v1".to_owned(), "1".to_owned())]);
        assert!(in_all(&[]).is_empty());
    }
}
