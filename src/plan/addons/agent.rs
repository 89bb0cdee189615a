//! The CNI manifest: coracle's agent, or what another node image brings. Pure.

use serde_json::Value;

use crate::error::Result;
use crate::plan::layout::Layout;

/// The manifest's objects with the cluster's pod subnet filled in.
pub fn objects(layout: &Layout, manifest: &str) -> Result<Vec<Value>> {
    let subnet = layout.cluster.networking.pod_subnet.to_string();
    let text = manifest.replace("{{ .PodSubnet }}", &subnet).replace("{{.PodSubnet}}", &subnet);
    super::documents(&text, "the network manifest")
}
