//! OCI's layout, as engines, Podman, Buildx and Skopeo write it.

use coracle_shared::content;
use serde::Deserialize;

use crate::error::Result;
use crate::image::archive::docker::DockerEntry;
use crate::image::archive::invalid::invalid;
use crate::image::archive::layout::{
    ArchiveImage, ArchiveLayer, Contents, Descriptor, ImageConfig, Manifest, digest_of, json, missing_or_wrong,
    parse_name, text, wrong_platform,
};
use crate::image::archive::scan::Scan;
use crate::image::platform::Platform;
use crate::image::reference::Reference;

/// Indexes may contain indexes; none in practice is nested deeper.
const MAX_DEPTH: u8 = 4;
/// The full name of an image, in an entry of an OCI index.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The repository of images that have none.
const UNNAMED: &str = "localhost/loaded";
/// A tag, or by convention a name, in an entry of an OCI index.
const REFERENCE_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// Marks an entry that describes another image and is none itself.
const KIND_ANNOTATION: &str = "vnd.docker.reference.type";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// Media types of images and of lists of images; entries of other types are no images, and need not be JSON.
const IMAGE_TYPES: [&str; 4] = [
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
];

/// Finds the images of a layout: `index.json` leads to manifests, by digest. What is no image is passed over.
pub(crate) fn images(scan: &Scan, platform: &Platform) -> Result<Contents> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let layout: Layout = json(scan, "oci-layout")?;
    if layout.image_layout_version != "1.0.0" {
        return Err(invalid(format!(
            "the version of its OCI layout is `{}`; only 1.0.0 is supported",
            layout.image_layout_version
        )));
    }
    let index: Index = json(scan, "index.json")?;
    // Docker writes its own list beside OCI's, and it has names where OCI's has none.
    let docker: Vec<DockerEntry> =
        if scan.files.contains_key("manifest.json") { json(scan, "manifest.json")? } else { Vec::new() };
    let Contents { mut images, mut others } = Contents::default();
    for entry in index.manifests.iter().filter(|entry| !is_attestation(entry)) {
        if let Some(kind) = other_kind(scan, entry)? {
            // Its name need not be an image's.
            let name = entry.annotations.get(NAME_ANNOTATION).or(entry.annotations.get(REFERENCE_ANNOTATION));
            others.push((name.unwrap_or(&entry.digest).clone(), kind));
            continue;
        }
        let mut names = names_of(entry)?;
        let shown = names.first().map_or_else(|| entry.digest.clone(), Reference::familiar);
        let (manifest, _) = choose(scan, entry, platform, &shown, 0)?;
        let mut image = oci_image(scan, &manifest, platform)?;
        image.listed = Some(entry.digest.clone());
        let config = blob_path(&image.id);
        let listed = docker.iter().filter(|docker| docker.config == config);
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
    Ok(Contents { images, others })
}

/// What an entry is if it is neither an image nor an index that has one.
fn other_kind(scan: &Scan, entry: &Descriptor) -> Result<Option<String>> {
    let Ok(value) = blob::<serde_json::Value>(scan, entry) else {
        // What is missing or damaged of an image is reported where it is needed; anything else need not be JSON, or here.
        let is_other = !entry.media_type.is_empty() && !IMAGE_TYPES.contains(&entry.media_type.as_str());
        return Ok(is_other.then(|| entry.media_type.clone()));
    };
    if value.get("manifests").is_none() {
        if value.get("config").is_none() {
            // The first artifacts of ORAS have their content in a list of their own.
            let kind = ["artifactType", "mediaType"].into_iter().find_map(|key| value[key].as_str());
            return Ok(Some(kind.unwrap_or("an artifact").to_owned()));
        }
        let manifest: Manifest = blob(scan, entry)?;
        return Ok(manifest.other_kind());
    }
    let index: Index = blob(scan, entry)?;
    let kinds = index.manifests.iter().map(|child| match blob::<Manifest>(scan, child) {
        Ok(manifest) => manifest.other_kind(),
        Err(_) => None,
    });
    let kinds: Option<Vec<String>> = kinds.collect();
    Ok(kinds.and_then(|kinds| kinds.into_iter().next()))
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
        // Podman writes the full name; by the specification it is a tag without a name.
        Some(name) if name.contains(['/', ':']) => Ok(vec![parse_name(name)?]),
        Some(tag) => Ok(vec![parse_name(&format!("{UNNAMED}:{tag}"))?]),
        None => Ok(Vec::new()),
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// Reads a JSON blob and checks its digest.
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
        return Err(invalid(format!("its blob {} is damaged", descriptor.digest)));
    }
    Ok(())
}

/// Follows indexes to the manifest that fits the nodes best.
fn choose(scan: &Scan, entry: &Descriptor, node: &Platform, name: &str, depth: u8) -> Result<(Descriptor, u8)> {
    if depth > MAX_DEPTH {
        return Err(invalid("its indexes are nested too deeply"));
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
        if matches!(other_kind(scan, child), Ok(Some(_))) {
            continue;
        }
        if child.platform.as_ref().is_some_and(|platform| platform.distance(node).is_none()) {
            let found = child.platform.as_ref().unwrap_or(node);
            failure = failure.or_else(|| Some(wrong_platform(&format!("`{name}`"), found, node)));
            continue;
        }
        match choose(scan, child, node, name, depth + 1).and_then(|found| complete(scan, found)) {
            Ok(found) if best.as_ref().is_none_or(|best| found.1 < best.1) => best = Some(found),
            Ok(_) => {}
            // A fitting image that is incomplete explains more than others that do not fit.
            Err(error) => failure = Some(error),
        }
    }
    best.ok_or_else(|| failure.unwrap_or_else(|| invalid(format!("it contains no image for {node}"))))
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
        return Err(invalid(format!("its manifest {} and the configuration disagree about the layers", entry.digest)));
    }
    let mut layers = Vec::new();
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        check_blob(scan, layer)?;
        let path = blob_path(&layer.digest);
        let unpacked = scan.files.get(&path).and_then(|facts| facts.unpacked.as_ref());
        if unpacked.is_some_and(|unpacked| unpacked != diff_id) {
            return Err(invalid(format!("its layer {} does not unpack to {diff_id}", layer.digest)));
        }
        layers.push(ArchiveLayer { path, diff_id: diff_id.clone() });
    }
    let size = manifest.config.size + manifest.layers.iter().map(|layer| layer.size).sum::<u64>();
    let media_type = [&manifest.media_type, &entry.media_type].into_iter().find(|text| !text.is_empty());
    let media_type = media_type.map_or_else(|| OCI_MANIFEST.to_owned(), Clone::clone);
    let config_path = blob_path(&manifest.config.digest);
    let config = scan.kept.get(&config_path).ok_or_else(|| missing_or_wrong(scan, &config_path))?;
    Ok(ArchiveImage {
        names: Vec::new(),
        asked: manifest.config.digest.clone(),
        id: manifest.config.digest,
        listed: None,
        config: text(config, &config_path)?,
        manifest: Some(content::Manifest { media_type, content: text(content, &path)? }),
        layers,
        size,
    })
}
