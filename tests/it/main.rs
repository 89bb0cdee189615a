//! Tests of the crate as a whole: what it prints, what it plans, how its sources are layered, and that the
//! documentation says what is so. None of them needs an engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command_line;
mod documents;
mod errors;
mod help;
mod layers;
mod markdown;
mod plans;
mod sentences;
mod sources;
