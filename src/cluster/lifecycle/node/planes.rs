//! Control planes that come to a cluster and leave it, while it runs: members of etcd first, one after the other, and a load
//! balancer in front as soon as there is more than one.

use std::time::Duration;

use tokio::time::sleep;

use crate::cluster::found::{self, Cluster, Node};
use crate::cluster::health::watch::watched;
use crate::cluster::lifecycle::delete::remove_container;
use crate::cluster::lifecycle::node::etcd::{self, Member};
use crate::cluster::lifecycle::node::prepare::Before;
use crate::cluster::lifecycle::provision;
use crate::cluster::run::Run;
use crate::cluster::upload::write_files;
use crate::config::{ClusterName, Role};
use crate::engine::files::{read_file, run};
use crate::engine::spec::Container;
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::plan::beside::balancer::CONFIG;
use crate::plan::labels::{self, ContainerRole};
use crate::plan::layout::API_PORT;
use crate::plan::{FileTree, NodeLayout, NodePlan};
use crate::ui::Step;

/// How long the node of a member that was added may take to exist.
const NODE_FOLLOWS: Duration = Duration::from_secs(5);
/// Has HAProxy read its configuration again, which no connection notices.
const RELOAD: [&str; 5] = ["pkill", "--signal", "USR2", "--oldest", "haproxy"];

/// The load balancer of a cluster that had none, or another list of control planes for it.
pub(super) struct Front {
    pub(super) plan: NodePlan,
    /// What changes in each of the nodes that exist, in their order.
    pub(super) files: Vec<FileTree>,
}

/// Whether the load balancer has the API's port of the host.
pub(super) fn leads(balancer: &Container) -> bool {
    balancer.ports.iter().any(|port| port.container_port == API_PORT)
}

/// Starts the load balancer of a cluster that has none, still without the port of the host.
pub(super) async fn prepare(engine: &dyn Engine, before: &Before, front: &Front, step: &Step) -> Result<()> {
    if before.cluster.balancer.is_some() {
        return Ok(());
    }
    let mut plan = front.plan.clone();
    plan.spec.ports.clear();
    provision::nodes(engine, &[plan], &before.network.id, step).await
}

/// Tells a load balancer that existed before of the new control planes.
pub(super) async fn announce(engine: &dyn Engine, before: &Before, front: &Front) -> Result<()> {
    let Some(balancer) = &before.cluster.balancer else { return Ok(()) };
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
    let via = &remove_strays(engine, &before.cluster).await?;
    for (node, plan) in new.iter().zip(plans) {
        // The name first: of two commands that want it only one gets it, and only that one has a member of this name.
        let container = provision::claim(engine, plan, &before.network.id).await?;
        let id = etcd::add(engine, via, &node.name, node.address).await?;
        let joined = async {
            provision::start_claimed(engine, plan, &before.network.id, container, step).await?;
            step.detail(&node.name, "waiting until its etcd has all data");
            let votes = etcd::promote(engine, via, id, run.deadline);
            watched(run, &before.client, std::slice::from_ref(&node.name), Some(step), votes).await
        };
        if let Err(error) = joined.await {
            // Without it, the others could lose their majority for someone who never comes.
            let _ = etcd::remove(engine, via, id).await;
            return Err(error);
        }
    }
    Ok(())
}

/// Removes members whose nodes do not exist, which a command that was killed has left, and returns the control plane that was
/// asked.
async fn remove_strays(engine: &dyn Engine, cluster: &Cluster) -> Result<String> {
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
            // What has left is asked by no one any more.
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

pub(super) fn is_of(member: &Member, node: &Node) -> bool {
    node.addresses.first().is_some_and(|address| member.is_of(&node.name, *address))
}

pub(super) async fn run_in(engine: &dyn Engine, node: &str, command: &[&str], failed: Error) -> Result<()> {
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

/// Fails if etcd would refuse to let control planes of these names go: what is lost already counts among its members, also
/// without a container.
pub(super) async fn require_majority(engine: &dyn Engine, cluster: &Cluster, names: &[String]) -> Result<()> {
    let (_, members) = member(engine, cluster, names).await?;
    let voters: Vec<&Member> = members.iter().filter(|member| !member.is_learner).collect();
    let state = |member: &&Member| {
        let node = cluster.nodes.iter().find(|node| is_of(member, node));
        let name = node.map_or(&member.name, |node| &node.name);
        (node.is_some_and(Node::is_running), names.contains(name))
    };
    let states: Vec<(bool, bool)> = voters.iter().map(state).collect();
    if can_go(&states) {
        return Ok(());
    }
    let lost = voters.iter().zip(&states).filter(|(_, state)| **state == (false, false));
    let lost: Vec<String> = lost.map(|(member, _)| format!("`{}`", member.name)).collect();
    Err(Error::new(Code::NodeInUse, format!("cluster `{}` would lose its API", cluster.name))
        .because(format!("etcd needs more than half of its members, and these do not run: {}", lost.join(", ")))
        .hint(format!("remove them with the same command, or start them first: `coracle start {}`", cluster.name)))
}

/// Whether etcd lets members go, of which it is known whether they run and whether they are to go: those that do not run at
/// any time, another one only while more than half of the rest are connected (`mayRemoveMember` of its server).
fn can_go(voters: &[(bool, bool)]) -> bool {
    let mut all = voters.iter().filter(|voter| **voter != (false, true)).count();
    let mut active = voters.iter().filter(|(runs, _)| *runs).count();
    for _ in voters.iter().filter(|voter| **voter == (true, true)) {
        if active.saturating_sub(1) < 1 + all.saturating_sub(1) / 2 {
            return false;
        }
        (all, active) = (all - 1, active - 1);
    }
    true
}

/// Takes control planes out of the load balancer and out of etcd, and removes the container of each at once: its API server has
/// no data any more.
pub(super) async fn leave(shared: &SharedEngine, cluster: &Cluster, names: &[String]) -> Result<()> {
    let engine = &**shared;
    let node_of = |name: &String| cluster.nodes.iter().find(|node| node.name == *name);
    // A container that is gone may have been a control plane's, where there are several.
    let is_worker = |name: &String| match node_of(name) {
        Some(node) => node.role == Role::Worker,
        None => cluster.balancer.is_none(),
    };
    if names.iter().all(is_worker) {
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
    // Those that do not run first: etcd removes no other one while half of its members are lost.
    let mut ordered: Vec<&String> = names.iter().collect();
    ordered.sort_by_key(|name| node_of(name).is_some_and(Node::is_running));
    for name in ordered {
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
    let plane = Some(ContainerRole::Node(Role::ControlPlane));
    let is_plane = |container: &Container| ContainerRole::of(&container.labels) == plane;
    let names: Vec<String> = made.into_iter().filter(is_plane).map(|container| container.name).collect();
    if names.is_empty() {
        return Ok(());
    }
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
