//! The containers besides the nodes: the load balancer, the local registry and the tunnel. Pure.

pub mod balancer;
pub mod registry;
pub mod tunnel;
