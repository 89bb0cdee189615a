//! The control plane's own settings, as `docs/guides/control-plane.md` tells them.

use crate::Group;
use crate::harness::cluster::Cluster;
use crate::harness::guide::follow;

/// One node; the page creates it.
pub(crate) const SETUP: Group = Group { name: "setup", environment: &[], create, together: &[], scenarios: &[] };

fn create(cluster: &Cluster) -> Result<(), String> {
    super::build("tools/build.sh")?;
    follow(cluster, "control-plane.md")
}
