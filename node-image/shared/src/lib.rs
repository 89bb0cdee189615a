//! What both programs know, the command and the agent in the nodes: the messages between them, the CNI configuration,
//! the labels and paths by which each finds what the other made, and how to talk to the Kubernetes API.

pub mod api;
pub mod cni;
pub mod content;
pub mod forward;
pub mod labels;
pub mod paths;
pub mod wire;
