//! How a cluster is: waiting until it is usable, its status, and why a part of it does not come up.

pub mod diagnose;
mod pulls;
pub mod status;
pub mod wait;
