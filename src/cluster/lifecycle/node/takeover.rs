//! The load balancer takes over the API's port of the host from the control plane that was alone until then.

use crate::cluster::found::{self, Cluster, Node};
use crate::cluster::lifecycle::bindings::published;
use crate::cluster::lifecycle::bootstrap::CNI_MANIFEST;
use crate::cluster::lifecycle::node::etcd;
use crate::cluster::lifecycle::node::planes::{Front, is_of, leads, run_in};
use crate::cluster::lifecycle::node::prepare::Before;
use crate::cluster::lifecycle::parts::Parts;
use crate::cluster::lifecycle::start;
use crate::cluster::run::Run;
use crate::cluster::upload::write_files;
use crate::config::Role;
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::engine::spec::Container;
use crate::error::{Code, Error, Result};
use crate::kubernetes::apply;
use crate::plan::layout::API_PORT;
use crate::plan::objects::ways;
use crate::plan::{Facts, FileTree, Layout};
use crate::ui::Step;

/// Ends the pods of a node as its own stop would, but for those that serve the API: they go on until the load balancer is ready
/// to start, so that no one waits for more than that.
const END_PODS: &str = "systemctl stop kubelet; crictl ps --output=json |
    jq --raw-output '.containers[] | select(.labels[\"io.kubernetes.pod.namespace\"] != \"kube-system\") | .id' |
    xargs --no-run-if-empty --max-procs=0 --max-args=1 crictl stop --timeout=20 >/dev/null";
/// Ends the API server at once, so that whoever waits for its answer hears that none comes.
const END_API: [&str; 4] = ["pkill", "--signal", "KILL", "kube-apiserver"];
/// Has a worker use the changed way to the API: its first pods, and its kubelet.
const RESTART: &str =
    "nft --file /etc/coracle/api-service.nft 2>/dev/null; systemctl daemon-reload && systemctl restart kubelet";

/// Gives the API's port of the host to the load balancer. The control plane that had it is recreated without it; meanwhile the
/// others answer. Returns the name of that control plane, which has lost what was in its memory.
///
/// A command that is killed in the middle of it is completed by `start`.
pub(super) async fn take_over(
    run: &Run,
    before: &Before,
    front: &Front,
    facts: &Facts,
    layout: &Layout,
    step: &Step,
) -> Result<Option<String>> {
    let engine = &*run.engine;
    let balancer = found::get(engine, &before.cluster.name).await?.balancer;
    let Some(balancer) = balancer.filter(|balancer| !leads(balancer)) else { return Ok(None) };
    let Some((old, files)) = holder(&before.cluster, front) else { return Ok(None) };
    let others = etcd::members(engine, &old.name).await?;
    if let Some(other) = others.iter().find(|member| !member.is_learner && !is_of(member, old)) {
        // Otherwise the others elect one of them.
        let _ = etcd::hand_over(engine, &old.name, other.id).await;
    }
    step.detail(&old.name, "ending its pods");
    let failed = Error::new(Code::StepFailed, "its pods cannot be ended").on_node(&old.name);
    // Those that do not end in time are killed with their node.
    let _ = run_in(engine, &old.name, &["sh", "-c", END_PODS], failed).await;
    // Without its kubelet, nothing of it begins to use these files before the node starts again.
    write_files(engine, &old.container.id, files).await?;
    step.detail(&balancer.name, "getting the API's port of the host");
    if let Err(error) = swap(engine, &balancer, old, front).await {
        give_back(engine, &balancer, old).await;
        return Err(error.on_node(&balancer.name));
    }
    step.detail(&old.name, "restarting behind the load balancer");
    engine.stop_container(&old.container.id, 0).await?;
    reconnect(engine, old).await?;
    let mut own = published(engine, &old.container.id).await?;
    own.retain(|port| port.container_port != API_PORT);
    let anew = engine.republish(&old.container.id, &own, &old.container.labels).await?;
    engine.start_container(&anew).await?;
    lead_others(engine, &before.cluster, front).await?;
    apply_ways(run, before, facts, layout).await?;
    let parts = Parts::of_nodes(engine, Some(&before.cluster.name), std::slice::from_ref(&old.name)).await?;
    start::until_usable(run, &parts).await?;
    Ok(Some(old.name.clone()))
}

/// The control plane that publishes the API's port, and what changes in it.
fn holder<'c>(cluster: &'c Cluster, front: &'c Front) -> Option<(&'c Node, &'c FileTree)> {
    let mut nodes = cluster.nodes.iter().zip(&front.files);
    nodes.find(|(node, _)| node.role == Role::ControlPlane && leads(&node.container))
}

/// Takes the port from the control plane, and starts the load balancer with it.
async fn swap(engine: &dyn Engine, balancer: &Container, old: &Node, front: &Front) -> Result<()> {
    let ready = engine.republish(&balancer.id, &front.plan.spec.ports, &balancer.labels).await?;
    // To end takes it a second or two. Without its only network it has no ports of the host either, and that is quick.
    if let [network] = &old.container.networks[..] {
        let failed = Error::new(Code::StepFailed, "its API server cannot be ended").on_node(&old.name);
        let _ = run_in(engine, &old.name, &END_API, failed).await;
        engine.disconnect_network(network, &old.container.id).await?;
    } else {
        engine.stop_container(&old.container.id, 0).await?;
    }
    engine.start_container(&ready).await
}

/// Gives the control plane its network and its addresses back.
async fn reconnect(engine: &dyn Engine, old: &Node) -> Result<()> {
    match &old.container.networks[..] {
        [network] => engine.connect_network(network, &old.container.id, &old.name, &old.addresses).await,
        _ => Ok(()),
    }
}

/// Everything as it was, as far as that can be had: the reason why the port could not change is the one that is told.
async fn give_back(engine: &dyn Engine, balancer: &Container, old: &Node) {
    if let Ok(without) = engine.republish(&balancer.name, &[], &balancer.labels).await {
        let _ = engine.start_container(&without).await;
    }
    let _ = reconnect(engine, old).await;
    let _ = engine.start_container(&old.container.id).await;
    let failed = Error::new(Code::StepFailed, "its kubelet cannot be started");
    let _ = run_in(engine, &old.name, &["systemctl", "start", "kubelet"], failed).await;
}

/// Has the workers that exist reach the API through the load balancer; those that do not run do so when they start.
async fn lead_others(engine: &dyn Engine, cluster: &Cluster, front: &Front) -> Result<()> {
    let workers = cluster.nodes.iter().zip(&front.files).filter(|(node, _)| node.role == Role::Worker);
    for (node, files) in workers {
        write_files(engine, &node.container.id, files).await?;
        if node.is_running() {
            let failed = Error::new(Code::StepFailed, "its kubelet cannot be restarted").on_node(&node.name);
            run_in(engine, &node.name, &["sh", "-c", RESTART], failed).await?;
        }
    }
    Ok(())
}

/// Has what runs on every node reach the API through the load balancer.
async fn apply_ways(run: &Run, before: &Before, facts: &Facts, layout: &Layout) -> Result<()> {
    let Some(image) = facts.images.first() else { return Ok(()) };
    let via = before.cluster.control_plane().map(|node| node.name.as_str()).unwrap_or_default();
    let cni = read_file(&*run.engine, via, CNI_MANIFEST).await?.unwrap_or_default();
    for object in ways(layout, &image.images, &String::from_utf8_lossy(&cni), facts.privilege)? {
        apply::apply(&before.client, &object, run.deadline).await?;
    }
    Ok(())
}
