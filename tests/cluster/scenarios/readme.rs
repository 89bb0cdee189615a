//! What the README lets a newcomer paste, pasted.

use crate::Group;
use crate::harness::cluster::Cluster;
use crate::harness::guide::follow_page;
use crate::harness::run::free_port;

use super::failures::nothing_left;

/// The pages make their clusters, and delete them.
pub(super) const README: Group = Group {
    name: "readme",
    environment: &[],
    create: first_steps,
    together: &[],
    scenarios: &[("tutorial", tutorial)],
};

fn first_steps(cluster: &Cluster) -> Result<(), String> {
    // The port on the page may be taken on this host.
    let port = format!("hostPort: {}", free_port()?);
    follow_page(cluster, "README.md", &[("hostPort: 8080", &port)])?;
    nothing_left(cluster)
}

fn tutorial(cluster: &Cluster) -> Result<(), String> {
    let port = free_port()?;
    let words = [("hostPort: 8080", format!("hostPort: {port}")), ("localhost:8080", format!("localhost:{port}"))];
    let words = words.each_ref().map(|(word, own)| (*word, own.as_str()));
    follow_page(cluster, "samples/hello-world/README.md", &words)?;
    nothing_left(cluster)
}
