//! What every scenario stands on: clusters under test, commands with an end, engines of a test's own, clean-up.

use std::sync::OnceLock;

pub mod chance;
pub mod cleanup;
pub mod clients;
pub mod cluster;
pub mod engine;
pub mod guide;
pub mod previous;
pub mod run;
pub mod unreliable;

/// How the error of a `create` begins that says why its group cannot be tested here.
pub const SKIPPED: &str = "skipped: ";

/// The command under test: the file that `CORACLE_TEST_COMMAND` names, or else what was built with these tests. The suite names
/// the one that is optimized, as users have it, so that only the tests themselves are compiled in a hurry.
pub fn coracle() -> &'static str {
    static COMMAND: OnceLock<String> = OnceLock::new();
    let built = || env!("CARGO_BIN_EXE_coracle").to_owned();
    COMMAND.get_or_init(|| std::env::var("CORACLE_TEST_COMMAND").unwrap_or_else(|_| built()))
}
