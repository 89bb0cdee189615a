//! Enabling add-ons: their images, then their objects, then a wait until they work.

use serde_json::Value;

use crate::catalog::Addon;
use crate::cluster::addon::objects::ADDON_LABEL;
use crate::cluster::addon::target::Target;
use crate::cluster::addon::{objects, state};
use crate::error::{Code, Error, Result};
use crate::image::load_docker_images;
use crate::kubernetes::manifest;
use crate::node_image::MANIFESTS;
use crate::node_image::choose::file_inside;

/// Enables add-ons that are prepared; `wanted` are those that were named. Enabling an add-on again repairs it.
pub async fn enable(target: &Target<'_>, addons: &[Addon], wanted: &[String]) -> Result<()> {
    let applied = apply(target, addons, wanted).await?;
    wait(target, &applied).await
}

/// An add-on's objects, applied.
pub(crate) struct Applied {
    name: String,
    objects: Vec<Value>,
}

/// Loads the images of add-ons and applies their objects.
pub(crate) async fn apply(target: &Target<'_>, addons: &[Addon], wanted: &[String]) -> Result<Vec<Applied>> {
    let (ui, deadline) = (&target.run.ui, target.run.deadline);
    if addons.is_empty() {
        return Ok(Vec::new());
    }
    let before = state::enabled(target.client).await?;
    let mut applied = Vec::new();
    for addon in addons {
        let step = ui.step(format!("Enabling add-on {} {}", addon.name, addon.about.version));
        if let (Some(image), Some(_)) = (addon.image(), &addon.about.program) {
            let nodes = target.node_names();
            let progress = |node: &str, done: u64, total: u64| {
                step.detail(node, &format!("{} of {} MiB", done >> 20, total >> 20));
                step.bytes(done, total);
            };
            load_docker_images(&target.run.engine, &nodes, &[image], &progress).await?;
        }
        let objects = objects_of(target, addon).await?;
        refuse_others(target, addon, &objects).await?;
        let known = before.iter().find(|other| other.name == addon.name);
        // Required by another add-on, now or earlier, and never named: it is disabled with the last one that requires it.
        let automatic = !wanted.contains(&addon.name) && known.is_none_or(|known| known.automatic);
        let objects = [vec![state::marker(addon, &objects, automatic)], objects].concat();
        manifest::apply(target.client, &objects, deadline).await.map_err(|at| failed(&addon.name, &at))?;
        applied.push(Applied { name: addon.name.clone(), objects });
        step.finish();
    }
    Ok(applied)
}

/// Fails if an object of an add-on already exists and is someone else's: it would be changed now, and deleted when the add-on
/// is disabled.
async fn refuse_others(target: &Target<'_>, addon: &Addon, objects: &[Value]) -> Result<()> {
    let marker = state::marker_of(&addon.name);
    let all = [std::slice::from_ref(&marker), objects].concat();
    let others = manifest::unlabelled(target.client, &all, ADDON_LABEL, target.run.deadline).await?;
    if others.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::AddonInUse, format!("add-on `{}` cannot be enabled", addon.name))
        .because("objects of these names exist that coracle did not make")
        .with_lines(others)
        .hint("delete them if they are no longer needed, or do without the add-on; nothing was changed"))
}

/// Waits until add-ons work.
pub(crate) async fn wait(target: &Target<'_>, applied: &[Applied]) -> Result<()> {
    for Applied { name, objects } in applied {
        let step = target.run.ui.step(format!("Waiting for add-on {name}"));
        let progress = |what: &str| step.detail("waiting for", what);
        manifest::wait(target.client, objects, target.run.deadline, progress).await.map_err(|at| failed(name, &at))?;
        step.finish();
    }
    Ok(())
}

fn failed(addon: &str, at: &manifest::At) -> Error {
    Error::new(at.error.code(), format!("cannot enable add-on `{addon}`"))
        .because(at.error.to_string())
        .with_lines(at.error.lines().iter().cloned())
        .hint(format!("disable it again: `coracle addon disable {addon}`"))
}

/// The objects of an add-on, labelled, for this cluster.
async fn objects_of(target: &Target<'_>, addon: &Addon) -> Result<Vec<Value>> {
    let image = addon.image().unwrap_or_default();
    let mut text = String::new();
    if addon.about.files.is_some() {
        let found = file_inside(&target.run.engine, &image, &target.run.id, MANIFESTS).await?;
        let found = found.ok_or_else(|| {
            Error::new(Code::ImageMissing, format!("`{image}` has no `{MANIFESTS}`"))
                .hint(format!("rebuild it: `docker rmi {image}`, `coracle build addons {}`", addon.name))
        })?;
        text = String::from_utf8_lossy(&found).into_owned();
    }
    text.push_str("\n---\n");
    text.push_str(&objects::filled(&addon.manifest, &image, target.node_for(&addon.about.ports)));
    objects::labelled(&text, &addon.name)
}
