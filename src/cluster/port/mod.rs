//! Ports of this host that lead into a running cluster: each has a forwarder, a container beside the nodes, so that no node is
//! made anew.

mod add;
mod list;
mod nodes;
mod remove;
mod resolve;

pub use add::{Opened, add};
pub use list::{Listed, Made, list};
pub use nodes::follow_nodes;
pub use remove::{PortRemoval, remove};
