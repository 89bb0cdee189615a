//! coracle gives a person a real Kubernetes cluster in containers of the local Docker engine.

pub mod agent;
pub mod catalog;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod engine;
pub mod error;
pub mod host;
pub mod image;
pub mod kubeconfig;
pub mod kubernetes;
pub mod node_image;
pub mod plan;
pub mod ui;
pub mod yaml;
