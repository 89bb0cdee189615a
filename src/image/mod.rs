//! Images: their names, archives of them, their way into the nodes, and what the nodes have.

mod archive;
mod build;
mod load;
mod nodes;
mod platform;
mod progress;
mod reference;
mod similar;

pub use archive::verified::ArchiveInput;
pub use build::{Build, build};
pub use load::{
    LoadReport, LoadedImage, NodeLoad, RECEIVER, SourceKind, check_docker_images, check_source, load_archive,
    load_docker_images,
};
pub use nodes::inventory::{
    Listed, NodeContainer, Store, StoredImage, familiar, inventory, list, node_containers, short,
};
pub use nodes::manage::{ImageRemoval, RemovedImage, prune, remove, tag};
pub use nodes::pull::pull;
pub use nodes::select::select_nodes;
pub use platform::mismatch;
pub use progress::Progress;
pub use reference::{Reference, is_id};
