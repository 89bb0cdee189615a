//! This machine: the Docker client's configuration, the environment, and the limits of the host.

pub mod advice;
pub mod check;
pub mod checks;
pub mod credentials;
pub mod docker_config;
mod firewall;
pub mod grants;
pub mod kubectl;
pub mod limits;
pub mod mounts;
pub mod ports;
pub mod proxy;
pub mod routes;
