//! The way of images into nodes: from the engine's store, from what the engine saves, or from an archive.

mod archive;
mod asked;
#[cfg(test)]
mod fallback_tests;
mod fan_out;
mod install;
mod linker;
mod lookup;
mod program;
mod report;
mod run;
mod save;
mod session;
mod share;
#[cfg(test)]
mod share_tests;
mod store;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tests;
mod transfer;
mod wanted;

pub use install::RECEIVER;
pub use lookup::check_docker_images;
pub use report::{LoadReport, LoadedImage, NodeLoad, SourceKind};
pub use run::{load_archive, load_docker_images};
pub use store::check_source;
