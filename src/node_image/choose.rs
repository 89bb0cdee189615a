//! Which node image a cluster is created from.

use crate::catalog::NODE_REPOSITORY;
use crate::engine::files::read_file;
use crate::engine::helper::{self, Helper};
use crate::engine::spec::{ContainerSpec, Image, Labels, Login};
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::plan::facts::{AT_ONCE, CRUN, IPV6_PLUGIN, POLICY_PLUGIN, known};
use crate::plan::{Images, NodeImage, labels};

/// Repository of the images that `coracle build node-image` makes.
pub const REPOSITORY: &str = NODE_REPOSITORY;
/// kind's published image, fixed by the digest that kind 0.33.0 names, for machines without an image of ours.
pub const PUBLISHED: &str =
    "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5";

/// The hint for a machine without a node image.
pub const BUILD: &str =
    "build it once: `coracle build node-image` (the first time it compiles Kubernetes, which takes about ten minutes)";

/// Reports a pull: the image, and how many of how many bytes are done; first with 0 of 0.
pub type Pulling<'a> = &'a (dyn Fn(&str, u64, u64) + Send + Sync);

/// Finds the node image: the one named, else the newest local `coracle/node`, else kind's published one.
///
/// A container that it needs to look into an image has the label of `run`.
pub async fn node_image(
    engine: &SharedEngine,
    named: Option<&str>,
    login: Option<&Login>,
    run: &str,
    pulling: Pulling<'_>,
) -> Result<NodeImage> {
    if let Some(reference) = named {
        return present_or_pulled(engine, reference, login, run, pulling).await;
    }
    if let Some(reference) = newest_local(&**engine).await? {
        return present_or_pulled(engine, &reference, None, run, pulling).await;
    }
    present_or_pulled(engine, PUBLISHED, login, run, pulling).await.map_err(|error| match error.code() {
        Code::ImageMissing => {
            let cause = error.cause().unwrap_or(error.message());
            Error::new(Code::ImageMissing, "there is no node image")
                .because(format!("none has been built here, and kind's cannot be pulled instead: {cause}"))
                .hint(BUILD)
                .hint(format!("or, where the internet can be reached, get kind's: `docker pull {PUBLISHED}`"))
        }
        _ => error,
    })
}

/// As [`node_image`], but pulls nothing: of an image that is not here, the tag tells the version. The second value is
/// whether it is here.
pub async fn without_pulling(engine: &SharedEngine, named: Option<&str>, run: &str) -> Result<(NodeImage, bool)> {
    let reference = match named {
        Some(name) => name.to_owned(),
        None => newest_local(&**engine).await?.unwrap_or_else(|| PUBLISHED.to_owned()),
    };
    if let Some(image) = engine.image(&reference).await? {
        return Ok((describe(engine, &reference, &image, run).await?, true));
    }
    assumed(&reference).map(|image| (image, false))
}

/// The labels of the image that [`node_image`] would choose, and its name; `None` if it is not here. Nothing is made.
pub async fn labels_of(engine: &dyn Engine, named: Option<&str>) -> Result<(String, Option<Labels>)> {
    let reference = match named {
        Some(name) => name.to_owned(),
        None => newest_local(engine).await?.unwrap_or_else(|| PUBLISHED.to_owned()),
    };
    let image = engine.image(&reference).await?;
    Ok((reference, image.map(|image| image.labels)))
}

/// An image that is not here, as its tag describes it; images that are pulled have kind's layout.
fn assumed(reference: &str) -> Result<NodeImage> {
    let name = reference.split('@').next().unwrap_or_default();
    let version = name.rsplit_once(':').map_or("", |(_, tag)| tag);
    let (etcd, coredns, pause) = usual_images(version).filter(|_| version.starts_with('v')).ok_or_else(|| {
        Error::new(Code::ImageMissing, format!("there is no image `{reference}` here"))
            .because("nothing is pulled for `--dry-run`, and the name does not include the Kubernetes version")
            .hint(format!("pull it first: `docker pull {reference}`"))
    })?;
    Ok(NodeImage {
        id: reference.to_owned(),
        reference: reference.to_owned(),
        images: Images { kubernetes: version.to_owned(), etcd, coredns },
        pause: format!("registry.k8s.io/pause:{pause}"),
        shared_store: false,
        policy_plugin: false,
        ipv6_plugin: false,
        early_election: false,
        crun: false,
        known: None,
    })
}

/// The local `coracle/node` with the highest version.
pub async fn newest_local(engine: &dyn Engine) -> Result<Option<String>> {
    let prefix = format!("{REPOSITORY}:v");
    let images = engine.images().await?;
    let tags = images.iter().flat_map(|image| &image.tags).filter(|tag| tag.starts_with(&prefix));
    let version = |tag: &&String| {
        let numbers = tag[prefix.len()..].split('.').map(|part| part.parse::<u32>().unwrap_or_default());
        numbers.collect::<Vec<_>>()
    };
    Ok(tags.max_by_key(version).cloned())
}

async fn present_or_pulled(
    engine: &SharedEngine,
    reference: &str,
    login: Option<&Login>,
    run: &str,
    pulling: Pulling<'_>,
) -> Result<NodeImage> {
    if let Some(image) = engine.image(reference).await? {
        return describe(engine, reference, &image, run).await;
    }
    pulling(reference, 0, 0);
    engine.pull_image(reference, login, &|done, total| pulling(reference, done, total)).await.map_err(|error| {
        match error.code() {
            // Another image would not help.
            Code::DiskFull | Code::EngineUnreachable => error,
            _ => {
                Error::new(Code::ImageMissing, format!("there is no image `{reference}` here, and it cannot be pulled"))
                    .because(error.cause().unwrap_or(error.message()))
                    .hint("`docker images` lists what is here; `coracle build node-image` builds one")
            }
        }
    })?;
    match engine.image(reference).await? {
        Some(image) => describe(engine, reference, &image, run).await,
        None => Err(Error::new(Code::ImageMissing, format!("the engine pulled `{reference}` but does not have it"))),
    }
}

async fn describe(engine: &SharedEngine, reference: &str, image: &Image, run: &str) -> Result<NodeImage> {
    let unknown = |cause: &str| {
        Error::new(Code::ImageMissing, format!("`{reference}` is not a node image"))
            .because(cause)
            .hint("use one that `coracle build node-image` or `kind build node-image` made")
    };
    let ours = image.labels.get(labels::VERSION).cloned();
    let shared_store = ours.is_some();
    let kubernetes = match ours {
        Some(version) => version,
        None => version_inside(engine, image, run).await?.ok_or_else(|| unknown("it has no /kind/version"))?,
    };
    let has = |label: &str, value: &str| image.labels.get(label).is_some_and(|name| name == value);
    if too_old(&kubernetes) {
        let cause = format!("it has Kubernetes {kubernetes}, whose etcd does not know flags that coracle's nodes need");
        return Err(unknown(&cause).hint("use Kubernetes 1.34 or later"));
    }
    let (etcd, coredns, pause) = usual_images(&kubernetes)
        .ok_or_else(|| unknown(&format!("this coracle does not know Kubernetes {kubernetes}")))?;
    Ok(NodeImage {
        id: image.id.clone(),
        reference: reference.to_owned(),
        images: Images { kubernetes, etcd, coredns },
        pause: format!("registry.k8s.io/pause:{pause}"),
        shared_store,
        policy_plugin: has(labels::POLICY_PLUGIN, POLICY_PLUGIN),
        ipv6_plugin: has(labels::IPV6_PLUGIN, IPV6_PLUGIN),
        early_election: has(labels::ELECTION, AT_ONCE),
        crun: has(labels::RUNTIMES, CRUN),
        known: known(&image.labels),
    })
}

/// Whether a version is older than those that can boot. Up to 1.33 etcd is 3.5, which lacks two of the flags of its static pod.
fn too_old(kubernetes: &str) -> bool {
    let mut numbers = kubernetes.trim_start_matches('v').split('.').map_while(|part| part.parse::<u32>().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version| version < (1, 34))
}

/// What kubeadm of a version expects: tags of etcd, CoreDNS and pause.
fn usual_images(kubernetes: &str) -> Option<(String, String, String)> {
    let minor = kubernetes.split('.').nth(1)?;
    let (etcd, coredns, pause) = match minor {
        "34" => ("3.6.4-0", "v1.12.1", "3.10.1"),
        "35" => ("3.6.6-0", "v1.13.1", "3.10.1"),
        "36" => ("3.6.8-0", "v1.14.2", "3.10.2"),
        "37" => ("3.7.0-0", "v1.14.6", "3.10.2"),
        _ => return None,
    };
    Some((etcd.to_owned(), coredns.to_owned(), pause.to_owned()))
}

/// The Kubernetes version in an image of kind's layout.
async fn version_inside(engine: &SharedEngine, image: &Image, run: &str) -> Result<Option<String>> {
    let text = file_inside(engine, &image.id, run, "/kind/version").await?;
    Ok(text.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
}

/// A file of an image, read from a container that never starts.
pub(crate) async fn file_inside(engine: &SharedEngine, image: &str, run: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let name = format!("coracle-look-{}", helper::unique_id());
    let created = Helper::create(engine, throw_away(&name, image, run));
    let helper = tokio::join!(created, helper::sweep(&**engine)).0?;
    let content = read_file(&**engine, helper.name(), path).await;
    helper.remove().await?;
    content
}

/// A container of a run that is only looked into, never started.
pub(crate) fn throw_away(name: &str, image: &str, run: &str) -> ContainerSpec {
    ContainerSpec {
        entrypoint: Some(vec!["/bin/true".to_owned()]),
        labels: Labels::from([(labels::RUN.to_owned(), run.to_owned())]),
        ..ContainerSpec::new(name, image)
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
