//! Changing what nodes have: adding names, removing images.

use std::collections::{BTreeMap, BTreeSet};

use coracle_shared::labels::LOADED;
use futures_util::future::{join_all, try_join_all};
use serde::Serialize;

use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::image::nodes::inventory::{NodeContainer, Store, StoredImage, familiar, inventory, short};
use crate::image::nodes::tools::{crictl, run};
use crate::image::reference::{Reference, is_id};
use crate::image::similar::similar;

/// Marks names so that the kubelet does not remove their images, and so that they are not taken for those of the node image.
const PIN: &str = "for name; do ctr --namespace=k8s.io images label \"$name\" \
                   io.cri-containerd.pinned=pinned \"$LABEL=true\" >/dev/null || exit; done";
/// Shows the sizes on disk of everything in a store.
const SIZES: &str = "cd /var/lib/containerd && du --all --max-depth=1 --block-size=1 \
                     io.containerd.snapshotter.v1.overlayfs/snapshots io.containerd.content.v1.content/blobs/sha256; true";
/// Removes names, together with the content that no other name keeps.
const UNTAG: &str = "ctr --namespace=k8s.io images remove --sync \"$@\" >/dev/null";

/// What was removed from a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImageRemoval {
    pub node: String,
    /// Names that were removed from images that stay.
    pub untagged: Vec<String>,
    pub images: Vec<RemovedImage>,
    /// Bytes on disk that were freed.
    pub freed: u64,
}

/// An image that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovedImage {
    pub id: String,
    pub names: Vec<String>,
    /// Bytes, as the kubelet reports them.
    pub size: u64,
}

impl RemovedImage {
    fn of(image: &StoredImage) -> Self {
        Self { id: image.id.clone(), names: image.names.clone(), size: image.size }
    }

    /// What to call it in output.
    pub fn title(&self) -> String {
        let names: Vec<String> = self.names.iter().map(|name| familiar(name)).collect();
        if names.is_empty() { short(&self.id).to_owned() } else { names.join(", ") }
    }
}

/// An image, as the user has named it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Name(Reference),
    Id(String),
}

/// The images that are given by name or by (the beginning of) an ID; an error lists those that no node has.
fn resolve(stores: &[Store], texts: &[String]) -> Result<Vec<Named>> {
    let images = || stores.iter().flat_map(|store| &store.images);
    let mut found = Vec::new();
    let mut absent = Vec::new();
    for text in texts {
        let name = text.parse().ok().filter(|name: &Reference| images().any(|image| image.has(name)));
        let ids: BTreeSet<&String> = images().map(|image| &image.id).filter(|id| is_id(text, id)).collect();
        match (name, ids.len()) {
            (Some(name), _) => found.push(Named::Name(name)),
            (None, 1) => found.extend(ids.first().map(|id| Named::Id((*id).clone()))),
            (None, 0) => absent.push(text.as_str()),
            (None, count) => {
                return Err(Error::new(Code::UsageInvalid, format!("the IDs of {count} images begin with `{text}`"))
                    .hint("give more digits of the ID"));
            }
        }
    }
    if absent.is_empty() {
        return Ok(found);
    }
    let names: BTreeSet<String> = images().flat_map(|image| &image.names).map(|name| familiar(name)).collect();
    let names: Vec<String> = names.into_iter().collect();
    let quoted = absent.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let error = Error::new(Code::ImageMissing, format!("no node has the image {quoted}"));
    let error = match similar(&absent, &names) {
        names if names.is_empty() => error,
        names => error.hint(format!("similar names: {}", names.join(", "))),
    };
    Err(error.hint("`coracle image ls --all` lists all images"))
}

// ---- removing ----

/// What to remove from one node.
#[derive(Debug, Default)]
struct RemovalPlan {
    untagged: Vec<String>,
    images: Vec<RemovedImage>,
}

/// Removes names from nodes, and an image with its last name. Nothing is removed if any of it is in use, unless `force`.
pub async fn remove(
    engine: &dyn Engine,
    nodes: &[String],
    images: &[String],
    force: bool,
) -> Result<Vec<ImageRemoval>> {
    let stores = inventory(engine, nodes).await?;
    let named = resolve(&stores, images)?;
    let removals = stores.iter().map(|store| plan(store, &named, force)).collect::<Result<Vec<_>>>()?;
    carry_out(engine, stores.iter().map(|store| store.node.as_str()).zip(removals)).await
}

/// What to remove from a node; an error if that is not allowed.
fn plan(store: &Store, named: &[Named], force: bool) -> Result<RemovalPlan> {
    let mut removal = RemovalPlan::default();
    let mut images = store.images.clone();
    for target in named {
        for image in &mut images {
            match target {
                Named::Name(name) if image.has(name) => {
                    let full = name.to_string();
                    check_kept(store, image, &full)?;
                    let mut removed = take_name(image, &full);
                    let last = image.names.is_empty() && image.digests.is_empty() && image.preloaded.is_empty();
                    let uses = |user: &&NodeContainer| user.image == image.id && (last || user.uses(name));
                    check_unused(store, &full, force, uses)?;
                    if last {
                        removal.untagged.retain(|name| !had(store, &image.id, name));
                        removal.images.extend(original(store, &image.id));
                    } else {
                        removal.untagged.append(&mut removed);
                    }
                }
                Named::Id(id) if image.id == *id => {
                    check_kept(store, image, id)?;
                    check_unused(store, &image.title(), force, |user| user.image == *id)?;
                    removal.untagged.retain(|name| !had(store, id, name));
                    removal.images.extend(original(store, id));
                }
                _ => {}
            }
        }
    }
    removal.images.sort_by(|one, other| one.id.cmp(&other.id));
    removal.images.dedup();
    Ok(removal)
}

/// Takes a name from an image; the last tag of a repository takes its digests along, which no user has typed.
fn take_name(image: &mut StoredImage, full: &str) -> Vec<String> {
    let repository =
        |name: &str| name.split_once('@').or_else(|| name.rsplit_once(':')).map(|(name, _)| name.to_owned());
    let of_name = repository(full);
    image.names.retain(|name| name != full);
    let tagged = image.names.iter().any(|name| repository(name) == of_name);
    let (gone, stay) = std::mem::take(&mut image.digests)
        .into_iter()
        .partition(|name| name == full || (!tagged && !full.contains('@') && repository(name) == of_name));
    image.digests = stay;
    let mut gone: Vec<String> = gone;
    if !gone.iter().any(|name| name == full) {
        gone.push(full.to_owned());
    }
    gone
}

fn had(store: &Store, id: &str, name: &String) -> bool {
    store.images.iter().any(|image| image.id == id && (image.names.contains(name) || image.digests.contains(name)))
}

fn original(store: &Store, id: &str) -> Option<RemovedImage> {
    store.images.iter().find(|image| image.id == id).map(RemovedImage::of)
}

/// Fails if the name, or the image if this is its ID, came with the node image.
fn check_kept(store: &Store, image: &StoredImage, name: &str) -> Result<()> {
    let kept = image.preloaded.contains(name) || (name == image.id && !image.preloaded.is_empty());
    if !kept {
        return Ok(());
    }
    Err(Error::new(Code::ImageInUse, format!("image `{}` stays", familiar(name)))
        .on_node(&store.node)
        .because("it came with the node image and could not be pulled again"))
}

fn check_unused(store: &Store, name: &str, force: bool, uses: impl Fn(&&NodeContainer) -> bool) -> Result<()> {
    let mut pods: Vec<&str> = store.containers.iter().filter(uses).map(|user| user.pod.as_str()).collect();
    pods.sort_unstable();
    pods.dedup();
    if pods.is_empty() || force {
        return Ok(());
    }
    let who =
        if pods.len() == 1 { format!("pod {} uses it", pods[0]) } else { format!("pods use it: {}", pods.join(", ")) };
    Err(Error::new(Code::ImageInUse, format!("image `{}` is in use", familiar(name)))
        .on_node(&store.node)
        .because(who)
        .hint("delete the pod first; `--force` removes the image anyway, and then the pod cannot restart"))
}

async fn carry_out<'a>(
    engine: &dyn Engine,
    removals: impl Iterator<Item = (&'a str, RemovalPlan)>,
) -> Result<Vec<ImageRemoval>> {
    let removed = |(node, removal): (&'a str, RemovalPlan)| async move {
        let RemovalPlan { untagged, images } = removal;
        let mut removed = ImageRemoval { node: node.to_owned(), untagged, images, freed: 0 };
        if removed.untagged.is_empty() && removed.images.is_empty() {
            return Ok(removed);
        }
        let before = sizes(engine, node).await?;
        if !removed.untagged.is_empty() {
            let names = removed.untagged.iter().map(String::as_str);
            let command: Vec<&str> = ["sh", "-c", UNTAG, "sh"].into_iter().chain(names).collect();
            run(engine, node, "remove names of images", &command).await?;
        }
        if !removed.images.is_empty() {
            let ids = removed.images.iter().map(|image| image.id.as_str());
            let arguments: Vec<&str> = Some("rmi").into_iter().chain(ids).collect();
            crictl(engine, node, "remove images", &arguments).await?;
        }
        let after = sizes(engine, node).await?;
        let gone = before.iter().filter(|(path, _)| !after.contains_key(*path));
        removed.freed = gone.map(|(_, size)| size).sum();
        Ok::<_, Error>(removed)
    };
    let results = join_all(removals.map(removed)).await;
    results.into_iter().collect()
}

/// The parts of a store with their sizes on disk: their difference is exact, whatever else writes at the same time.
async fn sizes(engine: &dyn Engine, node: &str) -> Result<BTreeMap<String, u64>> {
    let output = run(engine, node, "measure the image store", &["sh", "-c", SIZES]).await?;
    let line = |line: &str| {
        let (size, path) = line.split_once('\t')?;
        Some((path.to_owned(), size.parse().ok()?))
    };
    Ok(String::from_utf8_lossy(&output).lines().filter_map(line).collect())
}

/// Removes from `nodes` the unused images: those that no container of the nodes `all` runs, and that are not in `wanted`,
/// the names in pods and workloads. With `dry_run`, only returns what would be removed.
pub async fn prune(
    engine: &dyn Engine,
    all: &[String],
    nodes: &[String],
    wanted: &BTreeSet<String>,
    dry_run: bool,
) -> Result<Vec<ImageRemoval>> {
    let stores = inventory(engine, all).await?;
    let used: BTreeSet<&str> =
        stores.iter().flat_map(|store| &store.containers).map(|container| container.image.as_str()).collect();
    let wanted: Vec<Reference> = wanted.iter().filter_map(|name| name.parse().ok()).collect();
    let removals = stores.iter().filter(|store| nodes.contains(&store.node)).map(|store| {
        let unused = |image: &&StoredImage| {
            image.preloaded.is_empty()
                && !used.contains(image.id.as_str())
                && !wanted.iter().any(|name| image.has(name))
        };
        let images = store.images.iter().filter(unused).map(RemovedImage::of).collect();
        (store.node.as_str(), RemovalPlan { untagged: Vec::new(), images })
    });
    if dry_run {
        let planned = |(node, removal): (&str, RemovalPlan)| ImageRemoval {
            node: node.to_owned(),
            images: removal.images,
            ..ImageRemoval::default()
        };
        return Ok(removals.map(planned).collect());
    }
    carry_out(engine, removals).await
}

// ---- names ----

/// Gives an image another name in each of the nodes that have it; returns these nodes.
pub async fn tag(engine: &dyn Engine, nodes: &[String], source: &str, target: &Reference) -> Result<Vec<String>> {
    if target.digest().is_some() {
        return Err(Error::new(
            Code::UsageInvalid,
            format!("`{target}` contains a digest; digests cannot be assigned"),
        )
        .hint("write the new name as `NAME:TAG`"));
    }
    let stores = inventory(engine, nodes).await?;
    let named = resolve(&stores, &[source.to_owned()])?;
    let mut found = Vec::new();
    for store in &stores {
        let image = store.images.iter().find(|image| match &named[..] {
            [Named::Name(name)] => image.has(name),
            [Named::Id(id)] => image.id == *id,
            _ => false,
        });
        let Some(image) = image else { continue };
        let full = target.to_string();
        if let Some(other) = store.images.iter().find(|other| other.preloaded.contains(&full)) {
            check_kept(store, other, &full)?;
        }
        found.push((store.node.clone(), image.id.clone()));
    }
    try_join_all(found.iter().map(|(node, id)| async move {
        let name = target.to_string();
        // The kubelet's runtime also keeps each image under its ID.
        let command = ["ctr", "--namespace=k8s.io", "images", "tag", "--force", id, &name];
        run(engine, node, &format!("name image `{name}`"), &command).await?;
        pin(engine, node, &[name]).await
    }))
    .await?;
    Ok(found.into_iter().map(|(node, _)| node).collect())
}

/// Keeps the kubelet from ever removing the images of these names: there may be no registry that has them.
async fn pin(engine: &dyn Engine, node: &str, names: &[String]) -> Result<()> {
    let script = PIN.replace("$LABEL", LOADED);
    let command: Vec<&str> = ["sh", "-c", &script, "sh"].into_iter().chain(names.iter().map(String::as_str)).collect();
    run(engine, node, "pin the images", &command).await.map(drop)
}
