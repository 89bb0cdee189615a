//! Tests of the crate as a whole: what it prints, what it plans, how its sources are layered, how it is installed, and that
//! the documentation says what is so. None of them needs an engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod causes;
mod command_line;
mod config_command;
mod configs;
mod convert;
mod doctor;
mod documents;
mod errors;
mod help;
mod install;
mod layers;
mod markdown;
mod plans;
mod schema;
mod sentences;
mod settings;
mod sources;
mod validator;
