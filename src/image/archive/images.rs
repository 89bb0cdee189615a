//! The images of an archive: the layouts of Docker and OCI, brought to one form.
//!
//! Multi-platform images are reduced to the one manifest for the nodes' platform: an engine with containerd's store
//! saves the whole index although it has only one platform's blobs, and an import that follows the index then fails.

use crate::error::Result;
use crate::image::archive::invalid::invalid;
use crate::image::archive::layout::{ArchiveImage, Contents};
use crate::image::archive::scan::Scan;
use crate::image::archive::{docker, oci};
use crate::image::platform::Platform;

/// Finds the images of an archive. `Code::LoadFailed` if one is not for this platform.
pub(crate) fn resolve(scan: &Scan, platform: &Platform) -> Result<Contents> {
    let mut contents = if scan.files.contains_key("oci-layout") {
        oci::images(scan, platform)?
    } else if scan.files.contains_key("manifest.json") {
        Contents { images: docker::images(scan, platform)?, ..Contents::default() }
    } else if scan.files.contains_key("repositories") {
        return Err(invalid("it has the layout of Docker 1.9 and older"));
    } else {
        return Err(invalid("it has neither `manifest.json` nor `oci-layout`")
            .hint("`docker export` writes a file system, not an image: turn it into one with `docker import`"));
    };
    if contents.images.is_empty() {
        return Err(invalid(match contents.others.first() {
            Some((name, kind)) => format!("it contains no image; `{name}` is {kind}"),
            None => "it contains no image".to_owned(),
        }));
    }
    contents.images = merged(contents.images);
    Ok(contents)
}

/// One image for each ID, with all of its names: an archive may list an image once for each name.
fn merged(images: Vec<ArchiveImage>) -> Vec<ArchiveImage> {
    let mut merged: Vec<ArchiveImage> = Vec::new();
    for image in images {
        match merged.iter_mut().find(|other| other.id == image.id) {
            Some(other) => {
                let new: Vec<_> = image.names.into_iter().filter(|name| !other.names.contains(name)).collect();
                other.names.extend(new);
            }
            None => merged.push(image),
        }
    }
    merged
}
