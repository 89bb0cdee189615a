//! The tunnel by which a cluster's Services are reached where the host does not reach its nodes.

pub mod tunnel;
