//! The Kubernetes API of a cluster.

pub mod apply;
mod client;
pub mod drain;
pub mod manifest;
pub mod object;
pub mod ready;
mod resources;
mod retry;
pub mod schema;
pub mod workload;

pub use client::{Client, Failure};
