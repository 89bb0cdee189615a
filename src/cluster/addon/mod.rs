//! Add-ons of a running cluster. What is enabled is known to the cluster only: a ConfigMap for each, and a label on every
//! object.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::catalog::{self, Addon};
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::image::load_docker_images;
use crate::kubernetes::{Client, manifest};
use crate::node_image::{self, MANIFESTS};
use crate::ui::Ui;

mod disable;
mod objects;
mod state;

pub use disable::{Disabled, disable};
pub use state::{Enabled, enabled};

/// Label of every object of an add-on, with its name.
pub const ADDON_LABEL: &str = "dev.coracle.addon";

/// The cluster that add-ons are for.
pub struct Site<'a> {
    /// The engine that the nodes are on.
    pub engine: &'a SharedEngine,
    /// A client of its API.
    pub client: &'a Client,
    /// Its nodes, the first control plane first, with those of their ports that the host publishes.
    pub nodes: Vec<(String, Vec<u16>)>,
    /// ID of this run, for what it makes for a moment.
    pub run: String,
}

impl Site<'_> {
    /// The node on which most of the ports are published; the first one when none is.
    fn node_for(&self, ports: &[u16]) -> &str {
        let mut best: Option<(usize, &str)> = None;
        for (name, published) in &self.nodes {
            let count = ports.iter().filter(|port| published.contains(port)).count();
            if best.is_none_or(|(most, _)| count > most) {
                best = Some((count, name));
            }
        }
        best.map_or("", |(_, name)| name)
    }
}

/// An add-on and whether a cluster has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The version that this coracle has.
    pub version: String,
    /// The version that the cluster has; `None` when it is not enabled.
    pub enabled: Option<String>,
    /// One line for people.
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
        description: "not known to this coracle".to_owned(),
    }));
    Ok(listed)
}

/// Builds what the engine does not have of these add-ons' images. Returns the add-ons, each after what it requires.
pub async fn prepare(engine: &dyn Engine, names: &[String], cache: Option<PathBuf>, ui: &Ui) -> Result<Vec<Addon>> {
    let addons = catalog::with_requirements(names)?;
    for addon in &addons {
        build_one(engine, addon, &format!("add-on {}", addon.name), cache.clone(), ui).await?;
    }
    Ok(addons)
}

/// Builds an image that the engine does not have yet; `false` when it has it.
pub(crate) async fn build_one(
    engine: &dyn Engine,
    addon: &Addon,
    called: &str,
    cache: Option<PathBuf>,
    ui: &Ui,
) -> Result<bool> {
    if node_image::is_built(engine, addon).await? {
        return Ok(false);
    }
    let step = ui.step(format!("Building {called} {}", addon.about.version));
    let progress = |thing: &str, text: &str| step.detail(thing, text);
    node_image::build_addon(engine, addon, cache, &progress).await.map_err(|error| {
        error.hint(format!("where there is Go and a Go proxy, once: `coracle build addons {}`", addon.name))
    })?;
    step.finish();
    Ok(true)
}

/// Enables add-ons that [`prepare`] has prepared; `wanted` are those that were named. Enabling again repairs.
pub async fn enable(site: &Site<'_>, addons: &[Addon], wanted: &[String], wait: Duration, ui: &Ui) -> Result<()> {
    let deadline = Instant::now() + wait;
    let applied = apply(site, addons, wanted, deadline, ui).await?;
    self::wait(site, &applied, deadline, ui).await
}

/// An add-on's objects, applied.
pub(crate) struct Applied {
    name: String,
    objects: Vec<Value>,
}

/// Loads the images of add-ons and applies their objects.
pub(crate) async fn apply(
    site: &Site<'_>,
    addons: &[Addon],
    wanted: &[String],
    deadline: Instant,
    ui: &Ui,
) -> Result<Vec<Applied>> {
    if addons.is_empty() {
        return Ok(Vec::new());
    }
    let before = state::enabled(site.client).await?;
    let mut applied = Vec::new();
    for addon in addons {
        let step = ui.step(format!("Enabling add-on {} {}", addon.name, addon.about.version));
        if let (Some(image), Some(_)) = (addon.image(), &addon.about.program) {
            let nodes: Vec<String> = site.nodes.iter().map(|(name, _)| name.clone()).collect();
            let progress = |node: &str, done: u64, total: u64| {
                step.detail(node, &format!("{} of {} MiB", done >> 20, total >> 20));
                step.bytes(done, total);
            };
            load_docker_images(site.engine, &nodes, &[image], &progress).await?;
        }
        let objects = objects(site, addon).await?;
        let known = before.iter().find(|other| other.name == addon.name);
        // Brought by another one, now or earlier, and never asked for by name: it may go with the last that needs it.
        let automatic = !wanted.contains(&addon.name) && known.is_none_or(|known| known.automatic);
        let objects = [vec![state::marker(addon, &objects, automatic)], objects].concat();
        manifest::apply(site.client, &objects, deadline).await.map_err(|at| failed(&addon.name, &at))?;
        applied.push(Applied { name: addon.name.clone(), objects });
        step.finish();
    }
    Ok(applied)
}

/// Waits until add-ons work.
pub(crate) async fn wait(site: &Site<'_>, applied: &[Applied], deadline: Instant, ui: &Ui) -> Result<()> {
    for Applied { name, objects } in applied {
        let step = ui.step(format!("Waiting for add-on {name}"));
        let said = |what: &str| step.detail("waiting for", what);
        manifest::wait(site.client, objects, deadline, said).await.map_err(|at| failed(name, &at))?;
        step.finish();
    }
    Ok(())
}

fn failed(addon: &str, at: &manifest::At) -> Error {
    Error::new(at.error.code(), format!("cannot enable add-on `{addon}`"))
        .because(at.error.to_string())
        .lines(at.error.log_lines().iter().cloned())
        .hint(format!("take it back: `coracle addon disable {addon}`"))
}

/// The objects of an add-on, labelled, for this cluster.
async fn objects(site: &Site<'_>, addon: &Addon) -> Result<Vec<Value>> {
    let image = addon.image().unwrap_or_default();
    let mut text = String::new();
    if addon.about.files.is_some() {
        let found = crate::node_image::choose::file_inside(site.engine, &image, &site.run, MANIFESTS).await?;
        let found = found.ok_or_else(|| {
            Error::new(Code::ImageMissing, format!("`{image}` has no {MANIFESTS}"))
                .hint(format!("build it again: `docker rmi {image}`, `coracle build addons {}`", addon.name))
        })?;
        text = String::from_utf8_lossy(&found).into_owned();
    }
    text.push_str("\n---\n");
    text.push_str(&objects::filled(&addon.manifest, &image, site.node_for(&addon.about.ports)));
    objects::labelled(&text, &addon.name)
}

/// Builds the images of add-ons and of the local registry, all of them when none is named. Says which were new.
pub async fn build(engine: &dyn Engine, names: &[String], ui: &Ui) -> Result<Vec<(Addon, bool)>> {
    let registry = catalog::registry()?;
    let all: Vec<String> = catalog::names().into_iter().map(str::to_owned).collect();
    let of_clusters: Vec<String> = names.iter().filter(|name| **name != registry.name).cloned().collect();
    let addons = catalog::with_requirements(if names.is_empty() { &all } else { &of_clusters })?;
    let mut built = Vec::new();
    for addon in addons {
        let new = build_one(engine, &addon, &format!("add-on {}", addon.name), None, ui).await?;
        built.push((addon, new));
    }
    if names.is_empty() || names.contains(&registry.name) {
        let new = build_one(engine, &registry, "the registry", None, ui).await?;
        built.push((registry, new));
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::fake::FakeEngine;

    #[tokio::test]
    async fn a_program_runs_where_its_ports_are_published() {
        let client = Client::from_kubeconfig(
            "{apiVersion: v1, kind: Config, clusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}], \
             contexts: [{name: a, context: {cluster: a, user: a}}], current-context: a, users: [{name: a, user: {}}]}",
        )
        .await
        .unwrap();
        let engine: SharedEngine = Arc::new(FakeEngine::new(&[]));
        let node = |name: &str, ports: &[u16]| (name.to_owned(), ports.to_vec());
        let mut site = Site { engine: &engine, client: &client, run: String::new(), nodes: Vec::new() };
        site.nodes = vec![node("a", &[6443]), node("b", &[80]), node("c", &[80, 443])];
        assert_eq!(site.node_for(&[80, 443]), "c");
        assert_eq!(site.node_for(&[]), "a");
        site.nodes.truncate(1);
        assert_eq!(site.node_for(&[80, 443]), "a");
    }

    #[tokio::test]
    async fn without_a_cluster_the_list_is_what_there_is() {
        let names: Vec<String> = list(None).await.unwrap().into_iter().map(|addon| addon.name).collect();
        assert_eq!(names, catalog::names());
    }
}
