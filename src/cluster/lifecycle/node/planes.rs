//! Control planes that come to a cluster and leave it, while it runs: members of etcd first, one after the other, and a load
//! balancer in front as soon as there is more than one.

use std::time::Duration;

use tokio::time::sleep;

use crate::cluster::found::{self, Cluster, Node};
use crate::cluster::health::watch::watched;
use crate::cluster::lifecycle::bindings::bindings;
use crate::cluster::lifecycle::bootstrap::CNI_MANIFEST;
use crate::cluster::lifecycle::delete::remove_container;
use crate::cluster::lifecycle::node::etcd::{self, Member};
use crate::cluster::lifecycle::node::prepare::Before;
use crate::cluster::lifecycle::parts::Parts;
use crate::cluster::lifecycle::{provision, start};
use crate::cluster::run::Run;
use crate::cluster::upload::write_files;
use crate::config::{ClusterName, Role};
use crate::engine::files::{read_file, run};
use crate::engine::spec::{Container, PortBinding};
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::kubernetes::apply;
use crate::plan::beside::balancer::CONFIG;
use crate::plan::layout::API_PORT;
use crate::plan::objects::ways;
use crate::plan::{Facts, FileTree, Layout, NodeLayout, NodePlan, labels};
use crate::ui::Step;

/// Ends the pods of a node as its own stop would, but for those that serve the API: they go on until the node is killed, so
/// that nobody waits for more than the start of a container.
const END_PODS: &str = "systemctl stop kubelet; crictl ps --output=json |
    jq --raw-output '.containers[] | select(.labels[\"io.kubernetes.pod.namespace\"] != \"kube-system\") | .id' |
    xargs --no-run-if-empty --max-procs=0 --max-args=1 crictl stop --timeout=20 >/dev/null";
/// How long the node of a member that was added may take to exist.
const NODE_FOLLOWS: Duration = Duration::from_secs(5);
/// Has a worker use the changed way to the API: its first pods, and its kubelet.
const RESTART: &str =
    "nft --file /etc/coracle/api-service.nft 2>/dev/null; systemctl daemon-reload && systemctl restart kubelet";
/// Has HAProxy read its configuration again, which no connection notices.
const RELOAD: [&str; 5] = ["pkill", "--signal", "USR2", "--oldest", "haproxy"];

/// The load balancer of a cluster that had none, or another list of control planes for it.
pub(super) struct Front {
    pub(super) plan: NodePlan,
    /// What changes in each of the nodes that exist, in their order.
    pub(super) files: Vec<FileTree>,
}

/// Whether the load balancer has the API's port of the host.
fn leads(balancer: &Container) -> bool {
    balancer.ports.iter().any(|port| port.container_port == API_PORT)
}

/// Starts the load balancer, still without the port of the host, or tells the one that exists of the new control planes.
pub(super) async fn prepare(engine: &dyn Engine, before: &Before, front: &Front, step: &Step) -> Result<()> {
    let Some(balancer) = &before.cluster.balancer else {
        let mut plan = front.plan.clone();
        plan.spec.ports.clear();
        return provision::nodes(engine, &[plan], &before.network.id, step).await;
    };
    write_files(engine, &balancer.id, &front.plan.files.clone().only(&[CONFIG])).await?;
    reload(engine, &balancer.name).await
}

/// Starts the new control planes, one after the other: each is a member of etcd that votes before the next one comes.
pub(super) async fn join(
    run: &Run,
    before: &Before,
    new: &[NodeLayout],
    plans: &[NodePlan],
    step: &Step,
) -> Result<()> {
    let engine = &*run.engine;
    let via = &forget_strays(engine, &before.cluster).await?;
    for (node, plan) in new.iter().zip(plans) {
        let id = etcd::add(engine, via, &node.name, node.address).await?;
        let joined = async {
            provision::nodes(engine, std::slice::from_ref(plan), &before.network.id, step).await?;
            step.detail(&node.name, "waiting until its etcd has all data");
            let votes = etcd::promote(engine, via, id, run.deadline);
            watched(run, &before.client, std::slice::from_ref(&node.name), Some(step), votes).await
        };
        if let Err(error) = joined.await {
            // Without it, the others could lose their majority for somebody who never comes.
            let _ = etcd::remove(engine, via, id).await;
            return Err(error);
        }
    }
    Ok(())
}

/// Removes members whose nodes do not exist, which a command that was killed has left, and returns the control plane that was
/// asked.
async fn forget_strays(engine: &dyn Engine, cluster: &Cluster) -> Result<String> {
    let (via, members) = member(engine, cluster, &[]).await?;
    let strays = |cluster: &Cluster, members: &[Member]| -> Vec<u64> {
        let is_stray = |member: &&Member| cluster.nodes.iter().all(|node| !is_of(member, node));
        members.iter().filter(is_stray).map(|member| member.id).collect()
    };
    let first = strays(cluster, &members);
    if first.is_empty() {
        return Ok(via.name.clone());
    }
    // Another command may be about to make the node of one.
    sleep(NODE_FOLLOWS).await;
    let now = found::get(engine, &cluster.name).await?;
    let left = strays(&now, &etcd::members(engine, &via.name).await?);
    for id in first.iter().filter(|id| left.contains(id)) {
        etcd::remove(engine, &via.name, *id).await?;
    }
    Ok(via.name.clone())
}

/// A control plane with a member of etcd that answers, which is none of these, and all members.
async fn member<'c>(engine: &dyn Engine, cluster: &'c Cluster, but: &[String]) -> Result<(&'c Node, Vec<Member>)> {
    let mut last = Error::new(Code::NodeInUse, format!("no other control plane of cluster `{}` runs", cluster.name))
        .hint(format!("start them: `coracle start {}`", cluster.name));
    for node in cluster.running().filter(|node| node.role == Role::ControlPlane && !but.contains(&node.name)) {
        match etcd::members(engine, &node.name).await {
            Ok(members) if members.iter().any(|member| is_of(member, node)) => return Ok((node, members)),
            // What has left is asked by nobody any more.
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Gives the API's port of the host to the load balancer. The control plane that had it is made anew without it; meanwhile the
/// others answer.
pub(super) async fn take_over(
    run: &Run,
    before: &Before,
    front: &Front,
    facts: &Facts,
    layout: &Layout,
    step: &Step,
) -> Result<()> {
    let engine = &*run.engine;
    let balancer = found::get(engine, &before.cluster.name).await?.balancer;
    let Some(balancer) = balancer.filter(|balancer| !leads(balancer)) else { return Ok(()) };
    let Some((old, files)) = holder(&before.cluster, front) else { return Ok(()) };
    step.detail(&balancer.name, "getting the API's port of the host");
    let ready = engine.republish(&balancer.id, &front.plan.spec.ports, &balancer.labels).await?;
    let others = etcd::members(engine, &old.name).await?;
    if let Some(other) = others.iter().find(|member| !member.is_learner && !is_of(member, old)) {
        // Otherwise the others elect one of them.
        let _ = etcd::hand_over(engine, &old.name, other.id).await;
    }
    let failed = Error::new(Code::StepFailed, "its pods cannot be ended").on_node(&old.name);
    run_in(engine, &old.name, &["sh", "-c", END_PODS], failed).await?;
    engine.stop_container(&old.container.id, 0).await?;
    if let Err(error) = engine.start_container(&ready).await {
        engine.start_container(&old.container.id).await?;
        return Err(error.on_node(&balancer.name));
    }
    step.detail(&old.name, "restarting behind the load balancer");
    write_files(engine, &old.container.id, files).await?;
    let inspected = engine.inspect(&old.container.id).await?;
    let own = inspected.map(|inspected| bindings(&inspected.description)).unwrap_or_default();
    let own: Vec<PortBinding> = own.into_iter().filter(|port| port.container_port != API_PORT).collect();
    let anew = engine.republish(&old.container.id, &own, &old.container.labels).await?;
    engine.start_container(&anew).await?;
    lead_others(engine, &before.cluster, front).await?;
    apply_ways(run, before, facts, layout).await?;
    let parts = Parts::of_nodes(engine, Some(&before.cluster.name), std::slice::from_ref(&old.name)).await?;
    start::until_usable(run, &parts).await.map(drop)
}

/// The control plane that publishes the API's port, and what changes in it.
fn holder<'c>(cluster: &'c Cluster, front: &'c Front) -> Option<(&'c Node, &'c FileTree)> {
    let mut nodes = cluster.nodes.iter().zip(&front.files);
    nodes.find(|(node, _)| node.role == Role::ControlPlane && leads(&node.container))
}

fn is_of(member: &Member, node: &Node) -> bool {
    node.addresses.first().is_some_and(|address| member.is_of(&node.name, *address))
}

/// Has the workers that exist reach the API through the load balancer.
async fn lead_others(engine: &dyn Engine, cluster: &Cluster, front: &Front) -> Result<()> {
    let workers = cluster.nodes.iter().zip(&front.files).filter(|(node, _)| node.role == Role::Worker);
    for (node, files) in workers.filter(|(node, _)| node.is_running()) {
        write_files(engine, &node.container.id, files).await?;
        let failed = Error::new(Code::StepFailed, "its kubelet cannot be restarted").on_node(&node.name);
        run_in(engine, &node.name, &["sh", "-c", RESTART], failed).await?;
    }
    Ok(())
}

/// Has what runs on every node reach the API through the load balancer.
async fn apply_ways(run: &Run, before: &Before, facts: &Facts, layout: &Layout) -> Result<()> {
    let Some(image) = facts.images.first() else { return Ok(()) };
    let via = before.cluster.control_plane().map(|node| node.name.as_str()).unwrap_or_default();
    let cni = read_file(&*run.engine, via, CNI_MANIFEST).await?.unwrap_or_default();
    for object in ways(layout, &image.images, &String::from_utf8_lossy(&cni))? {
        apply::apply(&before.client, &object, run.deadline).await?;
    }
    Ok(())
}

async fn run_in(engine: &dyn Engine, node: &str, command: &[&str], failed: Error) -> Result<()> {
    run(engine, node, command, None, failed).await.map(drop)
}

async fn reload(engine: &dyn Engine, balancer: &str) -> Result<()> {
    let failed = Error::new(Code::StepFailed, "the load balancer does not read its configuration again");
    run_in(engine, balancer, &RELOAD, failed.on_node(balancer)).await
}

/// Fails if control planes of these names cannot go: the last one, one without which etcd has no majority, or the one that has
/// the API's port of the host.
pub(super) fn require_others(cluster: &Cluster, names: &[String]) -> Result<()> {
    let stays = |node: &&Node| node.role == Role::ControlPlane && !names.contains(&node.name);
    let left = cluster.nodes.iter().filter(stays).count();
    let running = cluster.running().filter(stays).count();
    if left == 0 {
        return Err(Error::new(Code::NodeInUse, "the last control plane cannot be removed")
            .because("the cluster would be gone")
            .hint(format!("delete the cluster: `coracle delete cluster --name {}`", cluster.name)));
    }
    if running * 2 <= left {
        return Err(Error::new(Code::NodeInUse, format!("cluster `{}` would lose its API", cluster.name))
            .because(format!("etcd needs more than half of its members, and {running} of the other {left} would run"))
            .hint(format!("start the others first: `coracle start {}`", cluster.name)));
    }
    if let Some(node) = cluster.nodes.iter().find(|node| names.contains(&node.name) && leads(&node.container)) {
        return Err(Error::new(Code::NodeInUse, format!("`{}` cannot be removed", node.name))
            .because("the API's port of this host leads to it, since no load balancer has it yet")
            .hint("add a control plane, which hands the port over, or remove the other ones instead"));
    }
    Ok(())
}

/// Takes control planes out of the load balancer and out of etcd, and removes the container of each at once: its API server has
/// no data any more.
pub(super) async fn leave(shared: &SharedEngine, cluster: &Cluster, names: &[String]) -> Result<()> {
    let engine = &**shared;
    let node_of = |name: &String| cluster.nodes.iter().find(|node| node.name == *name);
    // A container that is gone may have been a control plane's.
    if names.iter().all(|name| node_of(name).is_some_and(|node| node.role == Role::Worker)) {
        return Ok(());
    }
    let (via, members) = member(engine, cluster, names).await?;
    if let Some(balancer) = &cluster.balancer {
        let text = read_file(engine, &balancer.id, CONFIG).await?.unwrap_or_default();
        let mut files = FileTree::default();
        files.text(CONFIG, without(&String::from_utf8_lossy(&text), names));
        write_files(engine, &balancer.id, &files).await?;
        if balancer.is_running() {
            reload(engine, &balancer.name).await?;
        }
    }
    let heir = members.iter().find(|member| is_of(member, via)).map(|member| member.id);
    for name in names {
        let node = node_of(name);
        let is_own = |member: &&Member| member.name == *name || node.is_some_and(|node| is_of(member, node));
        let Some(member) = members.iter().find(is_own) else { continue };
        if let (Some(node), Some(heir)) = (node.filter(|node| node.is_running()), heir) {
            // One that does not answer does not lead either.
            let _ = etcd::hand_over(engine, &node.name, heir).await;
        }
        etcd::remove(engine, &via.name, member.id).await?;
        if let Some(node) = node {
            remove_container(shared, &node.container).await?;
        }
    }
    Ok(())
}

/// Takes the control planes that a run has made back out of a cluster, if it still exists.
pub(super) async fn withdraw(engine: &SharedEngine, name: &ClusterName, run: &str) -> Result<()> {
    let made = engine.containers(&[format!("{}={run}", labels::RUN)]).await?;
    let names: Vec<String> = made.into_iter().map(|container| container.name).collect();
    match found::get(&**engine, name).await {
        Ok(cluster) => leave(engine, &cluster, &names).await,
        Err(error) if error.code() == Code::ClusterNotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// HAProxy's configuration without the servers of these names.
fn without(text: &str, names: &[String]) -> String {
    let is_of = |line: &&str| {
        let mut words = line.split_whitespace();
        words.next() == Some("server") && words.next().is_some_and(|name| names.iter().any(|other| other == name))
    };
    text.lines().filter(|line| !is_of(line)).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
#[path = "planes_tests.rs"]
mod tests;
