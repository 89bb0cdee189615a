//! coracle gives a person a real Kubernetes cluster in containers of the local Docker engine.

pub mod error;
pub mod yaml;
