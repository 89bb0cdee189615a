//! How far images are on their way into nodes.

/// Called for a node with the bytes that it has got, and the bytes that it will get as far as that is known.
pub type Progress<'a> = &'a (dyn Fn(&str, u64, u64) + Send + Sync);
