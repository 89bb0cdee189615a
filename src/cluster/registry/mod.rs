//! The local registry: one container of the engine that all clusters share, known by its labels only.

mod attach;
pub(crate) mod authorities;
mod delete;
mod ensure;
mod known;
mod login;
mod nodes;
mod prune;
mod ready;

pub use attach::{attach, attach_all, report, users};
pub use delete::{RegistryRemoval, delete, is_absent};
pub use ensure::{abandon, check, ensure};
pub(crate) use known::of_cluster;
pub use known::{Found, find, list};
pub use login::{configured, known_hosts, log_in, push_credentials};
pub use prune::{Pruned, prune};
pub use ready::wait;
