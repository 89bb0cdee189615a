//! From a plan to running containers: a network, then all nodes at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::SharedEngine;
use crate::engine::spec::{ContainerSpec, NetworkSpec, Privilege};
use crate::error::{Code, Error, Reason, Result};
use crate::plan::subnet::NodeSubnets;
use crate::plan::{NodePlan, labels};
use crate::ui::Step;

/// How long two networks of one name may be there while containers start.
const TWO_NETWORKS: Duration = Duration::from_secs(10);

/// Engine calls that change something: they run to their end even when the command is interrupted, so that what they
/// made can be found and removed.
#[derive(Clone)]
pub struct Calls {
    /// The engine.
    pub engine: SharedEngine,
    tracker: TaskTracker,
    cancelled: CancellationToken,
}

impl Calls {
    /// No call is under way.
    pub fn new(engine: SharedEngine) -> Self {
        Self { engine, tracker: TaskTracker::new(), cancelled: CancellationToken::new() }
    }

    /// Runs a call to its end, unless the command was interrupted before it began.
    pub async fn run<T, F>(&self, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if self.cancelled.is_cancelled() {
            return Err(interrupted());
        }
        self.tracker
            .spawn(call)
            .await
            .map_err(|source| Error::new(Code::StepFailed, "an engine call was lost").cause(&source))?
    }

    /// Starts no further call, and waits for those under way.
    pub async fn settle(&self) {
        self.cancelled.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// The error of an interrupted command.
pub fn interrupted() -> Error {
    Error::new(Code::Interrupted, "interrupted")
}

/// A container of a run that is only looked into, never started.
pub fn throw_away(name: &str, image: &str, run: &str) -> ContainerSpec {
    ContainerSpec {
        entrypoint: Some(vec!["/bin/true".to_owned()]),
        labels: BTreeMap::from([(labels::RUN.to_owned(), run.to_owned())]),
        ..ContainerSpec::new(name, image)
    }
}

/// Creates the network with the first of the subnets that is free, and returns its ID and subnets.
pub async fn network(
    calls: &Calls,
    choices: &[NodeSubnets],
    spec: impl Fn(NodeSubnets) -> Result<NetworkSpec>,
) -> Result<(String, NodeSubnets)> {
    let mut last = None;
    for subnets in choices {
        let (engine, spec) = (Arc::clone(&calls.engine), spec(*subnets)?);
        match calls.run(async move { engine.create_network(&spec).await }).await {
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
async fn node(calls: Calls, mut node: NodePlan, mut created: Option<String>, limited: Arc<AtomicBool>) -> Result<()> {
    loop {
        if limited.load(Ordering::Relaxed) && node.spec.privilege == Privilege::Privileged {
            node.spec.privilege = Privilege::Explicit;
        }
        match once(&calls, &node, created.take()).await {
            // The engine cannot grant every capability: the explicit form leaves out the one that is missing.
            Err((Some(id), error)) if is_capability(&node, &error) => {
                limited.store(true, Ordering::Relaxed);
                let engine = Arc::clone(&calls.engine);
                calls.run(async move { engine.remove_container(&id).await }).await?;
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

async fn make(calls: &Calls, node: &NodePlan) -> Result<String> {
    let (engine, spec) = (Arc::clone(&calls.engine), node.spec.clone());
    calls.run(async move { engine.create_container(&spec).await }).await
}

async fn once(calls: &Calls, node: &NodePlan, created: Option<String>) -> Result<(), (Option<String>, Error)> {
    let id = match created {
        Some(id) => id,
        None => make(calls, node).await.map_err(|error| (None, error))?,
    };
    let failed = |error| (Some(id.clone()), error);
    let tar = node.files.to_tar(now()).map_err(failed)?;
    let (engine, target) = (Arc::clone(&calls.engine), id.clone());
    calls.run(async move { engine.upload(&target, tar).await }).await.map_err(failed)?;
    start(calls, &id).await.map_err(failed)
}

/// Starts a container. The engine finds its network by name, of which there are two while another run that was too late for
/// the cluster's name has not removed its own.
async fn start(calls: &Calls, id: &str) -> Result<()> {
    let until = Instant::now() + TWO_NETWORKS;
    loop {
        let (engine, target) = (Arc::clone(&calls.engine), id.to_owned());
        match calls.run(async move { engine.start_container(&target).await }).await {
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
pub async fn nodes(calls: &Calls, nodes: &[NodePlan], network: &str, step: &Step) -> Result<()> {
    let limited = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    let mut claim = None;
    for (index, plan) in nodes.iter().enumerate() {
        step.detail(&plan.spec.name, "creating");
        let name = plan.spec.name.clone();
        let mut plan = plan.clone();
        plan.spec.network = Some(network.to_owned());
        if index == 0 {
            claim = Some(make(calls, &plan).await.map_err(|error| error.on_node(&name))?);
        }
        let work = node(calls.clone(), plan, claim.take(), Arc::clone(&limited));
        tasks.spawn(async move { (name, work.await) });
    }
    let mut first = Ok(());
    // Every task is awaited, also after a failure: nothing may still be creating while the clean-up looks around.
    while let Some(ended) = tasks.join_next().await {
        let (name, result) = ended.map_err(|source| Error::new(Code::StepFailed, "a task was lost").cause(&source))?;
        match result {
            Ok(()) => step.detail(&name, "started"),
            Err(error) if first.is_ok() => first = Err(error),
            Err(_) => {}
        }
    }
    first
}
