//! `create cluster`: from a configuration to a cluster that can be used.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::cluster::contents;
use crate::cluster::health::diagnose;
use crate::cluster::health::wait::{conditions, wait};
use crate::cluster::lifecycle::delete::{Scope, remove};
use crate::cluster::lifecycle::{first_pods, preflight, provision};
use crate::cluster::registry::{self, authorities};
use crate::config::{Cluster, Networking};
use crate::engine::SharedEngine;
use crate::engine::finishing::run_to_end;
use crate::error::{Code, Error, Reason, Result};
use crate::kubeconfig::{self, Entry, Location};
use crate::kubernetes::{Client, apply};
use crate::node_image::choose;
use crate::plan::node::credentials::Login;
use crate::plan::objects::{self, Manifests};
use crate::plan::pki::Pki;
use crate::plan::subnet::NodeSubnets;
use crate::plan::{self, Facts, Layout, Plan, ProxySettings};
use crate::ui::{Step, Ui};

/// Pause between two looks for something that will never come up.
const DIAGNOSE: Duration = Duration::from_secs(3);
/// How often another subnet or port is tried when somebody was faster.
const TRIES: usize = 5;
/// How many subnets are tried when others have them and it cannot be seen.
const SUBNETS: usize = 16;

/// How to create.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long to wait until the cluster is usable.
    pub wait: Duration,
    /// Leave what was made when it fails.
    pub retain: bool,
    /// Which kubeconfig gets the entry.
    pub kubeconfig: Location,
    /// Proxy settings for the nodes.
    pub proxy: ProxySettings,
    /// The engine runs on this host.
    pub local: bool,
    /// Credentials for registries.
    pub logins: Vec<Login>,
}

/// A new cluster.
#[derive(Debug, Clone)]
pub struct Created {
    /// Context in the kubeconfig.
    pub context: String,
    /// The API server's address on the host.
    pub server: String,
    /// Kubernetes version.
    pub version: String,
    /// Names of nodes.
    pub nodes: Vec<String>,
    /// What is left to the user, such as a CNI plugin.
    pub missing: Vec<String>,
}

/// Creates a cluster. After a failure or an interruption nothing of this run is left, unless `retain`.
pub async fn create(
    engine: &SharedEngine,
    cluster: Cluster,
    options: &Options,
    ui: &Ui,
    stop: &CancellationToken,
) -> Result<Created> {
    let run = run_id();
    let work = async |engine: SharedEngine| steps(&engine, cluster.clone(), options, ui, &run).await;
    let result = run_to_end(engine, stop, work).await;
    // From here on the cluster is there: an interruption must not leave an entry for nodes that are then removed.
    let result = match result {
        Ok(plan) => kubeconfig::merge(&options.kubeconfig, &entry(&plan), true).await.map(|_| plan),
        Err(error) => Err(error),
    };
    let error = match result {
        Ok(plan) => return Ok(created(&plan)),
        Err(error) => error,
    };
    if options.retain {
        return Err(error.hint(format!(
            "the nodes are kept; `coracle export logs --name {0}`, then `coracle delete cluster --name {0}`",
            cluster.name
        )));
    }
    if let Err(left) = roll_back(engine, &run).await {
        ui.warn(format!(
            "not everything could be removed: {left}; run `coracle delete cluster --name {}`",
            cluster.name
        ));
        // An engine that went away says all kinds of things while it does.
        if left.code() == Code::EngineUnreachable {
            return Err(left);
        }
    }
    Err(error)
}

/// Removes what the run made; a clean-up is worth more than one try.
async fn roll_back(engine: &SharedEngine, run: &str) -> Result<()> {
    let scope = Scope::Run(run.to_owned());
    let mut last = Ok(());
    for _ in 0..3 {
        match remove(engine, &scope).await {
            // Looked at once more: the engine may have finished a call whose answer never came.
            Ok(removed) if removed.is_empty() => return Ok(()),
            Ok(_) => last = Ok(()),
            Err(error) => last = Err(error),
        }
    }
    last
}

/// An ID that no other run has: time and process.
pub(crate) fn run_id() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}

fn created(plan: &Plan) -> Created {
    Created {
        context: plan.layout.cluster.name.context(),
        server: plan.access.server.clone(),
        version: plan.layout.version.clone(),
        nodes: plan.layout.nodes.iter().map(|node| node.name.clone()).collect(),
        missing: conditions(&plan.layout.cluster).1,
    }
}

/// The whole pipeline, top to bottom.
async fn steps(engine: &SharedEngine, cluster: Cluster, options: &Options, ui: &Ui, run: &str) -> Result<Plan> {
    let step = ui.step("Preparing the node image");
    let facts = prepare(engine, &cluster, options, run, &step).await?;
    step.finish();
    let contents = contents::prepare(engine, &cluster, &facts, options, ui).await?;

    let step =
        ui.step(format!("Creating {} node{}", cluster.nodes.len(), if cluster.nodes.len() == 1 { "" } else { "s" }));
    let (plan, pki) = provision_all(engine, &cluster, options, &facts, &step).await?;
    step.finish();

    let deadline = Instant::now() + options.wait;
    let client = Client::new(&plan.access).await?;
    let step = ui.step("Starting the control plane");
    watched(engine, &plan, deadline, &step, register(&client, &plan, deadline)).await?;
    step.finish();

    let step = ui.step("Installing network, DNS and storage");
    let work = install(engine, &client, &plan, &facts, &pki, deadline);
    watched(engine, &plan, deadline, &step, work).await?;
    step.finish();

    let (conditions, _) = conditions(&cluster);
    let step = ui.step("Waiting until the cluster is usable");
    let work = wait(&client, &conditions, deadline, &step);
    watched(engine, &plan, deadline, &step, work).await?;
    step.finish();

    contents::install(engine, &client, &plan, &contents, (deadline, run), ui).await?;
    Ok(plan)
}

/// Checks everything that can be known before something is made, and finds the node images.
pub async fn prepare(
    engine: &SharedEngine,
    cluster: &Cluster,
    options: &Options,
    run: &str,
    step: &Step,
) -> Result<Facts> {
    let info = engine.info().await?;
    preflight::engine(&info, options.local, cluster)?;
    if options.local {
        preflight::host(&info, cluster)?;
    }
    let of_cluster = [format!("{}={}", plan::labels::CLUSTER, cluster.name)];
    let same = engine.containers(&of_cluster).await?;
    if !same.is_empty() {
        return Err(Error::new(Code::ClusterExists, format!("there is a cluster `{}` already", cluster.name))
            .hint(format!("use it: `kubectl --context {}`; or choose another `--name`", cluster.name.context()))
            .hint(format!("or remove it: `coracle delete cluster --name {}`", cluster.name)));
    }
    preflight::old_volumes(&cluster.name, &engine.volumes(&of_cluster).await?)?;
    kubeconfig::preflight(&options.kubeconfig)?;
    let mut images: Vec<(Option<String>, plan::NodeImage)> = Vec::new();
    let mut of_nodes = Vec::new();
    for node in &cluster.nodes {
        let named = node.image.clone().or_else(|| cluster.image.clone());
        if let Some((_, image)) = images.iter().find(|(name, _)| *name == named) {
            of_nodes.push(image.clone());
            continue;
        }
        let image = choose::find(engine, named.as_deref(), run, step).await?;
        images.push((named, image.clone()));
        of_nodes.push(image);
    }
    let registry = registry::of_cluster(&**engine, cluster.registry.as_ref()).await?;
    let on_host = |path: &str| std::path::Path::new(path).exists();
    let fuse = options.local && on_host("/dev/fuse");
    Ok(Facts {
        engine: info,
        images: of_nodes,
        proxy: options.proxy.clone(),
        registry,
        authorities: authorities::authorities(cluster)?,
        run: run.to_owned(),
        privilege: preflight::privilege(options.local),
        devices: if fuse { vec!["/dev/fuse".to_owned()] } else { Vec::new() },
        // Small kernels of sandboxes and virtual machines come without modules.
        modules: !options.local || on_host("/lib/modules"),
    })
}

/// The version of the cluster: that of its first control plane's image.
fn version(facts: &Facts) -> String {
    facts.images.first().map(|image| image.images.kubernetes.clone()).unwrap_or_default()
}

/// A host port for the API server: the one asked for, else a free one.
fn api_port(cluster: &Cluster, local: bool) -> Result<u16> {
    let networking = &cluster.networking;
    match networking.api_server_port {
        0 if local => preflight::free_port(networking.api_server_address),
        // On another host free ports cannot be tried out; the dynamic range starts above this one.
        0 => Ok(30_000 + u16::try_from(std::process::id() % 2_000).unwrap_or_default()),
        port => Ok(port),
    }
}

/// Host ports that coracle chooses for mappings with port 0.
fn choose_ports(cluster: &Cluster) -> Result<Cluster> {
    let mut cluster = cluster.clone();
    for node in &mut cluster.nodes {
        for mapping in node.extra_port_mappings.iter_mut().filter(|mapping| mapping.host_port == 0) {
            mapping.host_port = preflight::free_port(mapping.listen_address)?;
        }
    }
    Ok(cluster)
}

/// Subnets for the cluster's network in the order in which they are tried; an error when it is asked for one of the engine's.
async fn subnets(engine: &SharedEngine, networking: &Networking) -> Result<Vec<NodeSubnets>> {
    let networks = engine.networks().await?;
    networking.node_subnet.iter().try_for_each(|wanted| preflight::subnet(wanted, &networks))?;
    let mut taken: Vec<ipnet::IpNet> = networks.into_iter().flat_map(|network| network.subnets).collect();
    taken.extend(preflight::routes());
    taken.extend(networking.pod_subnet.iter().chain(networking.service_subnet.iter()));
    Ok(plan::subnet::choices(networking, &taken, SUBNETS))
}

/// Makes the network and the containers; tries again when a port that coracle chose was taken meanwhile.
async fn provision_all(
    engine: &SharedEngine,
    cluster: &Cluster,
    options: &Options,
    facts: &Facts,
    step: &Step,
) -> Result<(Plan, Pki)> {
    let networking = &cluster.networking;
    let subnets = subnets(engine, networking).await?;
    let mut attempt = 1;
    loop {
        let chosen = choose_ports(cluster)?;
        let layout = |subnet| Layout::new(chosen.clone(), subnet, api_port(cluster, options.local)?, &version(facts));
        let spec = |subnet| Ok(plan::node::container::network(&layout(subnet)?, facts));
        let (network, subnet) = provision::network(&**engine, &subnets, spec).await?;
        let pki = Pki::generate(time::OffsetDateTime::now_utc())?;
        let plan = plan::plan(layout(subnet)?, facts, &pki)?;
        match provision::nodes(&**engine, &plan.nodes, &network, step).await {
            Ok(()) => return Ok((plan, pki)),
            Err(error) if error.code() == Code::PortTaken && networking.api_server_port == 0 && attempt < TRIES => {
                remove(engine, &Scope::Run(facts.run.clone())).await?;
                attempt += 1;
            }
            Err(error) if error.reason() == Some(Reason::NameTaken) => {
                let hint = "`coracle get clusters` lists clusters; choose another `--name`, or delete that one first";
                return Err(error.with_code(Code::ClusterExists).hint(hint));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits until the API answers, and creates the Node objects before the kubelets register.
async fn register(client: &Client, plan: &Plan, deadline: Instant) -> Result<()> {
    let nodes = plan.layout.nodes.iter().map(|node| objects::node(&plan.layout, node));
    let nodes: Vec<_> = nodes.collect();
    let work = nodes.iter().map(|node| apply::create_node(client, node, deadline));
    futures_util::future::try_join_all(work).await.map(drop)
}

/// Applies what kubeadm would have made, the agent and the storage class.
async fn install(
    engine: &SharedEngine,
    client: &Client,
    plan: &Plan,
    facts: &Facts,
    pki: &Pki,
    deadline: Instant,
) -> Result<()> {
    let first = plan.layout.control_planes().next().map(|node| node.name.as_str()).unwrap_or_default();
    let text = async |path: &str| -> Result<String> {
        let bytes = crate::engine::files::read_file(&**engine, first, path).await?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
    };
    let cni = text("/kind/manifests/default-cni.yaml").await?;
    let storage = text("/kind/manifests/default-storage.yaml").await?;
    let manifests = Manifests { cni, storage };
    let Some(image) = facts.images.first() else { return Ok(()) };
    let authority = &pki.kubernetes.pair.certificate;
    let objects = objects::objects(&plan.layout, &image.images, &manifests, authority, facts.engine.cgroup)?;
    let workloads = apply::apply_all(client, &objects, deadline).await?;
    // Only a head start: what the API server refuses here, the controllers make a few seconds later, or report.
    first_pods::start(client, &plan.layout, &workloads, deadline).await.or(Ok(()))
}

/// Does `work`, and ends early when a node or a component will never come up.
async fn watched<T>(
    engine: &SharedEngine,
    plan: &Plan,
    deadline: Instant,
    step: &Step,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let watch = async {
        let mut suspected = None;
        loop {
            sleep(DIAGNOSE).await;
            for node in &plan.layout.nodes {
                let Some(error) = diagnose::failing(&**engine, &node.name).await else { continue };
                // Seen twice: a component that failed once while another one started gets its second chance.
                if suspected.replace(error.message().to_owned()).is_some_and(|message| message == error.message()) {
                    return error;
                }
            }
        }
    };
    let result = tokio::select! {
        result = work => result,
        error = watch => return Err(error),
    };
    match result {
        Err(error) if Instant::now() >= deadline => {
            step.detail("asking", "the nodes for the reason");
            Err(explained(engine, plan, error).await)
        }
        other => other,
    }
}

/// A deadline that passed, with the component that is to blame if one is.
async fn explained(engine: &SharedEngine, plan: &Plan, error: Error) -> Error {
    for node in &plan.layout.nodes {
        if let Some(cause) = diagnose::failing(&**engine, &node.name).await {
            return cause;
        }
    }
    error.hint("give it more time with `--wait 10m`, or keep the nodes with `--retain` and read `coracle export logs`")
}

fn entry(plan: &Plan) -> Entry {
    Entry {
        name: plan.layout.cluster.name.context(),
        server: plan.access.server.clone(),
        ca_pem: plan.access.authority.clone(),
        client_cert_pem: plan.access.admin.certificate.clone(),
        client_key_pem: plan.access.admin.key.clone(),
    }
}

/// The plan without making anything, for `--dry-run`.
pub async fn dry_run(engine: &SharedEngine, cluster: Cluster, options: &Options, ui: &Ui) -> Result<Plan> {
    let step = ui.step("Planning");
    let facts = prepare(engine, &cluster, options, &run_id(), &step).await?;
    contents::check(engine, &cluster).await?;
    let subnet = subnets(engine, &cluster.networking).await?.into_iter().next().ok_or_else(provision::no_subnet)?;
    let pki = Pki::generate(time::OffsetDateTime::now_utc())?;
    let layout = Layout::new(choose_ports(&cluster)?, subnet, api_port(&cluster, options.local)?, &version(&facts))?;
    let plan = plan::plan(layout, &facts, &pki)?;
    step.finish();
    Ok(plan)
}

/// Whether the API answers `GET /livez`, for `status`.
pub async fn is_alive(client: &Client) -> bool {
    client.get("/livez").await.is_ok()
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
