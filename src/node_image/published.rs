//! Takes programs of a node as their projects publish them at GitHub, instead of building them from source.
//!
//! Kubernetes and etcd are not among them: a node has them linked into one program
//! ([why](../../docs/decisions/0028-a-small-command.md)).

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};
use crate::node_image::Progress;
use crate::node_image::cache::Cache;
use crate::node_image::download::{Download, fetch, hash_in, require_hash, unreadable};
use crate::node_image::recipe::{CNI_PLUGINS, Module, Release, Versions};

/// Another server with the same paths, such as a mirror.
const SERVER_VARIABLE: &str = "CORACLE_GITHUB_URL";
const SERVER: &str = "https://github.com";
/// A file with hashes has a line per file.
const MAX_HASHES: u64 = 1024 * 1024;

/// The directories with what was published, as [`super::programs::Programs`] has them.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) containerd: PathBuf,
    pub(super) cni: PathBuf,
    pub(super) coredns: PathBuf,
    pub(super) crictl: PathBuf,
    pub(super) runc: PathBuf,
}

/// A file that a project publishes with a version, and the programs in it.
#[derive(Debug, Clone)]
struct Asset {
    /// What a step of the build is called.
    name: &'static str,
    /// `OWNER/REPOSITORY`.
    project: &'static str,
    /// With a `v`.
    version: String,
    file: String,
    /// Where the hash of the file may be; the first one that exists counts.
    hashes: Vec<String>,
    programs: Vec<Packed>,
}

/// A program in a file that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Packed {
    name: String,
    /// Its path in the archive; `None` if the file is the program.
    path: Option<String>,
}

impl Asset {
    fn new(name: &'static str, project: &'static str, module: &Module, file: String, programs: &[&str]) -> Self {
        let packed = |path: &&str| {
            let name = path.rsplit('/').next().unwrap_or(path).to_owned();
            Packed { name, path: Some((*path).to_owned()) }
        };
        let hashes = ["sha512", "sha256"].map(|kind| format!("{file}.{kind}")).to_vec();
        let programs = programs.iter().map(packed).collect();
        Self { name, project, version: module.version.clone(), file, hashes, programs }
    }

    fn url(&self, server: &str, file: &str) -> String {
        format!("{server}/{}/releases/download/{}/{file}", self.project, self.version)
    }
}

/// Fetches everything that is not in the cache yet, before anything is built: all of it, or an error.
pub(super) async fn take(
    cache: &Cache,
    versions: &Versions,
    release: &Release,
    progress: Progress<'_>,
) -> Result<Published> {
    let server = std::env::var(SERVER_VARIABLE).ok().filter(|url| !url.is_empty());
    let server = server.as_deref().unwrap_or(SERVER).trim_end_matches('/');
    take_from(server, cache, &assets(versions, release)?, progress).await
}

async fn take_from(server: &str, cache: &Cache, assets: &[Asset; 5], progress: Progress<'_>) -> Result<Published> {
    let [containerd, runc, cni, crictl, coredns] = assets;
    let one = async |asset: &Asset| {
        // A mirror's files are not taken for those of the projects.
        let inputs = [server, asset.project, &asset.version, &asset.file].map(str::as_bytes);
        let made = async |output: &Path| take_one(server, cache, asset, output, progress).await;
        cache.output(&format!("{}-published", asset.name), &inputs, made).await
    };
    // The smallest first, one after the other: where the server cannot be reached, that is known at once.
    Ok(Published {
        runc: one(runc).await?,
        crictl: one(crictl).await?,
        coredns: one(coredns).await?,
        containerd: one(containerd).await?,
        cni: one(cni).await?,
    })
}

/// The files that a node's programs are in: containerd, runc, CNI plugins, crictl, CoreDNS.
fn assets(versions: &Versions, release: &Release) -> Result<[Asset; 5]> {
    let module = |path| versions.module(path, None);
    let containerd = {
        let module = module("github.com/containerd/containerd/v2")?;
        let file = format!("containerd-static-{}-linux-amd64.tar.gz", bare(module));
        let programs = ["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"];
        let hashes = vec![format!("{file}.sha256sum")];
        Asset { hashes, ..Asset::new("containerd", "containerd/containerd", module, file, &programs) }
    };
    let runc = {
        let module = module("github.com/opencontainers/runc")?;
        let program = Packed { name: "runc".to_owned(), path: None };
        let asset = Asset::new("runc", "opencontainers/runc", module, "runc.amd64".to_owned(), &[]);
        Asset { hashes: vec!["runc.sha256sum".to_owned()], programs: vec![program], ..asset }
    };
    let cni = {
        let module = module("github.com/containernetworking/plugins")?;
        let file = format!("cni-plugins-linux-amd64-{}.tgz", module.version);
        let programs: Vec<_> = CNI_PLUGINS.iter().filter_map(|package| package.rsplit('/').next()).collect();
        Asset::new("cni-plugins", "containernetworking/plugins", module, file, &programs)
    };
    let crictl = {
        let module = module("sigs.k8s.io/cri-tools")?;
        let file = format!("crictl-{}-linux-amd64.tar.gz", module.version);
        Asset::new("crictl", "kubernetes-sigs/cri-tools", module, file, &["crictl"])
    };
    let coredns = {
        let module = versions.module("github.com/coredns/coredns", Some(&release.coredns))?;
        let file = format!("coredns_{}_linux_amd64.tgz", bare(module));
        Asset::new("coredns", "coredns/coredns", module, file, &["coredns"])
    };
    Ok([containerd, runc, cni, crictl, coredns])
}

/// The version without its `v`.
fn bare(module: &Module) -> &str {
    module.version.trim_start_matches('v')
}

/// Fetches one file, checks it, and writes its programs into `output`.
async fn take_one(server: &str, cache: &Cache, asset: &Asset, output: &Path, progress: Progress<'_>) -> Result<()> {
    let scratch = cache.scratch()?;
    let say = |text: &str| progress(asset.name, &format!("downloading {}{text}", asset.version));
    say("");
    let wanted = published_hash(server, asset, scratch.path()).await?;
    let url = asset.url(server, &asset.file);
    let path = scratch.path().join("file");
    let download = Download { url: &url, path: &path, limit: None, say: &say };
    if !fetch(&download).await? {
        return Err(Error::new(Code::BuildFailed, format!("there is no {url}")));
    }
    require_hash(&path, &wanted, &url)?;
    unpack(&path, &asset.programs, output, &url)
}

/// The hash of the asset's file, as the project publishes it.
async fn published_hash(server: &str, asset: &Asset, scratch: &Path) -> Result<String> {
    let path = scratch.join("hashes");
    for file in &asset.hashes {
        let url = asset.url(server, file);
        let download = Download { url: &url, path: &path, limit: Some(MAX_HASHES), say: &|_| {} };
        if !fetch(&download).await? {
            continue;
        }
        let text = std::fs::read(&path).map_err(|source| unreadable(&path, &source))?;
        return hash_in(&String::from_utf8_lossy(&text), &asset.file).ok_or_else(|| {
            Error::new(Code::BuildFailed, format!("{url} has no hash of {}", asset.file))
                .hint("a proxy or a login page may answer in the server's place: open the address in a browser")
        });
    }
    let first = asset.hashes.first().map(|file| asset.url(server, file)).unwrap_or_default();
    Err(Error::new(Code::BuildFailed, format!("there is no {first}")))
}

/// Writes the programs of a file that was fetched.
fn unpack(file: &Path, programs: &[Packed], output: &Path, url: &str) -> Result<()> {
    let opened = std::fs::File::open(file).map_err(|source| unreadable(file, &source))?;
    let mut missing: Vec<&Packed> = programs.iter().collect();
    if let [Packed { name, path: None }] = programs {
        return write(opened, &output.join(name));
    }
    let broken =
        |source: std::io::Error| Error::new(Code::BuildFailed, format!("cannot unpack {url}")).with_cause(&source);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(opened));
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.to_string_lossy().trim_start_matches("./").to_owned();
        let is_wanted = |packed: &&Packed| packed.path.as_deref() == Some(&path);
        if entry.header().entry_type().is_file()
            && let Some(index) = missing.iter().position(is_wanted)
        {
            write(entry, &output.join(&missing.swap_remove(index).name))?;
        }
    }
    match missing.first() {
        Some(packed) => Err(Error::new(Code::BuildFailed, format!("{url} has no `{}`", packed.name))),
        None => Ok(()),
    }
}

fn write(mut content: impl Read, path: &Path) -> Result<()> {
    let mut write = || {
        std::io::copy(&mut content, &mut std::fs::File::create(path)?)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
    };
    write().map_err(|source: std::io::Error| {
        Error::new(Code::FileFailed, format!("cannot write `{}`", path.display())).with_cause(&source)
    })
}

#[cfg(test)]
#[path = "published_tests.rs"]
mod tests;
