//! The health of a cluster: waiting until it is usable, its status, and why a part of it does not come up.

mod api;
mod ask;
pub mod back;
pub mod diagnose;
mod explain;
mod lines;
mod over;
mod probe;
mod pulls;
pub mod status;
pub mod wait;
pub mod watch;
