//! Logs and descriptions of a cluster's containers, gathered in a directory.

mod directory;
mod export;
mod objects;

pub use directory::LogExport;
pub use export::export_logs;
