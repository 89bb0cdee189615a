//! Images: their names, archives of them, and the way into the nodes.

mod archive;
mod find;
#[allow(dead_code, reason = "the sources that use it come next")]
mod hub;
mod layout;
mod load;
#[cfg(test)]
mod load_tests;
mod node;
mod oci;
mod platform;
mod reference;
mod source;
#[allow(dead_code, reason = "what loads comes next")]
mod store;
#[cfg(test)]
mod store_tests;
mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transfer;
#[path = "../../node-image/agent/src/images/wire.rs"]
#[allow(dead_code, reason = "what only the agent uses")]
mod wire;

pub use find::check_docker_images;
pub use load::{LoadReport, LoadedImage, NodeLoad, Progress, Source, load_archive, load_docker_images, select_nodes};
pub use reference::{Reference, is_id};
pub use store::settle;
