//! From a plan to running containers: a network, then all nodes at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::engine::Engine;
use crate::engine::spec::{NetworkSpec, Privilege};
use crate::error::{Code, Error, Reason, Result};
use crate::plan::NodePlan;
use crate::plan::subnet::NodeSubnets;
use crate::ui::Step;

/// How long two networks of one name may be there while containers start.
const TWO_NETWORKS: Duration = Duration::from_secs(10);

/// Creates the network with the first of the subnets that is free, and returns its ID and subnets.
pub async fn network(
    engine: &dyn Engine,
    choices: &[NodeSubnets],
    spec: impl Fn(NodeSubnets) -> Result<NetworkSpec>,
) -> Result<(String, NodeSubnets)> {
    let mut last = None;
    for subnets in choices {
        match engine.create_network(&spec(*subnets)?).await {
            Ok(id) => return Ok((id, *subnets)),
            // Somebody was faster, or has a route there that we cannot see: the next one.
            Err(error) if error.code() == Code::SubnetClash => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(no_subnet))
}

/// The error of a host where every subnet is taken.
pub fn no_subnet() -> Error {
    Error::new(Code::SubnetClash, "there is no free subnet for the cluster's network")
        .because("every private range is used by a network of the engine or a route of this host")
        .hint("remove unused networks (`docker network prune`), or set `networking.nodeSubnet`")
}

/// Creates one container, unless it is there already, gives it its files and starts it.
async fn node(
    engine: &dyn Engine,
    mut node: NodePlan,
    mut created: Option<String>,
    limited: &AtomicBool,
) -> Result<()> {
    loop {
        if limited.load(Ordering::Relaxed) && node.spec.privilege == Privilege::Privileged {
            node.spec.privilege = Privilege::AllButSysResource;
        }
        match once(engine, &node, created.take()).await {
            // The engine cannot grant every capability: the explicit form leaves out the one that is missing.
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
    node.spec.privilege == Privilege::Privileged && error.reason() == Some(Reason::CapabilityMissing)
}

/// Seconds since the epoch: when files were made.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default()
}

async fn make(engine: &dyn Engine, node: &NodePlan) -> Result<String> {
    engine.create_container(&node.spec).await
}

async fn once(engine: &dyn Engine, node: &NodePlan, created: Option<String>) -> Result<(), (Option<String>, Error)> {
    let id = match created {
        Some(id) => id,
        None => make(engine, node).await.map_err(|error| (None, error))?,
    };
    let failed = |error| (Some(id.clone()), error);
    let tar = node.files.to_tar(now()).map_err(failed)?;
    engine.upload(&id, tar).await.map_err(failed)?;
    start(engine, &id).await.map_err(failed)
}

/// Starts a container. The engine finds its network by name, of which there are two while another run that was too late for
/// the cluster's name has not removed its own.
async fn start(engine: &dyn Engine, id: &str) -> Result<()> {
    let until = Instant::now() + TWO_NETWORKS;
    loop {
        match engine.start_container(id).await {
            Err(error) if error.reason() != Some(Reason::NetworkAmbiguous) => return Err(error),
            Err(error) if Instant::now() > until => {
                return Err(
                    error.hint("`docker network ls` shows two networks of this name: remove the one that is not used")
                );
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            Ok(()) => return Ok(()),
        }
    }
}

/// Creates the first container, which claims the cluster's name, then the others, and starts all at once.
///
/// Were all created at once, two runs of one name could each get one of the containers, and both would fail.
pub async fn nodes(engine: &dyn Engine, nodes: &[NodePlan], network: &str, step: &Step) -> Result<()> {
    let limited = AtomicBool::new(false);
    let mut work = Vec::new();
    let mut claim = None;
    for (index, plan) in nodes.iter().enumerate() {
        step.detail(&plan.spec.name, "creating");
        let mut plan = plan.clone();
        plan.spec.network = Some(network.to_owned());
        if index == 0 {
            claim = Some(make(engine, &plan).await.map_err(|error| error.on_node(&plan.spec.name))?);
        }
        let (name, claimed, limited) = (plan.spec.name.clone(), claim.take(), &limited);
        work.push(async move {
            node(engine, plan, claimed, limited).await?;
            step.detail(&name, "started");
            Ok(())
        });
    }
    // Every node is awaited, also after a failure: nothing may still be creating while the clean-up looks around.
    join_all(work).await.into_iter().collect()
}
