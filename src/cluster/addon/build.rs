//! Building the images of add-ons and of the local registry.

use std::path::PathBuf;

use crate::catalog::{self, Addon};
use crate::cluster::run::Run;
use crate::error::Result;
use crate::node_image;

/// Builds the images of these add-ons that the engine lacks. Returns the add-ons, each after those that it requires.
pub async fn prepare(run: &Run, names: &[String], cache: Option<PathBuf>) -> Result<Vec<Addon>> {
    let addons = catalog::with_requirements(names)?;
    for addon in &addons {
        build_image(run, addon, &format!("add-on {}", addon.name), cache.clone()).await?;
    }
    Ok(addons)
}

/// Builds an image that the engine lacks; `false` if the engine has it.
pub(crate) async fn build_image(run: &Run, addon: &Addon, title: &str, cache: Option<PathBuf>) -> Result<bool> {
    let engine = &*run.engine;
    if node_image::is_built(engine, addon).await? {
        return Ok(false);
    }
    let step = run.ui.step(format!("Building {title} {}", addon.about.version));
    let progress = |thing: &str, text: &str| step.detail(thing, text);
    node_image::build_addon(engine, addon, cache, &progress).await.map_err(|error| {
        error.hint(format!("run this once on a machine with Go and a Go proxy: `coracle build addons {}`", addon.name))
    })?;
    step.finish();
    Ok(true)
}

/// Builds the images of add-ons and of the local registry, all of them if none is named. Returns which were new.
pub async fn build(run: &Run, names: &[String]) -> Result<Vec<(Addon, bool)>> {
    let registry = catalog::registry()?;
    let all: Vec<String> = catalog::names().into_iter().map(str::to_owned).collect();
    let addons: Vec<String> = names.iter().filter(|name| **name != registry.name).cloned().collect();
    let addons = catalog::with_requirements(if names.is_empty() { &all } else { &addons })?;
    let mut built = Vec::new();
    for addon in addons {
        let new = build_image(run, &addon, &format!("add-on {}", addon.name), None).await?;
        built.push((addon, new));
    }
    if names.is_empty() || names.contains(&registry.name) {
        let new = build_image(run, &registry, "the registry", None).await?;
        built.push((registry, new));
    }
    Ok(built)
}
