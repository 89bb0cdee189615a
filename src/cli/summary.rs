//! What `create --dry-run` prints for people.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::cli::output::{Table, joined};
use crate::config::{ClusterConfig, LocalRegistry};
use crate::error::counted;
use crate::plan::{Plan, labels};

/// The plan in a screen: what there will be, and nothing that differs from run to run.
pub(super) fn of(plan: &Plan) -> String {
    let (layout, cluster) = (&plan.layout, &plan.layout.cluster);
    let mut text = String::new();
    // Writing to a string cannot fail; so everywhere below.
    let mut line = |title: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{:<13} {value}", format!("{title}:"));
        }
    };
    line("Cluster", cluster.name.as_str());
    line("Kubernetes", &layout.version);
    line("Context", &cluster.context());
    let address = cluster.networking.api_server_address;
    let port = match cluster.networking.api_server_port {
        0 => "a free port".to_owned(),
        port => format!("port {port}"),
    };
    line("API server", &format!("{address}, {port}"));
    line("Network", &format!("{}, {}", plan.network.name, joined(&plan.network.subnets())));
    line("Pods", &joined(&cluster.networking.pod_subnet.iter().collect::<Vec<_>>()));
    line("Services", &joined(&cluster.networking.service_subnet.iter().collect::<Vec<_>>()));
    line("Volumes", cluster.persist.as_deref().unwrap_or_default());
    line("Registry", &registry(cluster));
    line("Registries", &joined(&cluster.registries.iter().map(|registry| registry.host.as_str()).collect::<Vec<_>>()));
    line("Images", &cluster.images.join(", "));
    line("Add-ons", &cluster.addons.join(", "));
    line("Manifests", &cluster.manifests.join(", "));
    let files: usize = plan.nodes.iter().map(|node| node.files.iter().count()).sum();
    line("Containers", &format!("{}, with {}", counted(plan.nodes.len(), "container"), counted(files, "file")));
    let _ = write!(text, "\n{}", nodes(plan));
    text
}

fn registry(cluster: &ClusterConfig) -> String {
    match &cluster.registry {
        Some(LocalRegistry::Named(name)) => name.clone(),
        Some(LocalRegistry::None) => "none".to_owned(),
        None => String::new(),
    }
}

fn nodes(plan: &Plan) -> Table {
    let mut table = Table::new(&["CONTAINER", "ROLE", "ADDRESS", "IMAGE", "PORTS", "MOUNTS"]);
    let image = |name: &str| {
        let container = plan.nodes.iter().find(|node| node.spec.name == name);
        container.and_then(|node| node.spec.labels.get(labels::IMAGE)).cloned().unwrap_or_default()
    };
    for node in &plan.layout.nodes {
        let ports = node.config.extra_port_mappings.iter().map(|mapping| match mapping.host_port {
            0 => format!("a free port:{}", mapping.container_port),
            port => format!("{port}:{}", mapping.container_port),
        });
        let mounts =
            node.config.extra_mounts.iter().map(|mount| format!("{}:{}", mount.host_path, mount.container_path));
        table.row(vec![
            node.name.clone(),
            node.config.role.as_str().to_owned(),
            joined(&node.addresses),
            image(&node.name),
            or_dash(ports.collect()),
            or_dash(mounts.collect()),
        ]);
    }
    if let Some(balancer) = &plan.layout.balancer {
        let (addresses, image) = (joined(&balancer.addresses), image(&balancer.name));
        let row = [balancer.name.as_str(), "load-balancer", &addresses, &image, "-", "-"];
        table.row(row.map(str::to_owned).into());
    }
    table
}

fn or_dash(values: BTreeSet<String>) -> String {
    if values.is_empty() { "-".to_owned() } else { joined(&values.into_iter().collect::<Vec<_>>()) }
}
