//! Clusters: how they are made, found, used, watched and removed.

pub mod access;
pub mod addon;
mod astray;
pub mod contents;
pub mod copy;
pub mod doctor;
pub mod events;
pub mod found;
pub mod health;
pub mod inventory;
pub mod leads;
pub mod lifecycle;
pub mod logs;
mod ownership;
pub mod port;
pub mod registry;
pub mod rollout;
pub mod run;
pub mod service;
pub mod state;
pub mod target;
pub mod top;
pub mod tunnel;
mod upload;

pub use found::{Cluster, Node, get, list};
