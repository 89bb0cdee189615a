//! The containers besides the nodes: the load balancer, the local registry, the tunnel and forwarders of ports. Pure.

pub mod balancer;
pub mod port;
pub mod registry;
pub mod tunnel;
