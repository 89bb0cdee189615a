//! The report of a load.

use serde::Serialize;

/// What was loaded, and what each node got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Where the layers were read from; `None` if none had to be sent.
    pub source: Option<SourceKind>,
    /// The images that were requested.
    pub images: Vec<LoadedImage>,
    pub nodes: Vec<NodeLoad>,
    /// Entries of the archive that are no images, and were left out: the name, and what they are.
    #[serde(rename = "passedOver")]
    pub passed_over: Vec<(String, String)>,
}

impl LoadReport {
    /// With what other nodes got of the same images.
    pub(super) fn with(mut self, mut others: Self) -> Self {
        self.nodes.append(&mut others.nodes);
        self
    }
}

/// Where layers are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// The engine's own store of layers.
    EngineStore,
    /// The engine's stream of images, as in `docker save`.
    EngineSave,
    Archive,
}

impl SourceKind {
    pub fn words(self) -> &'static str {
        match self {
            Self::EngineStore => "read from the engine's store",
            Self::EngineSave => "saved by the engine",
            Self::Archive => "read from the archive",
        }
    }
}

/// An image that the nodes have now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadedImage {
    /// Full names, as the kubelet knows them.
    pub names: Vec<String>,
    /// Image ID, as the kubelet knows it.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// Number of layers.
    pub layers: usize,
}

/// What one node got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NodeLoad {
    pub node: String,
    /// Images of which it lacked something.
    pub sent: Vec<String>,
    /// Images that it had under another name, and that got this one.
    pub named: Vec<String>,
    /// Images that it had.
    pub present: Vec<String>,
    /// Names that belonged to another image before.
    pub moved: Vec<String>,
    /// Number of layers sent.
    pub layers_sent: usize,
    /// Number of layers of the sent images that it had.
    pub layers_present: usize,
    /// Bytes sent.
    pub bytes: u64,
    /// The node whose files the layers are links to, if they were not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linked_from: Option<String>,
}
