//! What the image stores of nodes hold, and which pods use it.

use std::collections::{BTreeMap, BTreeSet};

use coracle_shared::labels::LOADED;
use futures_util::future::try_join_all;
use serde::{Deserialize, Deserializer, Serialize};

use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::image::nodes::tools::{crictl, run};
use crate::image::reference::Reference;

/// Lists the names that are pinned, and those that have the label of its argument.
const PINNED: &str = "list() { ctr --namespace=k8s.io images list --quiet \"$1\"; }\n\
                      list 'labels.\"io.cri-containerd.pinned\"==pinned' && echo -- && list \"labels.\\\"$0\\\"\"";

/// A node's image store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    pub node: String,
    pub images: Vec<StoredImage>,
    /// The containers of its pods that run or may be started again.
    pub containers: Vec<NodeContainer>,
}

/// An image that a node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredImage {
    pub id: String,
    /// Names with a tag, as the kubelet knows them.
    pub names: Vec<String>,
    /// Names with a digest.
    pub digests: Vec<String>,
    /// Bytes that were pulled or loaded.
    pub size: u64,
    /// The kubelet never removes it.
    pub pinned: bool,
    /// Names under which it came with the node image.
    pub preloaded: BTreeSet<String>,
    /// It was loaded, and not pulled.
    pub loaded: bool,
}

/// A container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeContainer {
    /// ID of its image.
    pub image: String,
    /// Name of its image, as the pod gives it.
    pub name: String,
    /// The pod, `namespace/name`.
    pub pod: String,
    pub pod_uid: String,
    pub container: String,
    /// How often it was started before.
    pub attempt: u64,
    /// It has been made and has not ended.
    pub running: bool,
    /// The runtime's ID of the pod.
    pub sandbox: String,
}

/// An image, with the nodes that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Names with a tag, as the kubelet knows them.
    pub names: Vec<String>,
    pub id: String,
    /// Names with a digest.
    pub digests: Vec<String>,
    /// Bytes that were pulled or loaded.
    pub size: u64,
    pub nodes: Vec<String>,
    /// The kubelet never removes it.
    pub pinned: bool,
    /// It came with the node image.
    pub preloaded: bool,
    /// The pods that use it, `namespace/name`.
    pub pods: Vec<String>,
}

impl StoredImage {
    pub(crate) fn has(&self, name: &Reference) -> bool {
        let name = name.to_string();
        self.names.contains(&name) || self.digests.contains(&name)
    }

    /// What to call it in output.
    pub fn title(&self) -> String {
        title(&self.names, &self.id)
    }
}

impl Listed {
    /// What to call it in output: its short names, or its ID.
    pub fn title(&self) -> String {
        title(&self.names, &self.id)
    }
}

/// The first twelve digits of an image ID.
pub fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}

fn title(names: &[String], id: &str) -> String {
    if names.is_empty() {
        return short(id).to_owned();
    }
    names.iter().map(|name| familiar(name)).collect::<Vec<_>>().join(", ")
}

/// A name as users type it.
pub fn familiar(name: &str) -> String {
    name.parse().map_or_else(|_| name.to_owned(), |name: Reference| name.familiar())
}

impl NodeContainer {
    /// Whether its pod gives its image this name.
    pub(crate) fn uses(&self, name: &Reference) -> bool {
        self.name.parse().is_ok_and(|reference: Reference| reference == *name)
    }
}

/// The image stores of nodes, all queried at the same time.
pub async fn inventory(engine: &dyn Engine, nodes: &[String]) -> Result<Vec<Store>> {
    try_join_all(nodes.iter().map(|node| store(engine, node))).await
}

async fn store(engine: &dyn Engine, node: &str) -> Result<Store> {
    let (images, containers, live, names) = tokio::try_join!(
        images(engine, node),
        containers(engine, node),
        live_sandboxes(engine, node),
        pinned_names(engine, node)
    )?;
    // The runtime keeps what is left of a deleted pod for a while; a container of a pod that exists may start again.
    let containers = containers.into_iter().filter(|container| container.running || live.contains(&container.sandbox));
    let containers = containers.collect();
    let (pinned, loaded) = names;
    let stored = |image: RawImage| {
        let all = image.repo_tags.iter().chain(&image.repo_digests).chain(Some(&image.id));
        let is_loaded = all.clone().any(|name| loaded.contains(name));
        let preloaded = all.filter(|name| pinned.contains(*name) && !loaded.contains(*name)).cloned().collect();
        StoredImage {
            preloaded,
            loaded: is_loaded,
            id: image.id,
            names: image.repo_tags,
            digests: image.repo_digests,
            size: image.size,
            pinned: image.pinned,
        }
    };
    Ok(Store { node: node.to_owned(), images: images.into_iter().map(stored).collect(), containers })
}

/// All images of nodes, by name; those without a name last.
pub fn list(stores: &[Store]) -> Vec<Listed> {
    let mut all: BTreeMap<&str, Listed> = BTreeMap::new();
    for store in stores {
        for image in &store.images {
            let listed = all.entry(&image.id).or_insert_with(|| Listed {
                id: image.id.clone(),
                names: Vec::new(),
                digests: Vec::new(),
                size: image.size,
                nodes: Vec::new(),
                pinned: false,
                preloaded: false,
                pods: Vec::new(),
            });
            listed.names.extend(image.names.iter().cloned());
            listed.digests.extend(image.digests.iter().cloned());
            listed.nodes.push(store.node.clone());
            listed.pinned |= image.pinned;
            listed.preloaded |= !image.preloaded.is_empty();
            let users = store.containers.iter().filter(|container| container.image == image.id);
            listed.pods.extend(users.map(|container| container.pod.clone()));
        }
    }
    let mut all: Vec<Listed> = all.into_values().collect();
    for listed in &mut all {
        for texts in [&mut listed.names, &mut listed.digests, &mut listed.pods] {
            texts.sort();
            texts.dedup();
        }
    }
    all.sort_by(|one, other| {
        let key = |listed: &Listed| (listed.names.is_empty(), listed.names.clone(), listed.id.clone());
        key(one).cmp(&key(other))
    });
    all
}

// ---- the output of the node's programs ----

#[derive(Deserialize)]
struct RawImages {
    #[serde(default)]
    images: Vec<RawImage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawImage {
    id: String,
    #[serde(default)]
    repo_tags: Vec<String>,
    #[serde(default)]
    repo_digests: Vec<String>,
    #[serde(default, deserialize_with = "number")]
    size: u64,
    #[serde(default)]
    pinned: bool,
}

/// The JSON of protocol buffers has 64-bit numbers as strings.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct RawContainers {
    #[serde(default)]
    containers: Vec<RawContainer>,
}

#[derive(Deserialize)]
struct RawSandboxes {
    #[serde(default)]
    items: Vec<RawSandbox>,
}

#[derive(Deserialize)]
struct RawSandbox {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    image_ref: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    pod_sandbox_id: String,
    #[serde(default)]
    image: RawSpec,
    #[serde(default)]
    metadata: RawMetadata,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    #[serde(default)]
    image: String,
    #[serde(default)]
    user_specified_image: String,
}

#[derive(Default, Deserialize)]
struct RawMetadata {
    #[serde(default)]
    attempt: u64,
}

async fn images(engine: &dyn Engine, node: &str) -> Result<Vec<RawImage>> {
    let output = crictl(engine, node, "list the images", &["images", "--output=json"]).await?;
    Ok(parse::<RawImages>(node, "list the images", &output)?.images)
}

/// The containers of the pods of nodes, including those that have ended, each with its node.
pub async fn node_containers(engine: &dyn Engine, nodes: &[String]) -> Result<Vec<(String, NodeContainer)>> {
    let of_node = |node: &String| {
        let node = node.clone();
        async move {
            let found = containers(engine, &node).await?;
            Ok::<_, Error>(found.into_iter().map(|container| (node.clone(), container)).collect::<Vec<_>>())
        }
    };
    Ok(try_join_all(nodes.iter().map(of_node)).await?.into_iter().flatten().collect())
}

async fn containers(engine: &dyn Engine, node: &str) -> Result<Vec<NodeContainer>> {
    let output = crictl(engine, node, "list the containers", &["ps", "--all", "--output=json"]).await?;
    let raw: RawContainers = parse(node, "list the containers", &output)?;
    let converted = |container: RawContainer| {
        let label = |name: &str| container.labels.get(&format!("io.kubernetes.{name}")).cloned().unwrap_or_default();
        let RawSpec { image, user_specified_image } = container.image;
        NodeContainer {
            image: container.image_ref,
            // Runtimes before CRI 1.28 give the image only.
            name: if user_specified_image.is_empty() { image } else { user_specified_image },
            pod: format!("{}/{}", label("pod.namespace"), label("pod.name")),
            pod_uid: label("pod.uid"),
            container: label("container.name"),
            attempt: container.metadata.attempt,
            running: container.state != "CONTAINER_EXITED",
            sandbox: container.pod_sandbox_id,
        }
    };
    Ok(raw.containers.into_iter().map(converted).collect())
}

/// The pods that exist, by the runtime's IDs.
async fn live_sandboxes(engine: &dyn Engine, node: &str) -> Result<BTreeSet<String>> {
    let arguments = ["pods", "--state=ready", "--output=json"];
    let output = crictl(engine, node, "list the pods", &arguments).await?;
    let raw: RawSandboxes = parse(node, "list the pods", &output)?;
    Ok(raw.items.into_iter().map(|sandbox| sandbox.id).collect())
}

/// The names that are pinned, and those that were loaded.
async fn pinned_names(engine: &dyn Engine, node: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let output = run(engine, node, "list the pinned images", &["sh", "-c", PINNED, LOADED]).await?;
    let text = String::from_utf8_lossy(&output).into_owned();
    let set = |text: &str| text.lines().map(str::to_owned).collect();
    let (pinned, loaded) = text.split_once("--\n").unwrap_or((&text, ""));
    Ok((set(pinned), set(loaded)))
}

fn parse<T: for<'a> Deserialize<'a>>(node: &str, purpose: &str, output: &[u8]) -> Result<T> {
    serde_json::from_slice(output)
        .map_err(|source| Error::new(Code::StepFailed, format!("cannot {purpose}")).on_node(node).with_cause(&source))
}
