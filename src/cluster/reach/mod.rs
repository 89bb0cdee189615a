//! How a cluster's Services are reached from the host.

pub mod tunnel;
pub mod urls;
