//! The health of a cluster: waiting until it is usable, its status, and why a part of it does not come up.

mod api;
mod ask;
pub mod back;
pub mod causes;
pub mod diagnose;
pub mod dns;
mod explain;
mod facts;
mod lines;
mod over;
mod probe;
mod pulls;
pub mod status;
pub mod wait;
mod warnings;
pub mod watch;
