//! Builds node images from the recipe in `node-image/`, which is embedded in the command.
//!
//! Each step is cached by the hash of its inputs, so a second build takes seconds.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::engine::spec::Image;
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::plan::facts::{AT_ONCE, CRUN, IPV6_PLUGIN, POLICY_PLUGIN};
use crate::plan::{labels, ownership};

mod addon;
mod archive;
mod assemble;
mod cache;
pub mod choose;
mod debian;
mod download;
mod programs;
mod published;
mod recipe;
mod store;
mod system;
mod tool;
mod tree;

#[cfg(test)]
pub(crate) use addon::inputs_of;
pub use addon::{MANIFESTS, build_addon, is_built};
use cache::{Cache, fingerprint};
use published::Published;
use recipe::{Release, Root, Versions};

/// Label of an image that coracle builds: the hash of everything that it was built from.
pub const INPUTS_LABEL: &str = labels::INPUTS;

/// Hears what is worked on: a part of the image, and what happens to it.
pub type Progress<'a> = &'a (dyn Fn(&str, &str) + Send + Sync);

/// Where the programs of a node come from, except for Kubernetes, which is always built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// They are built from source.
    Source,
    /// They are the programs that their projects publish.
    Release,
}

/// What to build.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Kubernetes version, such as `v1.36.3` or `1.36`; the newest that is known when `None`.
    pub kubernetes_version: Option<String>,
    /// Name of the image; `coracle/node:VERSION` when `None`.
    pub image: Option<String>,
    /// Where the programs come from; from releases where those can be downloaded when `None`.
    pub from: Option<Origin>,
    /// Where outputs of steps are kept; coracle's directory in the user's cache directory when `None`.
    pub cache: Option<PathBuf>,
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Its name with tag.
    pub image: String,
    /// The Kubernetes version in it.
    pub kubernetes_version: String,
    /// The engine had it already, from the same inputs.
    pub unchanged: bool,
}

/// Builds a node image and puts it into the engine.
pub async fn build(engine: &SharedEngine, options: &BuildOptions, progress: Progress<'_>) -> Result<Built> {
    let versions = Versions::load()?;
    let root = Root::load()?;
    let release = versions.release(options.kubernetes_version.as_deref())?;
    let image = options.image.clone().unwrap_or_else(|| format!("coracle/node:{}", release.version));
    check_architecture(&**engine, &versions).await?;
    let built = Built { image, kubernetes_version: release.version.clone(), unchanged: true };
    let known = engine.image(&built.image).await?;
    if is_current(known.as_ref(), release, options.from)? {
        return Ok(built);
    }
    if options.image.is_none() {
        require_ours(&built.image, known.as_ref())?;
    }
    tool::require(&["go", "gcc", "mmdebstrap"])?;
    let cache = Cache::open(&cache_directory(options.cache.clone())?)?;
    let published = published(&cache, &versions, release, options.from, progress).await?;
    let inputs = inputs(release, if published.is_some() { Origin::Release } else { Origin::Source })?;
    let builder = programs::Builder::new(&cache, progress).await?;
    let (programs, debian) = tokio::try_join!(
        builder.programs(&versions, release, published.as_ref()),
        debian::bootstrap(&cache, &versions.debian, &root, progress),
    )?;
    let settings = builder.settings(release, &programs.kubernetes).await?;
    let runc = match published {
        Some(published) => published.runc,
        None => builder.runc(&versions, &debian.sysroot).await?,
    };
    let parts = assemble::Parts {
        versions: &versions,
        release,
        root: &root,
        programs: &programs,
        runc: &runc,
        settings: &settings.list,
    };
    let scratch = cache.scratch()?;
    progress("images", "preloading");
    let layer = assemble::assemble(engine, &cache, scratch.path(), debian.tree, &parts).await?;
    progress("image", "storing in the engine");
    let configuration = configuration(&built, &inputs, &settings.label);
    engine.load_images(archive::stream(&layer, &built.image, &configuration).await?).await?;
    Ok(Built { unchanged: false, ..built })
}

/// The configuration of the image.
fn configuration(built: &Built, inputs: &str, settings: &str) -> Value {
    json!({
        "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=docker"],
        // systemd shuts down on this signal, and only restarts itself on SIGTERM.
        "StopSignal": "SIGRTMIN+3",
        "WorkingDir": "/",
        "Labels": {
            labels::VERSION: built.kubernetes_version,
            INPUTS_LABEL: inputs,
            labels::POLICY_PLUGIN: POLICY_PLUGIN,
            labels::IPV6_PLUGIN: IPV6_PLUGIN,
            labels::ELECTION: AT_ONCE,
            labels::RUNTIMES: CRUN,
            labels::SETTINGS: settings,
        },
    })
}

/// Whether an image was built from what a build would use now.
fn is_current(known: Option<&Image>, release: &Release, from: Option<Origin>) -> Result<bool> {
    let Some(label) = known.and_then(|known| known.labels.get(INPUTS_LABEL)) else { return Ok(false) };
    for origin in from.map_or(vec![Origin::Release, Origin::Source], |origin| vec![origin]) {
        if inputs(release, origin)? == *label {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The programs that are published, if they are wanted, and can be had or must be.
async fn published(
    cache: &Cache,
    versions: &Versions,
    release: &Release,
    from: Option<Origin>,
    progress: Progress<'_>,
) -> Result<Option<Published>> {
    if from == Some(Origin::Source) {
        return Ok(None);
    }
    match published::take(cache, versions, release, progress).await {
        Ok(published) => Ok(Some(published)),
        Err(error) if from == Some(Origin::Release) => {
            Err(error.hint("`coracle build node-image --from source` needs no published programs"))
        }
        Err(error) => {
            let cause = error.cause().unwrap_or(error.message());
            progress("releases", &format!("all programs are built from source: {cause}"));
            Ok(None)
        }
    }
}

/// Hash of everything that decides what is in the image. What is published with a version never changes.
fn inputs(release: &Release, origin: Origin) -> Result<String> {
    let mut inputs = recipe::inputs()?;
    inputs.push(release.version.clone().into_bytes());
    if origin == Origin::Release {
        inputs.push(b"release".to_vec());
    }
    let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
    Ok(fingerprint(&inputs))
}

/// Fails if an image of a name that coracle chooses is not one that it has built: a build would take the name from it.
fn require_ours(name: &str, found: Option<&Image>) -> Result<()> {
    if found.is_none_or(|found| ownership::is_built_image(&found.labels)) {
        return Ok(());
    }
    Err(Error::new(Code::BuildFailed, format!("image `{name}` exists and was not built by coracle"))
        .because("a build would take the name from it")
        .hint(format!("give it another name: `docker tag {name} NAME`, then `docker rmi {name}`")))
}

async fn check_architecture(engine: &dyn Engine, versions: &Versions) -> Result<()> {
    let architecture = engine.info().await?.architecture;
    if matches!(architecture.as_str(), "x86_64" | "amd64") {
        return Ok(());
    }
    let pinned = &versions.debian.architecture;
    Err(Error::new(Code::BuildFailed, format!("the recipe is for {pinned}, and the engine runs {architecture}"))
        .hint("build the image on an x86-64 machine"))
}

/// What killed builds have left in the usual cache.
pub fn abandoned() -> Vec<PathBuf> {
    cache_directory(None).ok().and_then(|root| cache::abandoned(&root).ok()).unwrap_or_default()
}

fn cache_directory(named: Option<PathBuf>) -> Result<PathBuf> {
    let default = || dirs::cache_dir().map(|cache| cache.join("coracle/node-image"));
    named.or_else(default).ok_or_else(|| {
        Error::new(Code::FileFailed, "cannot find this user's cache directory").hint("set HOME or XDG_CACHE_HOME")
    })
}
