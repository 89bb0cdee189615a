//! The add-ons that this version has, each a directory of `node-image/addons` that is embedded in the command, and the
//! local registry, which is built in the same way. Pure.

use include_dir::{Dir, include_dir};
use serde::Deserialize;

use crate::error::{Code, Error, Result};

/// Repository of the images that `coracle build node-image` makes.
pub const NODE_REPOSITORY: &str = "coracle/node";
/// The registry's counterpart of an add-on's `addon.yaml`.
const REGISTRY: &str = include_str!("../node-image/registry/registry.yaml");
static DIRECTORIES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/node-image/addons");

/// An add-on, as its directory describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addon {
    /// Name of its directory.
    pub name: String,
    /// `addon.yaml`.
    pub about: About,
    /// `manifest.yaml`: its objects, with `{{ .Image }}` and `{{ .Node }}` to fill in.
    pub manifest: String,
}

/// `addon.yaml`: what an add-on is and what it is built from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// One line that describes it.
    pub description: String,
    /// Version of the module it is built from.
    pub version: String,
    /// Add-ons that must be enabled before this one.
    #[serde(default)]
    pub requires: Vec<String>,
    /// Ports of a node that it uses.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// What its pods run; `None` if they run an image that the nodes already have.
    pub program: Option<Program>,
    /// Manifests from a module, which are applied before its own.
    pub files: Option<Files>,
    /// Directories of its image that the program writes to; a new volume there gets their permissions.
    #[serde(default)]
    pub writable: Vec<String>,
}

/// A program of a Go module.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The module, of the add-on's version.
    pub module: String,
    /// Go's own hash of the module.
    pub sum: String,
    /// Package of the program, such as `./cmd/traefik`.
    pub package: String,
    /// Go variables to set, `path=value`.
    #[serde(default)]
    pub variables: Vec<String>,
}

/// Files of a Go module.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The module, of the add-on's version.
    pub module: String,
    /// Go's own hash of the module.
    pub sum: String,
    /// Paths in the module.
    pub paths: Vec<String>,
}

impl Addon {
    /// The image that is built for it, in the engine and in the nodes; `None` if it needs none.
    pub fn image(&self) -> Option<String> {
        let needed = self.about.program.is_some() || self.about.files.is_some();
        // Without objects it is the registry, which is not an add-on of a cluster.
        let kind = if self.manifest.is_empty() { "" } else { "addon-" };
        needed.then(|| format!("coracle/{kind}{}:{}", self.name, self.about.version))
    }
}

/// What the image of the local registry is built from.
pub fn registry() -> Result<Addon> {
    Ok(Addon { name: "registry".to_owned(), about: about("registry", REGISTRY)?, manifest: String::new() })
}

fn about(name: &str, text: &str) -> Result<About> {
    serde_yaml::from_str(text).map_err(|source| {
        Error::new(Code::StepFailed, format!("the recipe of `{name}` is damaged")).with_cause(&source)
    })
}

impl Program {
    /// The program's name: the last part of its package.
    pub fn name(&self) -> &str {
        self.package.rsplit('/').next().unwrap_or(&self.package)
    }
}

/// Names of all add-ons.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> =
        DIRECTORIES.dirs().filter_map(|directory| directory.path().file_name()?.to_str()).collect();
    names.sort_unstable();
    names
}

/// All add-ons, by name.
pub fn all() -> Result<Vec<Addon>> {
    names().into_iter().map(get).collect()
}

/// The add-on of this name; [`Code::NotFound`] if it does not exist.
pub fn get(name: &str) -> Result<Addon> {
    let file = |file: &str| DIRECTORIES.get_file(format!("{name}/{file}")).and_then(include_dir::File::contents_utf8);
    let (Some(about), Some(manifest)) = (file("addon.yaml"), file("manifest.yaml")) else {
        return Err(Error::new(Code::NotFound, format!("the add-on `{name}` does not exist"))
            .hint(format!("the add-ons are: {}", names().join(", "))));
    };
    Ok(Addon { name: name.to_owned(), about: self::about(name, about)?, manifest: manifest.to_owned() })
}

/// The add-ons of these names and all that they require, each after those that it requires.
pub fn with_requirements(names: &[String]) -> Result<Vec<Addon>> {
    let mut ordered = Vec::new();
    for name in names {
        add(&get(name)?, &mut ordered)?;
    }
    Ok(ordered)
}

fn add(addon: &Addon, ordered: &mut Vec<Addon>) -> Result<()> {
    if ordered.contains(addon) {
        return Ok(());
    }
    for name in &addon.about.requires {
        add(&get(name)?, ordered)?;
    }
    ordered.push(addon.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_is_an_add_on() {
        assert!(names().contains(&"metrics-server"));
        for addon in all().unwrap() {
            assert!(!addon.about.description.ends_with('.'), "{}", addon.name);
            assert_eq!(addon.manifest.contains("{{ .Image }}"), addon.about.program.is_some(), "{}", addon.name);
            let sums = addon.about.program.iter().map(|program| &program.sum);
            for sum in sums.chain(addon.about.files.iter().map(|files| &files.sum)) {
                assert!(sum.starts_with("h1:") && sum.len() == 47, "{}: {sum}", addon.name);
            }
        }
    }

    #[test]
    fn the_registry_is_not_an_add_on_but_built_like_one() {
        let registry = registry().unwrap();
        assert_eq!(registry.image(), Some(format!("coracle/registry:{}", registry.about.version)));
        assert!(registry.about.program.is_some_and(|program| program.name() == "registry"));
        assert!(!names().contains(&"registry"));
    }

    #[test]
    fn what_is_required_comes_first_and_once() {
        let names = ["ingress".to_owned(), "gateway-api".to_owned()];
        let ordered: Vec<String> = with_requirements(&names).unwrap().into_iter().map(|addon| addon.name).collect();
        assert_eq!(ordered, ["gateway-api", "ingress"]);
    }

    #[test]
    fn an_unknown_name_gets_the_list() {
        let error = get("dashboard").unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        assert!(error.hints()[0].contains("metrics-server"), "{error:?}");
    }
}
