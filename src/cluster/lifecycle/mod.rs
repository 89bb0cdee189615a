//! What is done to a cluster as a whole, one file a command, and the steps that commands share.

pub mod create;
pub mod delete;
mod first_pods;
pub mod preflight;
pub mod provision;
