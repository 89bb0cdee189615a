//! What a load did.

use serde::Serialize;

/// What a load did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Where what was sent was read from; nothing when nothing was.
    pub source: Option<SourceKind>,
    /// The images that were asked for.
    pub images: Vec<LoadedImage>,
    /// What each node got.
    pub nodes: Vec<NodeLoad>,
}

/// Where layers are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// The engine's own store of layers.
    EngineStore,
    /// The engine's stream of images, which `docker save` gives too.
    EngineSave,
    /// An archive.
    Archive,
}

impl SourceKind {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::EngineStore => "read from the engine's store",
            Self::EngineSave => "saved by the engine",
            Self::Archive => "read from the archive",
        }
    }
}

/// An image that is in the nodes now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadedImage {
    /// Names as the kubelet knows them.
    pub names: Vec<String>,
    /// Image ID, as the kubelet knows it.
    pub id: String,
    /// Size, bytes.
    pub size: u64,
    /// How many layers it has.
    pub layers: usize,
}

/// What one node got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NodeLoad {
    /// Name of the node.
    pub node: String,
    /// Images that it lacked something of.
    pub sent: Vec<String>,
    /// Images that were there and only got a name.
    pub named: Vec<String>,
    /// Images that were there.
    pub present: Vec<String>,
    /// Names that meant another image before.
    pub moved: Vec<String>,
    /// Layers that were sent.
    pub layers_sent: usize,
    /// Layers of what was sent that were there.
    pub layers_present: usize,
    /// Bytes sent.
    pub bytes: u64,
}
