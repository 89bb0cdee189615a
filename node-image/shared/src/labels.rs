//! Labels on the images of a node, and an annotation of nodes, that the command and the agent both know.

/// Key and value by which the kubelet never removes an image: there may be no registry that has it.
pub const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");
/// Marks names that were loaded or given by a user: unlike those that came with the node image, they may be removed.
pub const LOADED: &str = "dev.coracle.loaded";
/// An annotation of Node objects that have all labels of their node's configuration. One that the kubelet has created again
/// does not have it: the agent then adds those that the kubelet may not set.
pub const LABELLED: &str = "dev.coracle.labelled";
