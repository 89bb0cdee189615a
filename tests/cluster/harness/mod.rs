//! What every scenario stands on: clusters under test, commands with an end, engines of a test's own, clean-up.

pub mod chance;
pub mod cleanup;
pub mod cluster;
pub mod engine;
pub mod guide;
pub mod previous;
pub mod run;
pub mod unreliable;

/// How the error of a `create` begins that says why its group cannot be tested here.
pub const SKIPPED: &str = "skipped: ";
