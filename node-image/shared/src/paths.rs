//! Paths that the command and the agent both know.

/// The agent in a node; the command puts it there where the node image does not have it.
pub const AGENT: &str = "/usr/local/bin/coracle-agent";
/// Where containerd looks for CNI configurations.
pub const CNI_DIRECTORY: &str = "/etc/cni/net.d";
/// What the agent and the CNI plugins share while the node runs; also the credentials for the node's kubelet.
pub const RUN_DIRECTORY: &str = "/run/coracle";
/// The key of a cluster's heartbeats. The agent's pod mounts its directory, with nothing else in it than what the agent reads.
pub const HEARTBEAT_KEY: &str = "/etc/coracle/agent/heartbeat.key";
/// The labels and the pod subnets of the node that the agent runs on, as JSON.
pub const NODE_REGISTRATION: &str = "/etc/coracle/agent/registration.json";
/// Where a reader finds `image/overlay2` of the engine's data root.
pub const READER_IMAGES: &str = "/engine/images";
/// Where a reader finds `overlay2` of the engine's data root.
pub const READER_LAYERS: &str = "/engine/layers";
/// Where a reader finds the content store of the engine's containerd.
pub const READER_CONTENT: &str = "/engine/content";
/// Where a node unpacks layers. It is on the file system of containerd's snapshots, so that a layer is moved there and not copied.
pub const STAGING: &str = "/var/lib/containerd/dev.coracle.staging";
/// Where a helper container has the engine's volumes, when it links layers of one node into others.
pub const LINKER_VOLUMES: &str = "/engine/volumes";
