//! What the README lets a newcomer paste, pasted.

use crate::Group;
use crate::harness::cluster::Cluster;
use crate::harness::guide::follow_page;
use crate::harness::run::free_port;

use super::failures::nothing_left;

/// The page makes its clusters, and deletes them.
pub(super) const README: Group =
    Group { name: "readme", environment: &[], create: first_steps, together: &[], scenarios: &[] };

fn first_steps(cluster: &Cluster) -> Result<(), String> {
    // The port on the page may be taken on this host.
    let port = format!("hostPort: {}", free_port()?);
    follow_page(cluster, "README.md", &[("hostPort: 8080", &port)])?;
    nothing_left(cluster)
}
