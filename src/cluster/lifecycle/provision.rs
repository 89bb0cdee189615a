//! From a plan to running containers: a network, then all nodes at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use ipnet::IpNet;
use tokio::time::Instant;

use crate::cluster::leads;
use crate::cluster::lifecycle::delete::{Scope, delete};
use crate::cluster::lifecycle::options::Options;
use crate::cluster::lifecycle::{facts, kind_network, preflight};
use crate::cluster::ownership::{self, OTHER_NAME};
use crate::cluster::run::Run;
use crate::cluster::upload::write_files;
use crate::config::{ClusterConfig, Role};
use crate::engine::Engine;
use crate::engine::process;
use crate::engine::spec::{ContainerSpec, Labels, Mount, NetworkSpec, Privilege};
use crate::error::{Code, Error, Reason, Result};
use crate::host::routes::{self, Route};
use crate::host::{advice, check, ports};
use crate::plan::facts::USUAL_MTU;
use crate::plan::labels;
use crate::plan::ownership::Names;
use crate::plan::pki::Pki;
use crate::plan::subnet::{Division, NodeSubnets};
use crate::plan::{self, Facts, Layout, NodePlan, Plan};
use crate::ui::Step;

/// How often other ports are tried.
const MAX_ATTEMPTS: usize = 5;
/// How long two networks of one name may exist while containers start.
const AMBIGUITY_TIMEOUT: Duration = Duration::from_secs(10);

/// Creates the network and the containers of a cluster; with other ports if a port that coracle chose was taken meanwhile.
pub(super) async fn cluster(
    run: &Run,
    cluster: &ClusterConfig,
    options: &Options,
    facts: &Facts,
    step: &Step,
) -> Result<(Plan, Pki)> {
    let (engine, networking) = (&*run.engine, &cluster.networking);
    let local = options.local;
    let subnets = facts::subnets(engine, networking, local).await?;
    let mut attempt = 1;
    loop {
        let chosen = facts::choose_ports(cluster, local)?;
        let layout = |subnet| {
            let port = facts::api_port(networking, local)?;
            let layout = Layout::new(chosen.clone(), subnet, port, &facts::version(facts))?;
            Ok::<_, Error>(layout.on(facts::engine_host(engine)))
        };
        let spec = |subnet| {
            let mut spec = plan::node::container::network(&layout(subnet)?, facts);
            made_here(&mut spec.labels);
            Ok(spec)
        };
        let (network, subnet) = network(engine, &subnets, local, spec).await?;
        let facts = &with_mtu(engine, &network, facts).await?;
        if attempt == 1 {
            let uplink = || preflight::small_uplink(facts.mtu.unwrap_or(USUAL_MTU), routes::uplink());
            let warnings = [advice::clock(&facts.engine), local.then(uplink).flatten()];
            warnings.iter().flatten().for_each(|warning| run.ui.warn(check::sentence(warning)));
        }
        let pki = Pki::generate(time::OffsetDateTime::now_utc())?;
        let mut plan = plan::plan(layout(subnet)?, facts, &pki)?;
        mark_all(&mut plan, options);
        if let Some(name) = &cluster.kind_network {
            kind_network::ensure(engine, name, facts.mtu).await?;
        }
        match nodes(engine, &plan.nodes, &network, step).await {
            Ok(()) => return Ok((plan, pki)),
            Err(error) if error.code() == Code::PortTaken && attempt < MAX_ATTEMPTS => {
                delete(&run.engine, &Scope::Run(run.id.clone())).await?;
                if local {
                    // What the configuration names may be free again in a moment; if not, who has it is told.
                    ports::free(cluster, &engine.containers(&[]).await?).await?;
                } else if networking.api_server_port != 0 {
                    return Err(error);
                }
                attempt += 1;
            }
            Err(error) if error.reason() == Some(Reason::NameTaken) => {
                // Another program was faster: whose is it?
                require_free(run, &plan::names(&plan.layout, facts)).await?;
                return Err(error.with_code(Code::ClusterExists).hint("`coracle get clusters` lists clusters"));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Marks what this process makes as long as the cluster is not finished: if it is killed, `gc` finds it.
fn made_here(labels: &mut Labels) {
    labels.insert(labels::PROCESS.to_owned(), process::own());
}

/// Adds to a plan what belongs to this run of `create`: the kubeconfig that gets the entry, and the marks of this process.
fn mark_all(plan: &mut Plan, options: &Options) {
    for (node, layout) in plan.nodes.iter_mut().zip(&plan.layout.nodes) {
        if layout.config.role == Role::ControlPlane {
            leads::add_to(&mut node.files, &options.kubeconfig);
        }
        mark(&mut node.spec);
    }
}

fn mark(spec: &mut ContainerSpec) {
    made_here(&mut spec.labels);
    for mount in &mut spec.mounts {
        if let Mount::Volume { labels, .. } = mount {
            made_here(labels);
        }
    }
}

/// Fails if something has a name that the cluster needs, before anything is made.
pub(super) async fn check_names(run: &Run, cluster: &ClusterConfig, local: bool, facts: &Facts) -> Result<()> {
    // Names do not depend on addresses, but a layout has some.
    let subnets = facts::subnets(&*run.engine, &cluster.networking, local).await?;
    let subnet = subnets.into_iter().next().ok_or_else(preflight::no_subnet)?;
    let layout = Layout::new(cluster.clone(), subnet, 0, &facts::version(facts))?;
    require_free(run, &plan::names(&layout, facts)).await
}

async fn require_free(run: &Run, names: &Names) -> Result<()> {
    let is_own = |labels: &Labels| labels.get(labels::RUN) == Some(&run.id);
    ownership::require_free(&*run.engine, names, (Code::ClusterExists, OTHER_NAME), is_own).await
}

/// Creates the network with the first of the subnets that is free, and returns its ID and subnets.
async fn network(
    engine: &dyn Engine,
    choices: &[NodeSubnets],
    local: bool,
    spec: impl Fn(NodeSubnets) -> Result<NetworkSpec>,
) -> Result<(String, NodeSubnets)> {
    let mut last = None;
    for subnets in choices {
        match engine.create_network(&spec(*subnets)?).await {
            Ok(id) => match local.then(|| astray(&id, *subnets)).flatten() {
                Some((net, route)) => {
                    engine.remove_network(&id).await?;
                    last = Some(preflight::astray(net, &route));
                    if !route.leads_to_a_network() {
                        // It takes every other subnet too.
                        break;
                    }
                }
                None => return Ok((id, *subnets)),
            },
            // Another program was faster, or has a route there that is not visible here: the next one.
            Err(error) if error.code() == Code::SubnetClash => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(preflight::no_subnet))
}

/// A subnet of a network that this host does not reach, and the route by which it sends packets elsewhere.
fn astray(network: &str, subnets: NodeSubnets) -> Option<(IpNet, Route)> {
    let nets = [Some(IpNet::V4(subnets.v4)), subnets.v6.map(IpNet::V6)];
    let route = |net| routes::astray(network, Division::new(net)?.address(0)?);
    nets.into_iter().flatten().find_map(|net| Some((net, route(net)?)))
}

/// The facts with the packet size that the engine gave to a new network: it may have a default for those.
async fn with_mtu(engine: &dyn Engine, network: &str, facts: &Facts) -> Result<Facts> {
    let networks = engine.networks().await?;
    let made = networks.iter().find(|other| other.id == network);
    Ok(Facts { mtu: made.map_or(facts.mtu, |network| network.mtu), ..facts.clone() })
}

/// Creates a container, unless it already exists, writes its files and starts it.
async fn boot(
    engine: &dyn Engine,
    mut node: NodePlan,
    mut created: Option<String>,
    limited: &AtomicBool,
) -> Result<()> {
    loop {
        if limited.load(Ordering::Relaxed) {
            node.spec.limits.clear();
            if node.spec.privilege == Privilege::Privileged {
                node.spec.privilege = Privilege::AllButSysResource;
            }
        }
        match try_boot(engine, &node, created.take()).await {
            // The engine cannot grant every capability, or raise every limit: the explicit form leaves out what is missing.
            Err((Some(id), error)) if is_capability(&node, &error) => {
                limited.store(true, Ordering::Relaxed);
                engine.remove_container(&id).await?;
            }
            Err((_, error)) => return Err(error.on_node(&node.spec.name)),
            Ok(()) => return Ok(()),
        }
    }
}

fn is_capability(node: &NodePlan, error: &Error) -> bool {
    let asks = node.spec.privilege == Privilege::Privileged || !node.spec.limits.is_empty();
    asks && error.reason() == Some(Reason::CapabilityMissing)
}

/// Boots a node once; after a failure also the ID of its container, if there is one.
async fn try_boot(
    engine: &dyn Engine,
    node: &NodePlan,
    created: Option<String>,
) -> Result<(), (Option<String>, Error)> {
    let id = match created {
        Some(id) => id,
        None => engine.create_container(&node.spec).await.map_err(|error| (None, error))?,
    };
    let failed = |error| (Some(id.clone()), error);
    write_files(engine, &id, &node.files).await.map_err(failed)?;
    kind_network::join(engine, &id, &node.spec.name, &node.spec.joins).await.map_err(failed)?;
    start(engine, &id).await.map_err(failed)
}

/// Starts a container. The engine finds its network by name, and two networks have that name until another run, which was
/// too late for the cluster's name, has removed its own.
async fn start(engine: &dyn Engine, id: &str) -> Result<()> {
    let deadline = Instant::now() + AMBIGUITY_TIMEOUT;
    loop {
        match engine.start_container(id).await {
            Err(error) if error.reason() != Some(Reason::NetworkAmbiguous) => return Err(error),
            Err(error) if Instant::now() > deadline => {
                return Err(error.hint("`docker network ls` shows two networks of this name; remove the unused one"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            Ok(()) => return Ok(()),
        }
    }
}

/// Creates a container, which claims its name, and returns its ID; [`start_claimed`] starts it.
pub async fn claim(engine: &dyn Engine, plan: &NodePlan, network: &str) -> Result<String> {
    let spec = ContainerSpec { network: Some(network.to_owned()), ..plan.spec.clone() };
    engine.create_container(&spec).await.map_err(|error| error.on_node(&spec.name))
}

/// Writes the files of a container that was claimed, and starts it.
pub async fn start_claimed(
    engine: &dyn Engine,
    plan: &NodePlan,
    network: &str,
    container: String,
    step: &Step,
) -> Result<()> {
    let mut plan = plan.clone();
    plan.spec.network = Some(network.to_owned());
    let name = plan.spec.name.clone();
    boot(engine, plan, Some(container), &AtomicBool::new(false)).await?;
    step.detail(&name, "started");
    Ok(())
}

/// Creates the first container, which claims the cluster's name, then the others, and starts all at once.
///
/// If all were created at once, each of two runs with one name could get one of the containers, and both would fail.
pub async fn nodes(engine: &dyn Engine, nodes: &[NodePlan], network: &str, step: &Step) -> Result<()> {
    let limited = AtomicBool::new(false);
    let mut work = Vec::new();
    let mut claim = None;
    for (index, plan) in nodes.iter().enumerate() {
        step.detail(&plan.spec.name, "creating");
        let mut plan = plan.clone();
        plan.spec.network = Some(network.to_owned());
        if index == 0 {
            claim = Some(engine.create_container(&plan.spec).await.map_err(|error| error.on_node(&plan.spec.name))?);
        }
        let (name, claimed, limited) = (plan.spec.name.clone(), claim.take(), &limited);
        work.push(async move {
            boot(engine, plan, claimed, limited).await?;
            step.detail(&name, "started");
            Ok(())
        });
    }
    // Every node is awaited, even after a failure: nothing may be created any more while the clean-up looks for it.
    join_all(work).await.into_iter().collect()
}
