//! Images: their names, archives of them, and the way into the nodes.

mod archive;
mod build;
#[cfg(test)]
mod fallback_tests;
mod find;
mod folder;
mod hub;
mod install;
mod inventory;
mod layout;
mod load;
#[cfg(test)]
mod load_tests;
mod manage;
#[cfg(test)]
mod manage_tests;
mod oci;
mod platform;
mod pull;
mod reference;
mod report;
mod save;
mod session;
mod source;
mod store;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tools;
mod transfer;
#[path = "../../node-image/agent/src/images/wire.rs"]
#[allow(dead_code, reason = "what only the agent uses")]
mod wire;

pub use build::{Build, build};
pub use find::check_docker_images;
pub use inventory::{Listed, NodeContainer, Store, familiar, inventory, list, node_containers, short};
pub use load::{Progress, Source, load_archive, load_docker_images, select_nodes};
pub use manage::{Removed, RemovedImage, prune, remove, tag};
pub use pull::pull;
pub use reference::{Reference, is_id};
pub use report::{LoadReport, LoadedImage, NodeLoad, SourceKind};
pub use session::RECEIVER;
pub use store::settle;
