//! What every scenario stands on: clusters under test, commands with an end, engines of a test's own, clean-up.

pub mod cleanup;
pub mod cluster;
pub mod engine;
pub mod guide;
pub mod run;
