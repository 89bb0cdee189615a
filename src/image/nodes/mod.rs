//! What nodes have: listing, pulling, naming and removing images.

pub(crate) mod inventory;
pub(crate) mod manage;
#[cfg(test)]
mod manage_tests;
pub(crate) mod pull;
pub(crate) mod select;
pub(crate) mod tools;
