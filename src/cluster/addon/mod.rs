//! Add-ons of a running cluster. Only the cluster knows which are enabled: it has a ConfigMap for each, and a label on every
//! object.

mod build;
mod disable;
mod enable;
mod list;
mod objects;
mod state;
mod target;

pub(crate) use build::build_image;
pub use build::{build, prepare};
pub use disable::{Disabled, disable};
pub use enable::enable;
pub(crate) use enable::{apply, wait};
pub use list::{Listed, health, list};
pub use target::Target;
