//! Logs and descriptions of a cluster's containers: gathered in a directory, or one of them as it is written.

mod directory;
mod export;
mod line;
mod objects;
mod read;
mod source;

pub use directory::LogExport;
pub use export::export_logs;
pub use read::{Options, Show, names, read};
