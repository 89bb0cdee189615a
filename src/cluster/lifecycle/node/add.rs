//! `node add`: nodes for a cluster that runs. Nothing of the other nodes changes but the list of nodes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::cluster::access;
use crate::cluster::found::{self, Cluster};
use crate::cluster::health::watch::watched;
use crate::cluster::leads;
use crate::cluster::lifecycle::create::roll_back;
use crate::cluster::lifecycle::delete::{Scope, delete};
use crate::cluster::lifecycle::node::images::{self, Images};
use crate::cluster::lifecycle::node::planes::{self, Front};
use crate::cluster::lifecycle::node::prepare::{self, Before};
use crate::cluster::lifecycle::node::takeover;
use crate::cluster::lifecycle::node::{remove_objects, running, update_dependents, wait};
use crate::cluster::lifecycle::{facts, patches, provision};
use crate::cluster::ownership;
use crate::cluster::registry;
use crate::cluster::run::{Run, new_id};
use crate::config::{self, ClusterConfig, ClusterName, Node, Registry, Role};
use crate::engine::SharedEngine;
use crate::engine::finishing::{LastSteps, run_to_end};
use crate::engine::spec::{ContainerSpec, Labels};
use crate::error::{Code, Error, Problem, Reason, Result, counted};
use crate::host::credentials;
use crate::kubernetes::ready::unready;
use crate::kubernetes::{apply, drain, object};
use crate::plan::lifetime::EXPIRES;
use crate::plan::node::container::own_volume;
use crate::plan::node::credentials::Login;
use crate::plan::ownership::Names;
use crate::plan::{self, Facts, Layout, NodeImage, NodeLayout, NodePlan, labels, objects};
use crate::ui::{Step, Ui};

/// How often other names or ports are tried, when another command was faster.
const MAX_ATTEMPTS: usize = 5;

/// How to add nodes.
#[derive(Debug, Clone)]
pub struct Options {
    /// What each of the new nodes is.
    pub node: Node,
    /// How many are added.
    pub count: usize,
    /// How long to wait until they are usable.
    pub wait: Duration,
    /// The engine runs on this host.
    pub local: bool,
    /// The directory of the Docker client's configuration.
    pub docker_config: Option<PathBuf>,
}

/// Nodes that were added.
#[derive(Debug)]
pub struct Added {
    pub nodes: Vec<NodeLayout>,
    /// Kubernetes version of their image.
    pub version: String,
    pub images: Images,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Adds nodes. After a failure or an interruption none of them is left.
pub async fn add(
    engine: &SharedEngine,
    name: &ClusterName,
    options: &Options,
    ui: &Ui,
    stop: &CancellationToken,
) -> Result<Added> {
    let id = new_id();
    // From then on, the new nodes belong to the cluster, which needs them.
    let settled = AtomicBool::new(false);
    let work = async |engine: SharedEngine| {
        let run = Run::new(&engine, ui, &*id, options.wait);
        Box::pin(steps(&run, name, options, &settled)).await
    };
    let error = match run_to_end(engine, stop, work).await {
        Ok(added) => return Ok(added),
        Err(error) if settled.load(Ordering::SeqCst) => {
            return Err(error.hint(format!("`coracle status --name {name}` shows what the cluster lacks")));
        }
        Err(error) => error,
    };
    if let Err(left) = undo(engine, name, &id, &error).await {
        ui.warn(format!("could not remove everything: {left}; `coracle node remove` removes what is left"));
    }
    Err(error)
}

/// Removes the nodes of a run, and what the API has of them.
async fn undo(engine: &SharedEngine, name: &ClusterName, id: &str, error: &Error) -> Result<()> {
    let made = engine.containers(&[format!("{}={id}", labels::RUN)]).await?;
    planes::withdraw(engine, name, id).await?;
    roll_back(engine, id, error.reason() == Some(Reason::AnswerLost)).await?;
    if made.is_empty() {
        return Ok(());
    }
    let cluster = found::get(&**engine, name).await?;
    let client = access::client(&**engine, &cluster).await?;
    for container in &made {
        remove_objects(&client, &container.name).await?;
    }
    update_dependents(&**engine, name).await
}

/// The whole way, top to bottom.
async fn steps(run: &Run, name: &ClusterName, options: &Options, settled: &AtomicBool) -> Result<Added> {
    let Booted { before, layout, facts, logins, front } = boot(run, name, options).await?;
    let new: Vec<NodeLayout> = layout.nodes[before.existing.nodes.len()..].to_vec();
    let names: Vec<String> = new.iter().map(|node| node.name.clone()).collect();
    let step = run.ui.step(format!(
        "Waiting until {} {} ready",
        names.join(", "),
        if names.len() == 1 { "is" } else { "are" }
    ));
    let run = &run.within(options.wait);
    let has_network = has_network(&before).await?;
    let ready = async {
        register(&before, &layout, &new, &facts, run).await?;
        wait::until_usable(&before.client, &names, run.deadline, &step, has_network).await
    };
    watched(run, &before.client, &names, Some(&step), ready).await?;
    // What lost its memory needs its credentials again.
    let mut forgetful = names.clone();
    if let Some(front) = front {
        let _last = LastSteps::current().begin();
        settled.store(true, Ordering::SeqCst);
        forgetful.extend(takeover::take_over(run, &before, &front, &facts, &layout, &step).await?);
    }
    update_dependents(&*run.engine, name).await?;
    step.finish();
    let mut warnings = Vec::new();
    if !has_network {
        warnings.push("no CNI plugin is installed, so the new nodes are not Ready".to_owned());
    }
    warnings.extend(log_in(run, name, &forgetful, &logins).await.err().map(|error| {
        format!("the new nodes have no credentials for registries: {error}; `coracle registry login` pushes them")
    }));
    let images = images::follow(run, &before.cluster, &names).await.unwrap_or_else(|error| {
        warnings.push(format!("the new nodes lack images that the other nodes have: {error}; load them again"));
        Images::default()
    });
    let version = facts::version(&facts);
    warnings.extend(other_proxy(&before.cluster, &version));
    warnings.extend(even(layout.control_planes().count()).filter(|_| options.node.role == Role::ControlPlane));
    Ok(Added { nodes: new, version, images, warnings })
}

/// A warning for nodes of another version: kube-proxy has the cluster's.
fn other_proxy(cluster: &Cluster, version: &str) -> Option<String> {
    let of_cluster = cluster.version.as_deref().filter(|other| *other != version)?;
    Some(format!(
        "kube-proxy has the cluster's version, {of_cluster}, which nodes with {version} pull from registry.k8s.io"
    ))
}

/// A warning for a number of control planes that protects from nothing more than one less.
fn even(planes: usize) -> Option<String> {
    let survives = (planes - 1) / 2;
    planes.is_multiple_of(2).then(|| {
        format!(
            "with {planes} control planes the cluster survives the loss of {survives}, as with {}: etcd needs more than half of \
             them; add one more",
            planes - 1
        )
    })
}

/// Credentials for the registries that the other nodes have some for, and why there are none if the host has none.
type Logins = (Vec<Registry>, Result<Vec<Login>>);

/// Nodes that were started, and what they were planned from.
struct Booted {
    before: Before,
    layout: Layout,
    facts: Facts,
    logins: Logins,
    /// The load balancer that new control planes need.
    front: Option<Front>,
}

/// Plans the nodes and starts them; again with what exists then, if another command was faster.
async fn boot(run: &Run, name: &ClusterName, options: &Options) -> Result<Booted> {
    let mut attempt = 1;
    loop {
        let step = run.ui.step("Reading the cluster's state");
        let (cluster, client) = running(&*run.engine, name).await?;
        let before = prepare::read(&*run.engine, cluster, client).await?;
        let new = vec![options.node.clone(); options.count];
        let only_new = ClusterConfig { nodes: new, ..before.members.config.clone() };
        let only_new = facts::choose_ports(&only_new, options.local)?;
        let layout = before.layout(&only_new.nodes, before.engine_host(&*run.engine));
        let layout = layout.map_err(|error| of_options(error, &before.cluster))?;
        let image = before.image(run, options.node.image.as_deref(), options.docker_config.as_deref(), &step).await?;
        if options.node.role == Role::ControlPlane {
            before.require_version(&image)?;
        }
        let logins = logins(run, &before, options).await?;
        let facts = new_facts(run, &before, &only_new, options, image, &logins).await;
        let facts = facts.map_err(|error| of_options(error, &before.cluster))?;
        step.finish();
        let mut plans = plan::added(&layout, before.existing.nodes.len(), &facts, &before.pki)?;
        for (plan, end) in plans.iter_mut().zip(before.end.iter().cycle()) {
            plan.files.text(EXPIRES, end);
        }
        if let Some(plane) = before.cluster.control_plane().filter(|_| options.node.role == Role::ControlPlane) {
            leads::copy(&*run.engine, &plane.name, plans.iter_mut().map(|plan| &mut plan.files)).await?;
        }
        let front = front(&before, &layout, &facts, options)?;
        let shown = run.ui.step(format!("Adding {}", counted(plans.len(), "node")));
        match start(run, &before, &layout, &plans, front.as_ref(), &shown).await {
            Ok(()) => {
                shown.finish();
                return Ok(Booted { before, layout, facts, logins, front });
            }
            Err(error) if attempt < MAX_ATTEMPTS && passes(&error, options) => {
                planes::withdraw(&run.engine, name, &run.id).await?;
                delete(&run.engine, &Scope::Run(run.id.clone())).await?;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What is wrong with a configuration, told to someone who typed options and wrote no file.
fn of_options(error: Error, cluster: &Cluster) -> Error {
    if error.problems().is_empty() {
        return error;
    }
    let named = |message: &str| {
        let nodes = cluster.nodes.iter().enumerate();
        nodes.fold(message.to_owned(), |text, (index, node)| text.replace(&format!("nodes[{index}]"), &node.name))
    };
    let problem = |problem: &Problem| Problem {
        place: "the new nodes".to_owned(),
        message: named(&problem.message),
        snippet: None,
    };
    let mut problems: Vec<Problem> = error.problems().iter().map(problem).collect();
    problems.dedup();
    Error::new(error.code(), format!("the nodes cannot be added to cluster `{}`", cluster.name)).with_problems(problems)
}

/// Another name or another port may do: another command was faster.
fn passes(error: &Error, options: &Options) -> bool {
    let mut ports = options.node.extra_port_mappings.iter();
    match error.code() {
        Code::PortTaken => ports.any(|port| port.host_port == 0),
        _ => error.reason() == Some(Reason::NameTaken),
    }
}

/// Makes the containers and starts them.
async fn start(
    run: &Run,
    before: &Before,
    layout: &Layout,
    plans: &[NodePlan],
    front: Option<&Front>,
    step: &Step,
) -> Result<()> {
    let engine = &*run.engine;
    let balancer = front.filter(|_| before.cluster.balancer.is_none()).map(|front| &front.plan);
    let specs: Vec<ContainerSpec> = plans.iter().chain(balancer).map(|plan| plan.spec.clone()).collect();
    let cluster = before.cluster.name.as_str();
    // The volumes that all nodes share are there already, and a container is another command's that was faster.
    let is_own = |found: &Labels| found.get(labels::CLUSTER).is_some_and(|name| name == cluster);
    let refusal = (Code::ClusterExists, None);
    ownership::require_free(engine, &Names::of(&specs), refusal, is_own).await?;
    // What is left of a node that had the name is not for another one.
    let own: Vec<String> = specs.iter().map(|spec| own_volume(&spec.name)).collect();
    for volume in engine.volumes(&[format!("{}={cluster}", labels::CLUSTER)]).await? {
        if own.contains(&volume.name) {
            engine.remove_volume(&volume.name).await.map_err(|error| error.with_reason(Reason::NameTaken))?;
        }
    }
    let Some(front) = front else { return provision::nodes(engine, plans, &before.network.id, step).await };
    planes::prepare(engine, before, front, step).await?;
    planes::join(run, before, &layout.nodes[layout.existed..], plans, step).await?;
    planes::announce(engine, before, front).await
}

/// The load balancer that new control planes need, and what it changes in the nodes that exist.
fn front(before: &Before, layout: &Layout, facts: &Facts, options: &Options) -> Result<Option<Front>> {
    let Some(image) = facts.images.first().filter(|_| options.node.role == Role::ControlPlane) else { return Ok(None) };
    let planned = plan::balancer(layout, image, facts, &before.pki)?;
    Ok(planned.map(|(mut plan, files)| {
        // The time that the cluster has now, and not what it had when it was created.
        before.end.iter().for_each(|end| plan.files.text(EXPIRES, end));
        Front { plan, files }
    }))
}

/// The facts for the new nodes.
async fn new_facts(
    run: &Run,
    before: &Before,
    only_new: &ClusterConfig,
    options: &Options,
    image: NodeImage,
    logins: &Logins,
) -> Result<Facts> {
    let images = vec![image; options.count];
    let settings = (before.network.mtu, before.proxy.clone());
    let known = logins.1.as_deref().unwrap_or_default();
    let mut facts = facts::for_added(run, only_new, options.local, known, settings, images).await?;
    if options.node.role == Role::ControlPlane {
        if before.cluster.balancer.is_none() {
            facts.balancer = facts::balancer(run, &facts.images).await?;
        }
        // Files of the control planes that exist are planned again.
        let config = &before.members.config;
        facts.patches.extend(patches::read(&run.ui, config, &vec![facts.images[0].clone(); config.nodes.len()])?);
    }
    // Nodes end with their cluster, and are told apart by this label from those of one that is gone.
    Ok(Facts { expires: before.cluster.expires, ..facts })
}

/// This host's credentials for the registries that the other nodes have some for.
async fn logins(run: &Run, before: &Before, options: &Options) -> Result<Logins> {
    let hosts = registry::known_hosts(&*run.engine, &before.cluster).await?;
    let entry = |host: &String| {
        let known = before.members.config.registries.iter().find(|registry| registry.host == *host).cloned();
        Registry { login: true, ..known.unwrap_or_else(|| Registry::new(host)) }
    };
    let registries: Vec<config::Registry> = hosts.iter().map(entry).collect();
    let logins = credentials::of_registries(options.docker_config.as_deref(), &registries).await;
    Ok((registries, logins))
}

/// Gives new nodes the credentials.
async fn log_in(run: &Run, name: &ClusterName, new: &[String], (registries, logins): &Logins) -> Result<()> {
    if registries.is_empty() {
        return Ok(());
    }
    let logins = logins.as_ref().map_err(Clone::clone)?;
    let mut cluster = found::get(&*run.engine, name).await?;
    cluster.nodes.retain(|node| new.contains(&node.name));
    registry::log_in(&*run.engine, &cluster, registries, logins).await.map(drop)
}

/// Creates the Node objects before the kubelets register. Those of former nodes with these names had other pod subnets.
async fn register(before: &Before, layout: &Layout, new: &[NodeLayout], facts: &Facts, run: &Run) -> Result<()> {
    let create = async |node: &NodeLayout| {
        let mut old = object::items(&before.objects).iter().filter(|object| object::name(object) == node.name);
        if let Some(old) = old.next() {
            drain::remove_node(&before.client, &node.name, old["metadata"]["uid"].as_str()).await?;
        }
        apply::create_node(&before.client, &objects::node(layout, node, &facts.engine), run.deadline).await
    };
    try_join_all(new.iter().map(create)).await.map(drop)
}

/// Whether nodes of this cluster become Ready: without a CNI plugin none is.
async fn has_network(before: &Before) -> Result<bool> {
    if !before.members.config.networking.disable_default_cni {
        return Ok(true);
    }
    for node in before.cluster.running() {
        let object = drain::find_node(&before.client, &node.name).await?;
        if object.is_some_and(|object| unready(&object).is_none()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_number_of_control_planes_is_warned_of() {
        assert_eq!((even(1), even(3), even(5)), (None, None, None));
        assert!(even(2).unwrap().starts_with("with 2 control planes the cluster survives the loss of 0, as with 1"));
        assert!(even(4).unwrap().starts_with("with 4 control planes the cluster survives the loss of 1, as with 3"));
    }
}
