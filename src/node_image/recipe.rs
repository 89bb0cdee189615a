//! The recipe of a node image, embedded in the command: what goes in, by version and hash, and the files around it.

use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};
use serde::Deserialize;

use crate::agent;
use crate::error::{Code, Error, Result};

/// The version of what coracle itself puts into images.
const OWN_VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// The CNI plugins that a node has, as packages of their project.
pub(super) const CNI_PLUGINS: &[&str] = &[
    "ipam/host-local",
    "ipam/static",
    "main/bridge",
    "main/host-device",
    "main/ipvlan",
    "main/loopback",
    "main/macvlan",
    "main/ptp",
    "meta/bandwidth",
    "meta/firewall",
    "meta/portmap",
    "meta/tuning",
];

static VERSIONS: &str = include_str!("../../node-image/versions.yaml");
static ROOT: &str = include_str!("../../node-image/root.yaml");
static KUBERNETES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/node-image/kubernetes");
static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/node-image/rootfs");

/// `versions.yaml`: everything that goes into an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Versions {
    pub(super) kubernetes: Vec<Release>,
    pub(super) modules: Vec<Module>,
    pub(super) debian: Debian,
}

/// One Kubernetes release, with the tags that its kubeadm expects.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    pub(super) version: String,
    pub(super) sum: String,
    pub(super) etcd: String,
    pub(super) coredns: String,
    pub(super) pause: String,
}

/// A Go module with Go's hash of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Module {
    #[serde(rename = "module")]
    pub(super) path: String,
    pub(super) version: String,
    pub(super) sum: String,
}

/// The distribution of the root file system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Debian {
    pub(super) suite: String,
    pub(super) architecture: String,
    pub(super) mirrors: Vec<Mirror>,
    /// Package name to `VERSION SHA256`.
    pub(super) packages: BTreeMap<String, String>,
}

/// Where the packages and their security updates are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mirror {
    pub(super) main: String,
    pub(super) security: String,
}

/// `root.yaml`: what the root file system is made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    pub(super) packages: Vec<String>,
    pub(super) remove: Vec<String>,
    pub(super) directories: Vec<String>,
    pub(super) enable: Vec<String>,
    pub(super) mask: Vec<String>,
    pub(super) shared: Vec<String>,
}

impl Versions {
    pub(super) fn load() -> Result<Self> {
        parse("versions.yaml", VERSIONS)
    }

    /// The newest release that `wanted` names: all of `v1.36.3`, `1.36.3` and `1.36`; without a wish the newest of all.
    pub(super) fn release(&self, wanted: Option<&str>) -> Result<&Release> {
        let wanted = wanted.unwrap_or_default().trim_start_matches('v');
        let matches = |release: &&Release| {
            let version = release.version.trim_start_matches('v');
            wanted.is_empty() || version == wanted || version.starts_with(&format!("{wanted}."))
        };
        let newest = self.kubernetes.iter().filter(matches).max_by_key(|release| numbers(&release.version));
        newest.ok_or_else(|| {
            let known: Vec<_> = self.kubernetes.iter().map(|release| release.version.as_str()).collect();
            Error::new(Code::UsageInvalid, format!("no recipe for Kubernetes `{wanted}`"))
                .hint(format!("this coracle builds {}", known.join(", ")))
        })
    }

    /// The pinned module; with several versions of it, the one that is asked for.
    pub(super) fn module(&self, module: &str, version: Option<&str>) -> Result<&Module> {
        let matches = |pin: &&Module| pin.path == module && version.is_none_or(|version| pin.version == version);
        self.modules.iter().find(matches).ok_or_else(|| {
            let version = version.unwrap_or("any version");
            Error::new(Code::BuildFailed, format!("versions.yaml does not pin {module} at {version}"))
        })
    }
}

impl Release {
    /// The Go module of this release.
    pub(super) fn module(&self) -> Module {
        Module { path: "k8s.io/kubernetes".to_owned(), version: self.version.clone(), sum: self.sum.clone() }
    }

    /// The minor version as a number: 36.
    pub(super) fn minor(&self) -> u64 {
        numbers(&self.version).get(1).copied().unwrap_or_default()
    }
}

impl Root {
    pub(super) fn load() -> Result<Self> {
        parse("root.yaml", ROOT)
    }
}

/// The agent's program.
pub(super) fn agent() -> Result<Vec<u8>> {
    agent::binary().map_err(|source| Error::new(Code::BuildFailed, "cannot unpack the agent").with_cause(&source))
}

/// The image name of the agent.
pub(super) fn agent_image() -> String {
    format!("docker.io/coracle/agent:{OWN_VERSION}")
}

/// The program that links every Kubernetes component, and its `go.mod` and `go.sum` for one release.
pub(super) fn kubernetes_program(version: &str) -> Result<BTreeMap<&'static str, &'static [u8]>> {
    let file = |path: String, name| {
        let missing = || Error::new(Code::BuildFailed, format!("the recipe has no kubernetes/{path}"));
        KUBERNETES.get_file(&path).map(|file| (name, file.contents())).ok_or_else(missing)
    };
    let modules = [file(format!("{version}/go.mod"), "go.mod")?, file(format!("{version}/go.sum"), "go.sum")?];
    let sources = KUBERNETES.files().filter_map(|file| Some((file.path().to_str()?, file.contents())));
    Ok(modules.into_iter().chain(sources).collect())
}

/// The program that lists what can be set in one release: its sources, and the `go.mod` and `go.sum` of the release.
pub(super) fn settings_program(version: &str) -> Result<BTreeMap<String, &'static [u8]>> {
    let mut files: BTreeMap<String, &'static [u8]> = BTreeMap::new();
    // Not the sources that all of Kubernetes is compiled into.
    let modules = kubernetes_program(version)?.into_iter().filter(|(name, _)| name.starts_with("go."));
    files.extend(modules.map(|(name, content)| (name.to_owned(), content)));
    let sources = KUBERNETES.get_dir("settings").map(Dir::files).into_iter().flatten();
    files.extend(sources.map(|file| (file.path().to_string_lossy().into_owned(), file.contents())));
    Ok(files)
}

/// The files that are put over Debian's, by path.
pub(super) fn files() -> BTreeMap<String, &'static [u8]> {
    let mut files = BTreeMap::new();
    collect(&FILES, &mut files);
    files
}

fn collect(directory: &'static Dir<'static>, files: &mut BTreeMap<String, &'static [u8]>) {
    for file in directory.files() {
        files.insert(file.path().to_string_lossy().into_owned(), file.contents());
    }
    for below in directory.dirs() {
        collect(below, files);
    }
}

/// Everything in the recipe that decides what an image is.
pub(super) fn inputs() -> Result<Vec<Vec<u8>>> {
    let mut inputs = vec![VERSIONS.into(), ROOT.into(), agent()?, agent::MANIFEST.into(), OWN_VERSION.into()];
    for (path, content) in files() {
        inputs.push(path.into_bytes());
        inputs.push(content.into());
    }
    for directory in std::iter::once(&KUBERNETES).chain(KUBERNETES.dirs()) {
        inputs.extend(directory.files().map(|file| file.contents().to_vec()));
    }
    Ok(inputs)
}

fn parse<T: for<'de> Deserialize<'de>>(name: &str, text: &str) -> Result<T> {
    serde_yaml::from_str(text).map_err(|source| {
        Error::new(Code::BuildFailed, format!("cannot read {name} of the recipe")).with_cause(&source)
    })
}

fn numbers(version: &str) -> Vec<u64> {
    version.trim_start_matches('v').split('.').map(|part| part.parse().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_can_be_built_from_what_is_pinned() {
        let versions = Versions::load().unwrap();
        for release in &versions.kubernetes {
            let program = kubernetes_program(&release.version).unwrap();
            assert!(["main.go", "go.mod", "go.sum"].iter().all(|name| program.contains_key(name)), "{program:?}");
            let settings = settings_program(&release.version).unwrap();
            assert!(settings.contains_key("settings/main.go") && settings.contains_key("go.sum"), "{settings:?}");
            versions.module("github.com/coredns/coredns", Some(&release.coredns)).unwrap();
            let sums = kubernetes_program(&release.version).unwrap()["go.sum"];
            let line = format!("k8s.io/kubernetes {} {}\n", release.version, release.sum);
            assert!(String::from_utf8_lossy(sums).contains(&line), "go.sum and versions.yaml agree");
        }
    }

    #[test]
    fn a_minor_version_means_its_newest_patch() {
        let versions = Versions::load().unwrap();
        assert_eq!(versions.release(None).unwrap().minor(), 36);
        assert_eq!(versions.release(Some("1.35")).unwrap().minor(), 35);
        let newest = versions.release(Some("v1.36")).unwrap();
        assert_eq!(versions.release(Some(&newest.version)).unwrap().version, newest.version);
        assert_eq!(versions.release(Some("1.3")).unwrap_err().code(), Code::UsageInvalid);
    }

    #[test]
    fn every_package_has_a_version_and_a_hash() {
        let versions = Versions::load().unwrap();
        for (name, pin) in &versions.debian.packages {
            let (version, hash) = pin.split_once(' ').unwrap();
            assert!(!version.is_empty() && hash.len() == 64, "{name}");
        }
        for name in Root::load().unwrap().packages {
            assert!(versions.debian.packages.contains_key(&name), "{name} is not pinned");
        }
    }

    #[test]
    fn no_unit_raises_a_limit() {
        for (path, content) in files() {
            let text = String::from_utf8_lossy(content);
            let raises = |line: &str| line.starts_with("Limit") || line.starts_with("OOMScoreAdjust");
            assert!(!text.lines().any(raises), "{path}");
        }
    }
}
