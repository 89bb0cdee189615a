//! Images of add-ons: a program of a Go module, and manifests out of one.
//!
//! They are images of their own, in the engine, and not in the node image: a cluster without add-ons pays nothing for
//! them, and the first build of a node image does not wait for them.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::catalog::Addon;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::node_image::cache::{Cache, fingerprint};
use crate::node_image::programs::Builder;
use crate::node_image::recipe::Module;
use crate::node_image::tree::Tree;
use crate::node_image::{
    INPUTS_LABEL, Progress, archive, cache_directory, check_architecture, recipe, require_ours, system, tool,
};

/// Where an image has the manifests that come from a module.
pub const MANIFESTS: &str = "/manifests.yaml";
/// The user that programs of add-ons run as, unless a manifest says otherwise.
const USER: &str = "65532:65532";

/// The hash of everything that an add-on's image is built from.
pub(crate) fn inputs_of(addon: &Addon) -> String {
    let about = &addon.about;
    let program = about.program.iter().flat_map(|program| {
        [program.module.clone(), program.sum.clone(), program.package.clone(), program.variables.join(" ")]
    });
    let files = about.files.iter().flat_map(|files| [files.module.clone(), files.sum.clone(), files.paths.join(" ")]);
    let inputs = program.chain(files).chain(about.writable.clone());
    let inputs: Vec<String> = inputs.chain([about.version.clone(), USER.to_owned()]).collect();
    fingerprint(&inputs.iter().map(String::as_bytes).collect::<Vec<_>>())
}

/// Whether the engine has the add-on's image, of this coracle's recipe; also when it needs none.
pub async fn is_built(engine: &dyn Engine, addon: &Addon) -> Result<bool> {
    let Some(image) = addon.image() else { return Ok(true) };
    let found = engine.image(&image).await?;
    Ok(found.is_some_and(|found| found.labels.get(INPUTS_LABEL) == Some(&inputs_of(addon))))
}

/// Builds an add-on's image and puts it into the engine; `false` when that was done already.
pub async fn build_addon(
    engine: &dyn Engine,
    addon: &Addon,
    cache: Option<PathBuf>,
    progress: Progress<'_>,
) -> Result<bool> {
    let Some(image) = addon.image() else { return Ok(false) };
    if is_built(engine, addon).await? {
        return Ok(false);
    }
    require_ours(&image, engine.image(&image).await?.as_ref())?;
    check_architecture(engine, &recipe::Versions::load()?).await?;
    tool::require(&["go"])?;
    let cache = Cache::open(&cache_directory(cache)?)?;
    let builder = Builder::new(&cache, progress).await?;
    let mut tree = Tree::default();
    let mut configuration = json!({"User": USER, "WorkingDir": "/", "Labels": {INPUTS_LABEL: inputs_of(addon)}});
    if let Some(program) = &addon.about.program {
        let module = module(addon, &program.module, &program.sum);
        let built = builder.addon(&module, program).await?;
        tree.program(program.name(), &built.join(program.name()))?;
        configuration["Entrypoint"] = json!([format!("/{}", program.name())]);
    }
    if let Some(files) = &addon.about.files {
        let source = builder.source(&module(addon, &files.module, &files.sum)).await?;
        tree.file(MANIFESTS.trim_start_matches('/'), 0o644, manifests(&source, &files.paths)?);
    }
    for path in &addon.about.writable {
        tree.directory(path);
        tree.set_mode(path, 0o1777);
    }
    let scratch = cache.scratch()?;
    let layer = system::write_layer(&tree, scratch.path(), "addon.tar")?;
    progress("image", "storing in the engine");
    engine.load_images(archive::stream(&layer, &image, &configuration).await?).await?;
    Ok(true)
}

fn module(addon: &Addon, path: &str, sum: &str) -> Module {
    Module { path: path.to_owned(), version: addon.about.version.clone(), sum: sum.to_owned() }
}

/// The files as one stream of YAML documents.
fn manifests(source: &Path, paths: &[String]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for path in paths {
        let path = source.join(path);
        let content = std::fs::read(&path).map_err(|source| {
            Error::new(Code::BuildFailed, format!("cannot read `{}`", path.display())).with_cause(&source)
        })?;
        text.extend_from_slice(b"---\n");
        text.extend_from_slice(&content);
        text.push(b'\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;

    #[test]
    fn each_input_decides_what_the_image_is() {
        let addon = catalog::get("ingress").unwrap();
        let mut other = addon.clone();
        assert_eq!(inputs_of(&addon), inputs_of(&other));
        if let Some(program) = &mut other.about.program {
            program.variables.clear();
        }
        assert_ne!(inputs_of(&addon), inputs_of(&other));
    }

    #[tokio::test]
    async fn an_image_of_someone_else_keeps_its_name() {
        let addon = catalog::registry().unwrap();
        let image = addon.image().unwrap();
        let engine = crate::engine::fake::FakeEngine::new(&[&image]);
        let error = build_addon(&engine, &addon, None, &|_, _| {}).await.unwrap_err();
        assert!(error.message().contains(&format!("image `{image}` exists and was not built by coracle")), "{error}");
        assert!(!engine.transcript().iter().any(|call| call.starts_with("load_images")));
    }

    #[test]
    fn files_become_documents_of_one_stream() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), "a: 1").unwrap();
        std::fs::write(directory.path().join("b.yaml"), "b: 2\n").unwrap();
        let text = manifests(directory.path(), &["a.yaml".to_owned(), "b.yaml".to_owned()]).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "---\na: 1\n---\nb: 2\n\n");
    }
}
