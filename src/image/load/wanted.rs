//! The images that nodes should have, whichever source has them.

use coracle_shared::wire::ImageRequest;

use crate::image::reference::Reference;

/// An image that nodes should have.
#[derive(Debug, Clone)]
pub(crate) struct WantedImage {
    /// What the engine is asked for.
    pub key: String,
    /// Image ID, as the engine or the archive has it.
    pub id: String,
    /// Names under which the nodes should know it.
    pub names: Vec<Reference>,
    /// Digests of its unpacked layers, lowest first.
    pub diff_ids: Vec<String>,
    /// Size, bytes.
    pub size: u64,
}

impl WantedImage {
    /// What a node is asked.
    pub(crate) fn request(&self) -> ImageRequest {
        ImageRequest {
            id: self.id.clone(),
            names: self.names.iter().map(Reference::to_string).collect(),
            diff_ids: self.diff_ids.clone(),
        }
    }

    /// Its names, or its ID if it has none.
    pub(crate) fn titles(&self) -> Vec<String> {
        if self.names.is_empty() {
            vec![self.id.clone()]
        } else {
            self.names.iter().map(Reference::to_string).collect()
        }
    }
}
