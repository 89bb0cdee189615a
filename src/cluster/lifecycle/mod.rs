//! What is done to a cluster as a whole, one file a command, and the steps that commands share.

pub mod bindings;
mod bootstrap;
pub mod checks;
pub mod create;
pub mod delete;
mod facts;
mod finished;
mod first_pods;
pub mod garbage;
mod ignored;
mod kept_logs;
mod kind_network;
pub mod lifetime;
pub mod moving;
pub mod node;
mod options;
pub mod parts;
pub mod patches;
pub mod pause;
pub mod preflight;
pub mod provision;
pub mod start;
pub mod stop;
pub mod together;
pub mod upstream;
