//! What the files of an image archive mean: the layouts of Docker and OCI, brought to one form.
//!
//! Multi-platform images are reduced to the one manifest for the nodes' platform: an engine with containerd's store
//! saves the whole index although it has one platform's blobs, and an import that follows the index then fails.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::archive::{FileFacts, Packing, Scan, digest, invalid};
use super::reference::Reference;
use crate::error::{Code, Error, Result};

/// Indexes may contain indexes; nobody nests them deeper.
const MAX_DEPTH: u8 = 4;
/// The full name of an image, in an entry of an OCI index.
pub(super) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// A tag, or by custom a name, in an entry of an OCI index.
const REFERENCE_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// Marks an entry that says something about an image and is none.
const KIND_ANNOTATION: &str = "vnd.docker.reference.type";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// The platform that the nodes run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Platform {
    /// CPU architecture, as Go names it.
    #[serde(default)]
    pub architecture: String,
    /// Operating system.
    #[serde(default)]
    pub os: String,
    /// Variant of the architecture.
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of nodes on an engine whose kernel names its architecture so.
    pub(super) fn of_engine(machine: &str) -> Self {
        let (architecture, variant) = match machine {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "i386" | "i686" => ("386", None),
            "armv7l" => ("arm", Some("v7")),
            "armv6l" => ("arm", Some("v6")),
            other => (other, None),
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: variant.map(str::to_owned) }
    }

    /// How badly an image for `self` fits nodes of `node`; `None` when it does not run there.
    fn distance(&self, node: &Self) -> Option<u8> {
        let unknown = |text: &str| text.is_empty();
        if (!unknown(&self.os) && self.os != node.os)
            || (!unknown(&self.architecture) && self.architecture != node.architecture)
        {
            return None;
        }
        let baseline = match self.architecture.as_str() {
            "amd64" => "v1",
            "arm64" => "v8",
            "arm" => "v7",
            _ => "",
        };
        let wanted = node.variant.as_deref().unwrap_or(baseline);
        match self.variant.as_deref() {
            None | Some("") => Some(1),
            Some(variant) if variant == wanted => Some(0),
            // Older variants run on newer processors, newer ones perhaps.
            Some(variant) if variant < wanted => Some(2),
            Some(_) => Some(3),
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Points to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    /// Kind of the blob.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the blob.
    pub digest: String,
    /// Size of the blob, bytes.
    pub size: u64,
    #[serde(default, skip_serializing)]
    platform: Option<Platform>,
    /// Notes about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    #[serde(default)]
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct ImageConfig {
    #[serde(flatten)]
    platform: Platform,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// One image of an archive, ready for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArchiveImage {
    /// Full names.
    pub names: Vec<Reference>,
    /// Image ID: the digest of its configuration.
    pub id: String,
    /// Digest of what the archive's own list points to, perhaps an index.
    pub listed: Option<String>,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The manifest's media type.
    pub media_type: String,
    /// Paths of the configuration and the layers in the archive, lowest first.
    pub paths: Vec<String>,
    /// Size of configuration and layers, bytes.
    pub size: u64,
}

/// Finds the images of an archive. `Code::LoadFailed` when one is not for this platform.
pub(super) fn resolve(scan: &Scan, platform: &Platform) -> Result<Vec<ArchiveImage>> {
    let images = if scan.files.contains_key("oci-layout") {
        oci_images(scan, platform)?
    } else if scan.files.contains_key("manifest.json") {
        docker_images(scan, platform)?
    } else if scan.files.contains_key("repositories") {
        return Err(invalid("it has the layout of Docker 1.9 and older"));
    } else {
        return Err(invalid("it has neither `manifest.json` nor `oci-layout`")
            .hint("what `docker export` writes is a file system: make an image of it with `docker import`"));
    };
    if images.is_empty() {
        return Err(invalid("there is no image in it"));
    }
    Ok(images)
}

fn json<'a, T: Deserialize<'a>>(scan: &'a Scan, path: &str) -> Result<T> {
    let content = scan.kept.get(path).ok_or_else(|| missing_or_wrong(scan, path))?;
    serde_json::from_slice(content).map_err(|source| invalid(format!("`{path}` in it is damaged: {source}")))
}

fn missing_or_wrong(scan: &Scan, path: &str) -> Error {
    match scan.files.get(path) {
        Some(_) => invalid(format!("`{path}` in it is damaged")),
        None => invalid(format!("`{path}` is missing in it")),
    }
}

/// The digest of a file if it is known; of kept ones it always is.
fn digest_of(scan: &Scan, path: &str, facts: &FileFacts) -> Option<String> {
    facts.digest.clone().or_else(|| scan.kept.get(path).map(|content| digest(content)))
}

fn wrong_platform(what: &str, found: &Platform, node: &Platform) -> Error {
    Error::new(Code::LoadFailed, format!("image {what} is for {found}, and the nodes are {node}"))
        .hint(format!("build or pull it with `--platform {node}`"))
}

// ---- Docker's layout: manifest.json names a configuration and layers ----

fn docker_images(scan: &Scan, platform: &Platform) -> Result<Vec<ArchiveImage>> {
    let entries: Vec<DockerEntry> = json(scan, "manifest.json")?;
    entries.iter().map(|entry| docker_image(scan, entry, platform)).collect()
}

fn docker_image(scan: &Scan, entry: &DockerEntry, node: &Platform) -> Result<ArchiveImage> {
    let config: ImageConfig = json(scan, &entry.config)?;
    let content = scan.kept.get(&entry.config).ok_or_else(|| missing_or_wrong(scan, &entry.config))?;
    let id = digest(content);
    let stem = entry.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if stem.len() == 64 && id != format!("sha256:{stem}") {
        return Err(invalid(format!("`{}` in it is damaged: its digest is {id}", entry.config)));
    }
    if config.platform.distance(node).is_none() {
        let name = entry.repo_tags.iter().flatten().next().unwrap_or(&id);
        return Err(wrong_platform(&format!("`{name}`"), &config.platform, node));
    }
    if entry.layers.len() != config.rootfs.diff_ids.len() {
        return Err(invalid(format!("`manifest.json` and `{}` in it disagree about the layers", entry.config)));
    }
    let mut paths = vec![entry.config.clone()];
    let mut layers = Vec::new();
    for (path, diff_id) in entry.layers.iter().zip(&config.rootfs.diff_ids) {
        let (path, layer) = docker_layer(scan, path, diff_id)?;
        paths.push(path);
        layers.push(layer);
    }
    let config = descriptor(DOCKER_CONFIG, id.clone(), content.len() as u64);
    let size = config.size + layers.iter().map(|layer| layer.size).sum::<u64>();
    let manifest = Manifest { schema_version: 2, media_type: DOCKER_MANIFEST.to_owned(), config, layers };
    let manifest = serde_json::to_vec(&manifest).map_err(|source| invalid(source.to_string()))?;
    Ok(ArchiveImage {
        names: entry.repo_tags.iter().flatten().map(|name| parse_name(name)).collect::<Result<_>>()?,
        id,
        listed: None,
        manifest,
        media_type: DOCKER_MANIFEST.to_owned(),
        paths,
        size,
    })
}

fn docker_layer(scan: &Scan, path: &str, diff_id: &str) -> Result<(String, Descriptor)> {
    // Docker 20.10 writes a layer that two images share once, and links to it.
    let mut path = path;
    for _ in 0..8 {
        path = scan.links.get(path).map_or(path, String::as_str);
    }
    let facts = scan.files.get(path).ok_or_else(|| missing_or_wrong(scan, path))?;
    let digest = digest_of(scan, path, facts);
    let unpacked = if facts.packing == Packing::Plain { digest.as_ref() } else { facts.unpacked.as_ref() };
    if unpacked.is_some_and(|unpacked| unpacked != diff_id) {
        return Err(invalid(format!("layer `{path}` in it is damaged: its digest is not {diff_id}")));
    }
    // What is not compressed has its diff ID for a digest.
    let digest = match (digest, facts.packing) {
        (Some(digest), _) => digest,
        (None, Packing::Plain) => diff_id.to_owned(),
        (None, _) => return Err(missing_or_wrong(scan, path)),
    };
    let suffix = match facts.packing {
        Packing::Plain => "",
        Packing::Gzip => ".gzip",
        Packing::Zstd => ".zstd",
    };
    Ok((path.to_owned(), descriptor(&format!("{DOCKER_LAYER}{suffix}"), digest, facts.size)))
}

/// A bare descriptor.
pub(super) fn descriptor(media_type: &str, digest: String, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
}

fn parse_name(name: &str) -> Result<Reference> {
    name.parse().map_err(|_| invalid(format!("`{name}` in it is not an image name")))
}

// ---- OCI's layout: index.json leads to manifests, by digest ----

fn oci_images(scan: &Scan, platform: &Platform) -> Result<Vec<ArchiveImage>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let layout: Layout = json(scan, "oci-layout")?;
    if layout.image_layout_version != "1.0.0" {
        return Err(invalid(format!("its OCI layout version is `{}`; 1.0.0 is known", layout.image_layout_version)));
    }
    let index: Index = json(scan, "index.json")?;
    // Docker writes its own list beside OCI's; it has names where OCI's has none.
    let docker: Vec<DockerEntry> =
        if scan.files.contains_key("manifest.json") { json(scan, "manifest.json")? } else { Vec::new() };
    let mut images: Vec<ArchiveImage> = Vec::new();
    for entry in index.manifests.iter().filter(|entry| !is_attestation(entry)) {
        let mut names = names_of(entry)?;
        let shown = names.first().map_or_else(|| entry.digest.clone(), Reference::familiar);
        let (manifest, _) = choose(scan, entry, platform, &shown, 0)?;
        let mut image = oci_image(scan, &manifest, platform)?;
        image.listed = Some(entry.digest.clone());
        let listed = docker.iter().filter(|docker| Some(&docker.config) == image.paths.first());
        for name in listed.flat_map(|docker| docker.repo_tags.iter().flatten()) {
            names.push(parse_name(name)?);
        }
        match images.iter_mut().find(|other| other.manifest == image.manifest) {
            Some(other) => other.names.append(&mut names),
            None => images.push(ArchiveImage { names, ..image }),
        }
    }
    for image in &mut images {
        image.names.sort();
        image.names.dedup();
    }
    Ok(images)
}

fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key(KIND_ANNOTATION)
        || entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

fn names_of(entry: &Descriptor) -> Result<Vec<Reference>> {
    if let Some(name) = entry.annotations.get(NAME_ANNOTATION) {
        return Ok(vec![parse_name(name)?]);
    }
    match entry.annotations.get(REFERENCE_ANNOTATION) {
        // Podman writes the full name; the specification's own use is a tag without the name it belongs to.
        Some(name) if name.contains(['/', ':']) => Ok(vec![parse_name(name)?]),
        Some(tag) => Ok(vec![parse_name(&format!("{UNNAMED}:{tag}"))?]),
        None => Ok(Vec::new()),
    }
}

/// The repository of images that come without one.
pub(super) const UNNAMED: &str = "localhost/loaded";

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// Reads a JSON blob and compares its digest.
fn blob<'a, T: Deserialize<'a>>(scan: &'a Scan, descriptor: &Descriptor) -> Result<T> {
    let path = blob_path(&descriptor.digest);
    check_blob(scan, descriptor)?;
    json(scan, &path)
}

fn check_blob(scan: &Scan, descriptor: &Descriptor) -> Result<()> {
    let path = blob_path(&descriptor.digest);
    let facts = scan.files.get(&path).ok_or_else(|| missing_or_wrong(scan, &path))?;
    let other = digest_of(scan, &path, facts).is_some_and(|digest| digest != descriptor.digest);
    if other || facts.size != descriptor.size {
        return Err(invalid(format!("blob {} in it is damaged", descriptor.digest)));
    }
    Ok(())
}

/// Follows indexes to the manifest that fits the nodes best.
fn choose(scan: &Scan, entry: &Descriptor, node: &Platform, name: &str, depth: u8) -> Result<(Descriptor, u8)> {
    if depth > MAX_DEPTH {
        return Err(invalid("its indexes are nested too deep"));
    }
    let value: serde_json::Value = blob(scan, entry)?;
    if value.get("manifests").is_none() {
        let platform = platform_of(scan, entry)?;
        let distance = platform.distance(node).ok_or_else(|| wrong_platform(&format!("`{name}`"), &platform, node));
        return Ok((entry.clone(), distance?));
    }
    let index: Index = blob(scan, entry)?;
    let mut best: Option<(Descriptor, u8)> = None;
    let mut failure = None;
    for child in index.manifests.iter().filter(|child| !is_attestation(child)) {
        if child.platform.as_ref().is_some_and(|platform| platform.distance(node).is_none()) {
            let found = child.platform.as_ref().unwrap_or(node);
            failure = failure.or_else(|| Some(wrong_platform(&format!("`{name}`"), found, node)));
            continue;
        }
        match choose(scan, child, node, name, depth + 1).and_then(|found| complete(scan, found)) {
            Ok(found) if best.as_ref().is_none_or(|best| found.1 < best.1) => best = Some(found),
            Ok(_) => {}
            // That a fitting one is incomplete tells more than that others do not fit.
            Err(error) => failure = Some(error),
        }
    }
    best.ok_or_else(|| failure.unwrap_or_else(|| invalid(format!("there is no image for {node} in it"))))
}

fn complete(scan: &Scan, found: (Descriptor, u8)) -> Result<(Descriptor, u8)> {
    let manifest: Manifest = blob(scan, &found.0)?;
    manifest.layers.iter().try_for_each(|layer| check_blob(scan, layer))?;
    Ok(found)
}

fn platform_of(scan: &Scan, entry: &Descriptor) -> Result<Platform> {
    let manifest: Manifest = blob(scan, entry)?;
    let config: ImageConfig = blob(scan, &manifest.config)?;
    Ok(config.platform)
}

fn oci_image(scan: &Scan, entry: &Descriptor, node: &Platform) -> Result<ArchiveImage> {
    let path = blob_path(&entry.digest);
    let content = scan.kept.get(&path).ok_or_else(|| missing_or_wrong(scan, &path))?;
    let manifest: Manifest = blob(scan, entry)?;
    let config: ImageConfig = blob(scan, &manifest.config)?;
    if config.platform.distance(node).is_none() {
        return Err(wrong_platform(&entry.digest, &config.platform, node));
    }
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(invalid(format!(
            "manifest {} in it and its configuration disagree about the layers",
            entry.digest
        )));
    }
    let mut paths = vec![blob_path(&manifest.config.digest)];
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        check_blob(scan, layer)?;
        let path = blob_path(&layer.digest);
        let unpacked = scan.files.get(&path).and_then(|facts| facts.unpacked.as_ref());
        if unpacked.is_some_and(|unpacked| unpacked != diff_id) {
            return Err(invalid(format!("layer {} in it does not unpack to {diff_id}", layer.digest)));
        }
        paths.push(path);
    }
    let size = manifest.config.size + manifest.layers.iter().map(|layer| layer.size).sum::<u64>();
    let media_type = [&manifest.media_type, &entry.media_type].into_iter().find(|text| !text.is_empty());
    Ok(ArchiveImage {
        names: Vec::new(),
        id: manifest.config.digest,
        listed: None,
        manifest: content.clone(),
        media_type: media_type.map_or_else(|| OCI_MANIFEST.to_owned(), Clone::clone),
        paths,
        size,
    })
}
