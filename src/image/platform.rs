//! The platforms of nodes and images.

use std::fmt;

use serde::Deserialize;

use crate::engine::spec::Image;

/// An operating system on a kind of CPU.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    /// CPU architecture, by its name in Go.
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub variant: Option<String>,
}

/// The platforms of an image and of the nodes of an engine with this architecture, if nodes cannot run the image.
pub fn mismatch(image: &Image, architecture: &str) -> Option<(String, String)> {
    let (found, node) = (Platform::of_image(image), Platform::of_engine(architecture));
    found.distance(&node).is_none().then(|| (found.to_string(), node.to_string()))
}

impl Platform {
    /// The platform of nodes on an engine whose kernel gives its architecture this name.
    pub(crate) fn of_engine(machine: &str) -> Self {
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

    /// The platform of an image of the engine.
    pub(crate) fn of_image(image: &Image) -> Self {
        let (os, architecture, variant) = image.platform.clone();
        Self { architecture, os, variant: Some(variant).filter(|variant| !variant.is_empty()) }
    }

    /// How badly an image for `self` fits nodes of `node`; `None` if it does not run there.
    pub(crate) fn distance(&self, node: &Self) -> Option<u8> {
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
            // Older variants run on newer processors; newer ones may run on older processors.
            Some(variant) if variant < wanted => Some(2),
            Some(_) => Some(3),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}
