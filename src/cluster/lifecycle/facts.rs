//! What must be known before a cluster is planned: checks, node images, subnets and ports.

use std::path::Path;

use crate::cluster::lifecycle::options::Options;
use crate::cluster::lifecycle::preflight;
use crate::cluster::registry::{self, authorities};
use crate::cluster::run::Run;
use crate::config::{ClusterConfig, Networking};
use crate::engine::Engine;
use crate::engine::spec::EngineInfo;
use crate::error::Result;
use crate::host::{check, limits};
use crate::kubeconfig;
use crate::node_image::choose;
use crate::plan::subnet::NodeSubnets;
use crate::plan::{self, Facts, NodeImage, labels};
use crate::ui::Step;

/// How many subnets are tried: others may have one of them without that being visible here.
const MAX_SUBNETS: usize = 16;

/// Checks everything that can be known before something is made, and finds the node images.
pub(super) async fn prepare(run: &Run, cluster: &ClusterConfig, options: &Options, step: &Step) -> Result<Facts> {
    let engine = &*run.engine;
    let info = engine.info().await?;
    check(engine, &info, cluster, options).await?;
    let images = images(run, cluster, step).await?;
    let registry = registry::of_cluster(engine, cluster.registry.as_ref()).await?;
    let on_host = |path: &str| Path::new(path).exists();
    let fuse = options.local && on_host("/dev/fuse");
    Ok(Facts {
        engine: info,
        images,
        proxy: options.proxy.clone(),
        registry,
        authorities: authorities::authorities(cluster)?,
        run: run.id.clone(),
        privilege: limits::privilege(options.local),
        devices: if fuse { vec!["/dev/fuse".to_owned()] } else { Vec::new() },
        // Small kernels of sandboxes and virtual machines come without modules.
        modules: !options.local || on_host("/lib/modules"),
    })
}

async fn check(engine: &dyn Engine, info: &EngineInfo, cluster: &ClusterConfig, options: &Options) -> Result<()> {
    check::require(preflight::engine(info, options.local, cluster))?;
    if options.local {
        check::require(limits::checks(info, cluster))?;
    }
    let of_cluster = [format!("{}={}", labels::CLUSTER, cluster.name)];
    let (containers, volumes) = (engine.containers(&of_cluster).await?, engine.volumes(&of_cluster).await?);
    check::require(preflight::name(&cluster.name, &containers, &volumes))?;
    kubeconfig::preflight(&options.kubeconfig)
}

/// The node image of each node, in the order of the nodes.
async fn images(run: &Run, cluster: &ClusterConfig, step: &Step) -> Result<Vec<NodeImage>> {
    let mut known: Vec<(Option<String>, NodeImage)> = Vec::new();
    let mut images = Vec::new();
    let pulling = |reference: &str, done: u64, total: u64| {
        if (done, total) == (0, 0) {
            step.detail("image", &format!("pulling {reference}"));
        } else {
            step.bytes(done, total);
        }
    };
    for node in &cluster.nodes {
        let named = node.image.clone().or_else(|| cluster.image.clone());
        if let Some((_, image)) = known.iter().find(|(name, _)| *name == named) {
            images.push(image.clone());
            continue;
        }
        let image = choose::node_image(&run.engine, named.as_deref(), &run.id, &pulling).await?;
        known.push((named, image.clone()));
        images.push(image);
    }
    Ok(images)
}

/// The version of the cluster: that of its first control plane's image.
pub(super) fn version(facts: &Facts) -> String {
    facts.images.first().map(|image| image.images.kubernetes.clone()).unwrap_or_default()
}

/// The API server's port on the host: the one in the configuration, else a free one.
pub(super) fn api_port(networking: &Networking, local: bool) -> Result<u16> {
    match networking.api_server_port {
        0 if local => limits::free_port(networking.api_server_address),
        // Ports of another host cannot be tried out; the dynamic range starts above this one.
        0 => Ok(30_000 + u16::try_from(std::process::id() % 2_000).unwrap_or_default()),
        port => Ok(port),
    }
}

/// The configuration with a host port for each mapping with port 0.
pub(super) fn choose_ports(cluster: &ClusterConfig) -> Result<ClusterConfig> {
    let mut cluster = cluster.clone();
    for node in &mut cluster.nodes {
        for mapping in node.extra_port_mappings.iter_mut().filter(|mapping| mapping.host_port == 0) {
            mapping.host_port = limits::free_port(mapping.listen_address)?;
        }
    }
    Ok(cluster)
}

/// Subnets for the cluster's network in the order in which they are tried. Fails if the configuration names one that a
/// network of the engine uses.
pub(super) async fn subnets(engine: &dyn Engine, networking: &Networking) -> Result<Vec<NodeSubnets>> {
    let networks = engine.networks().await?;
    networking.node_subnet.iter().try_for_each(|wanted| preflight::subnet(wanted, &networks))?;
    let mut taken: Vec<ipnet::IpNet> = networks.into_iter().flat_map(|network| network.subnets).collect();
    taken.extend(limits::routes());
    taken.extend(networking.pod_subnet.iter().chain(networking.service_subnet.iter()));
    Ok(plan::subnet::choices(networking, &taken, MAX_SUBNETS))
}
