//! What must be known before a cluster is planned: checks, node images, subnets and ports.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use crate::cluster::lifecycle::checks::{self, Subject};
use crate::cluster::lifecycle::options::Options;
use crate::cluster::lifecycle::{patches, preflight, upstream};
use crate::cluster::registry::{self, authorities};
use crate::cluster::run::Run;
use crate::config::{ClusterConfig, Networking, Role};
use crate::engine::Engine;
use crate::engine::place::Place;
use crate::engine::spec::EngineInfo;
use crate::error::{Code, Error, Result};
use crate::host::{check, credentials, limits, mounts, ports};
use crate::kubeconfig;
use crate::node_image::choose;
use crate::plan::lifetime::Expiry;
use crate::plan::node::credentials::Login;
use crate::plan::subnet::NodeSubnets;
use crate::plan::{self, Facts, NodeImage, ProxySettings};
use crate::ui::{Step, Ui};

/// Devices of the host that nodes get, if the host has them: for file systems of users, and tunnels (VPN) in pods.
const DEVICES: &[&str] = &["/dev/fuse", "/dev/net/tun"];

/// How many subnets are tried: others may have one of them without that being visible here.
const MAX_SUBNETS: usize = 16;

/// Checks everything that can be known before something is made, and finds the node images.
pub(super) async fn prepare(run: &Run, cluster: &ClusterConfig, options: &Options, step: &Step) -> Result<Facts> {
    let (info, prepared) = before_images(run, cluster, options).await?;
    let pulling = |reference: &str, done: u64, total: u64| {
        if (done, total) == (0, 0) {
            if reference == choose::PUBLISHED {
                run.ui.note(format!(
                    "No node image has been built here, so kind's is pulled; to have coracle's own, {}",
                    choose::BUILD
                ));
            }
            step.detail("image", &format!("pulling {reference}"));
        } else {
            step.bytes(done, total);
        }
    };
    let find = async |named: Option<&str>| {
        let reference = named.unwrap_or(choose::PUBLISHED);
        let present = run.engine.image(reference).await?.is_some();
        let directory = options.docker_config.as_deref().filter(|_| !present);
        let login = credentials::of_image(directory, reference).await;
        choose::node_image(&run.engine, named, login.as_ref(), &run.id, &pulling).await
    };
    let images = images(cluster, find).await?;
    collected(run, cluster, options, info, prepared, images).await
}

/// The same for a plan that is only shown: nothing is pulled.
pub(super) async fn without_pulling(run: &Run, cluster: &ClusterConfig, options: &Options) -> Result<Facts> {
    let (info, prepared) = before_images(run, cluster, options).await?;
    let find = async |named: Option<&str>| {
        let (image, is_here) = choose::without_pulling(&run.engine, named, &run.id).await?;
        if !is_here {
            run.ui.note(format!("{} is not here; `create cluster` pulls it", image.reference));
        }
        Ok(image)
    };
    let images = images(cluster, find).await?;
    collected(run, cluster, options, info, prepared, images).await
}

/// What is known before the node images are: packet size and proxy of the nodes.
struct Prepared {
    mtu: Option<u32>,
    proxy: ProxySettings,
}

/// Checks what needs no node image, and warns.
async fn before_images(run: &Run, cluster: &ClusterConfig, options: &Options) -> Result<(EngineInfo, Prepared)> {
    let engine = &*run.engine;
    let info = engine.info().await?;
    check::require(&preflight::engine(&info, engine.place()))?;
    let prepared = {
        let subject = Subject::look(engine, &info, cluster, &options.proxy, options.local).await?;
        let warnings = checks::require(cluster, &subject.checks())?;
        if options.local {
            ports::free(cluster, &subject.containers).await?;
        }
        kubeconfig::preflight(&options.kubeconfig, &cluster.context())?;
        for warning in warnings {
            run.ui.warn(warning);
        }
        Prepared { mtu: subject.mtu(), proxy: subject.proxy().0 }
    };
    Ok((info, prepared))
}

async fn collected(
    run: &Run,
    cluster: &ClusterConfig,
    options: &Options,
    engine: EngineInfo,
    Prepared { mtu, proxy }: Prepared,
    images: Vec<NodeImage>,
) -> Result<Facts> {
    check_platforms(&*run.engine, &engine, &images).await?;
    upstream::check(&run.ui, cluster, &images, options.written.as_ref())?;
    let planes = cluster.nodes.iter().filter(|node| node.role == Role::ControlPlane).count();
    let balancer = if planes > 1 { balancer(run, &images).await? } else { None };
    let facts = of_host(run, cluster, options.local, &options.logins, engine, Prepared { mtu, proxy }, images).await?;
    Ok(Facts { balancer, ..facts })
}

/// What the engine's host gives to nodes with these images.
async fn of_host(
    run: &Run,
    cluster: &ClusterConfig,
    local: bool,
    logins: &[Login],
    engine: EngineInfo,
    Prepared { mtu, proxy }: Prepared,
    images: Vec<NodeImage>,
) -> Result<Facts> {
    let registry = registry::of_cluster(&*run.engine, cluster.registry.as_ref()).await?;
    let on_host = |path: &str| Path::new(path).exists();
    let privilege = limits::privilege(local);
    let devices = DEVICES.iter().filter(|device| local && on_host(device));
    Ok(Facts {
        engine,
        mtu,
        proxy,
        registry,
        authorities: authorities::authorities(cluster)?,
        login_hosts: logins.iter().map(|login| (login.host.clone(), login.hosts.clone())).collect(),
        patches: patches::read(&run.ui, cluster, &images)?,
        run: run.id.clone(),
        expires: cluster.ttl.map(|ttl| Expiry::after(OffsetDateTime::now_utc(), ttl)),
        privilege,
        limits: limits::of_processes(privilege),
        devices: devices.map(|device| (*device).to_owned()).collect(),
        // Small kernels of sandboxes and virtual machines come without modules.
        modules: !local || on_host("/lib/modules"),
        images,
        balancer: None,
    })
}

/// The image of the load balancer, if the nodes have another one without HAProxy, such as kind's: coracle's own.
pub(super) async fn balancer(run: &Run, images: &[NodeImage]) -> Result<Option<NodeImage>> {
    let Some(image) = images.first().filter(|image| !image.shared_store) else { return Ok(None) };
    if let Some(own) = choose::newest_local(&*run.engine).await? {
        return choose::without_pulling(&run.engine, Some(&own), &run.id).await.map(|(own, _)| Some(own));
    }
    Err(Error::new(Code::ImageMissing, "no image has the load balancer that several control planes need")
        .because(format!(
            "it is HAProxy, which `{}` does not have, and coracle's own node image is not here",
            image.reference
        ))
        .hint(choose::BUILD)
        .hint("or create a cluster with one control plane"))
}

/// The facts for nodes that are added to a cluster: their images, packet size and proxy are known, and the rest is checked as
/// for a new cluster. `new` is the configuration with the new nodes only.
pub(super) async fn for_added(
    run: &Run,
    new: &ClusterConfig,
    local: bool,
    logins: &[Login],
    (mtu, proxy): (Option<u32>, ProxySettings),
    images: Vec<NodeImage>,
) -> Result<Facts> {
    let engine = &*run.engine;
    let (info, containers) = (engine.info().await?, engine.containers(&[]).await?);
    // The API server has its port already.
    let mut wanted = new.clone();
    wanted.networking.api_server_port = 0;
    if local {
        check::require(&limits::checks(&info, &wanted, &containers))?;
        if limits::is_here(&info) {
            let found = [mounts::problems(&wanted), ports::addresses(&wanted)].concat();
            preflight::host(&wanted, found.into_iter().map(|(_, problem)| problem).collect())?;
        }
        ports::free(&wanted, &containers).await?;
        if let Some(warning) = limits::tight_inotify(&wanted, &containers) {
            run.ui.warn(check::sentence(&warning));
        }
    }
    check_platforms(engine, &info, &images).await?;
    of_host(run, new, local, logins, info, Prepared { mtu, proxy }, images).await
}

/// Refuses node images for other processors.
async fn check_platforms(engine: &dyn Engine, info: &EngineInfo, images: &[NodeImage]) -> Result<()> {
    for image in images {
        // One that is yet to be pulled is for this engine's platform.
        let Some(present) = engine.image(&image.id).await? else { continue };
        preflight::platform(&image.reference, &present, &info.architecture)?;
    }
    Ok(())
}

/// The node image of each node, in the order of the nodes; `find` is asked once for each name.
async fn images(
    cluster: &ClusterConfig,
    find: impl AsyncFn(Option<&str>) -> Result<NodeImage>,
) -> Result<Vec<NodeImage>> {
    let mut known: Vec<(Option<String>, NodeImage)> = Vec::new();
    let mut images = Vec::new();
    for node in &cluster.nodes {
        let named = node.image.clone().or_else(|| cluster.image.clone());
        if let Some((_, image)) = known.iter().find(|(name, _)| *name == named) {
            images.push(image.clone());
            continue;
        }
        let image = find(named.as_deref()).await?;
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
        0 if local => ports::any(networking.api_server_address),
        0 => Ok(untried_port()),
        port => Ok(port),
    }
}

/// A port of another host, where none can be tried out: below the kernel's dynamic range, and each time another one, since
/// the one of before may be what was taken.
fn untried_port() -> u16 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() / 1000;
    20_000 + u16::try_from((time ^ u128::from(std::process::id())) % 10_000).unwrap_or_default()
}

/// The configuration for the place that the cluster is made from: on another host no one here reaches that host's 127.0.0.1.
pub(super) fn for_place(mut cluster: ClusterConfig, place: &Place, ui: &Ui) -> ClusterConfig {
    let address = &mut cluster.networking.api_server_address;
    if let Place::Elsewhere(host) = place
        && address.is_loopback()
    {
        *address = if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        ui.note(format!(
            "The API server listens on all addresses of `{host}`, where the engine is; `networking.apiServerAddress` selects one"
        ));
    }
    cluster
}

/// The host of an engine elsewhere.
pub(super) fn engine_host(engine: &dyn Engine) -> Option<String> {
    match engine.place() {
        Place::Elsewhere(host) => Some(host.clone()),
        _ => None,
    }
}

/// The configuration with a host port for each mapping with port 0.
pub(super) fn choose_ports(cluster: &ClusterConfig, local: bool) -> Result<ClusterConfig> {
    let mut cluster = cluster.clone();
    for node in &mut cluster.nodes {
        for mapping in node.extra_port_mappings.iter_mut().filter(|mapping| mapping.host_port == 0) {
            mapping.host_port = if local { ports::any(mapping.listen_address)? } else { untried_port() };
        }
    }
    Ok(cluster)
}

/// Subnets for the cluster's network in the order in which they are tried. Fails if the configuration names one that a
/// network of the engine or a route of this host uses.
pub(super) async fn subnets(engine: &dyn Engine, networking: &Networking, local: bool) -> Result<Vec<NodeSubnets>> {
    let (networks, routes) = (engine.networks().await?, checks::routes_of(local));
    for wanted in networking.node_subnet.iter() {
        preflight::subnet(wanted, &networks)?;
        preflight::routed(wanted, &routes)?;
    }
    Ok(plan::subnet::choices(networking, &checks::taken(networking, &networks, &routes), MAX_SUBNETS))
}
