//! Images: their names, archives of them, and the way into the nodes.

mod archive;
mod build;
mod find;
mod load;
mod nodes;
mod platform;
mod reference;

pub use build::{Build, build};
pub use find::check_docker_images;
pub use load::report::{LoadReport, LoadedImage, NodeLoad, SourceKind};
pub use load::session::RECEIVER;
pub use load::store::settle;
pub use load::{Progress, Source, load_archive, load_docker_images, select_nodes};
pub use nodes::inventory::{Listed, NodeContainer, Store, familiar, inventory, list, node_containers, short};
pub use nodes::manage::{Removed, RemovedImage, prune, remove, tag};
pub use nodes::pull::pull;
pub use reference::{Reference, is_id};
