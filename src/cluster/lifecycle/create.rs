//! `create cluster`: from a configuration to a cluster that can be used.

use std::time::Duration;

use futures_util::future::try_join;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::cluster::access;
use crate::cluster::contents::{self, Contents};
use crate::cluster::health::dns::until_dns_stays;
use crate::cluster::health::wait::{conditions, until_usable};
use crate::cluster::health::watch::watched;
use crate::cluster::lifecycle::delete::{Scope, delete};
use crate::cluster::lifecycle::{bootstrap, facts, finished, ignored, kept_logs, preflight, provision, together};
use crate::cluster::run::{Run, new_id};
use crate::config::ClusterConfig;
use crate::engine::finishing::run_to_end;
use crate::engine::{Engine, SharedEngine};
use crate::error::{Code, Error, Reason, Result, counted};
use crate::kubeconfig;
use crate::kubernetes::Client;
use crate::plan::pki::Pki;
use crate::plan::{self, Facts, Layout, Plan};
use crate::ui::Ui;

pub use crate::cluster::lifecycle::options::Options;

/// How often a roll-back is tried.
const MAX_ROLL_BACKS: usize = 3;
/// How long a roll-back goes on trying with an engine that does not answer, or has taken a request and not said what became
/// of it: such a request may still be carried out, after everything else is gone.
const ROLL_BACK_TIMEOUT: Duration = Duration::from_secs(45);
/// Pauses before the looks for what appears late, one for each look that found nothing.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

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
    cluster: ClusterConfig,
    options: &Options,
    ui: &Ui,
    stop: &CancellationToken,
) -> Result<Created> {
    let id = new_id();
    let cluster = facts::for_place(cluster, engine.place(), ui);
    let work = async |engine: SharedEngine| {
        let run = Run::new(&engine, ui, &*id, options.wait);
        Box::pin(steps(&run, &cluster, options)).await
    };
    let result = run_to_end(engine, stop, work).await;
    // From here on the cluster exists: an interruption must not leave an entry for nodes that are then removed.
    let result = match result {
        Ok(plan) => {
            // First: a cluster without its entry can still be used, and one without the mark is taken for half of one.
            finished::mark(&**engine, &id).await.map(|()| plan)
        }
        Err(error) => Err(error),
    };
    let result = match result {
        Ok(plan) => {
            let entry = access::entry_of(cluster.context(), plan.access.admin());
            kubeconfig::merge(&options.kubeconfig, &entry, true).await.map(|_| plan)
        }
        Err(error) => Err(error),
    };
    let error = match result {
        Ok(plan) => return Ok(created(&plan, options)),
        Err(error) => error,
    };
    // An engine that does not answer would be asked in vain, for a long time.
    if ![Code::Interrupted, Code::EngineUnreachable].contains(&error.code()) {
        kept_logs::keep(engine, &id, options, ui, stop).await;
    }
    if options.retain {
        if let Err(error) = finished::mark(&**engine, &id).await {
            ui.warn(format!("`coracle gc` may remove what is kept: {error}"));
        }
        return Err(error.hint(format!(
            "the nodes are kept; `coracle export logs --name {0}`, then `coracle delete cluster --name {0}`",
            cluster.name
        )));
    }
    if let Err(left) = roll_back(engine, &id, error.reason() == Some(Reason::AnswerLost)).await {
        ui.warn(format!("could not remove everything: {left}; run `coracle delete cluster --name {}`", cluster.name));
        // An engine that is shutting down reports all kinds of errors.
        if left.code() == Code::EngineUnreachable {
            return Err(left);
        }
    }
    Err(error)
}

/// Removes what the run made; a clean-up is worth more than one attempt. `lost`: the answer to a request was lost.
pub(super) async fn roll_back(engine: &SharedEngine, id: &str, mut lost: bool) -> Result<()> {
    let scope = Scope::Run(id.to_owned());
    let end = Instant::now() + ROLL_BACK_TIMEOUT;
    let (mut attempts, mut looks, mut refusals) = (0, 0, 0);
    loop {
        attempts += 1;
        let outcome = match delete(engine, &scope).await {
            // Only an attempt that finds nothing is the last: the engine may have finished a call whose answer was lost.
            Ok(removed) if removed.is_empty() && (!lost || looks == PAUSES.len()) => return Ok(()),
            Ok(removed) if removed.is_empty() => {
                sleep(PAUSES[looks]).await;
                looks += 1;
                continue;
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        looks = 0;
        let is_lost = outcome.as_ref().is_err_and(|error| error.reason() == Some(Reason::AnswerLost));
        lost |= is_lost;
        // An engine that no longer runs does nothing late.
        refusals = if outcome.is_err() && !is_lost { refusals + 1 } else { 0 };
        let is_over = if lost { Instant::now() >= end } else { attempts >= MAX_ROLL_BACKS };
        if is_over || refusals >= MAX_ROLL_BACKS {
            return outcome;
        }
        if lost {
            sleep(PAUSES[0]).await;
        }
    }
}

fn created(plan: &Plan, options: &Options) -> Created {
    let mut missing = conditions(&plan.layout.cluster).1;
    if !options.is_awaited {
        missing.push(
            "the cluster is still starting (--wait 0s); `coracle status` exits with 0 once it is usable".to_owned(),
        );
    }
    Created {
        context: plan.layout.cluster.context(),
        server: plan.access.server.clone(),
        version: plan.layout.version.clone(),
        nodes: node_names(&plan.layout),
        missing,
    }
}

fn node_names(layout: &Layout) -> Vec<String> {
    layout.nodes.iter().map(|node| node.name.clone()).collect()
}

/// The whole pipeline, top to bottom.
async fn steps(run: &Run, cluster: &ClusterConfig, options: &Options) -> Result<Plan> {
    let step = run.ui.step("Preparing the node image");
    let facts = match facts::prepare(run, cluster, options, &step).await {
        Err(error) => return Err(all_problems(&*run.engine, cluster, options, error).await),
        Ok(facts) => facts,
    };
    provision::check_names(run, cluster, options.local, &facts).await?;
    step.finish();
    let contents =
        contents::prepare(run, cluster, &facts::version(&facts), facts.registry.as_ref(), options.local).await?;

    let step = run.ui.step(format!("Creating {}", counted(cluster.nodes.len(), "node")));
    let (plan, pki) = provision::cluster(run, cluster, options, &facts, &step).await?;
    step.finish();

    let mut plan = plan;
    if access::join(&*run.engine, &cluster.name).await? {
        plan.access.server = format!("https://{}", plan.layout.endpoint());
    }
    let run = &run.within(options.wait);
    start(run, &plan, &facts, &pki, &contents, options).await.map_err(|error| in_time(error, run.deadline, options))?;
    Ok(plan)
}

/// The error of a first look at a configuration, with what later looks would find.
async fn all_problems(engine: &dyn Engine, cluster: &ClusterConfig, options: &Options, error: Error) -> Error {
    match &options.written {
        Some(written) => together::with_the_rest(engine, cluster, written, options.local, error).await,
        None => error,
    }
}

/// Makes a usable cluster of nodes that boot.
async fn start(run: &Run, plan: &Plan, facts: &Facts, pki: &Pki, contents: &Contents, options: &Options) -> Result<()> {
    let (layout, nodes) = (&plan.layout, node_names(&plan.layout));
    let client = Client::connect(&plan.access.super_admin())?.patient();
    let step = run.ui.step("Starting the control plane");
    let registered = bootstrap::register(&client, layout, &facts.engine, run.deadline, &step);
    let objects = bootstrap::objects(&*run.engine, layout, facts, pki);
    let prepared = try_join(objects, registered);
    let (objects, ()) = watched(run, &client, &nodes, Some(&step), prepared).await?;
    step.finish();

    let step = run.ui.step("Installing network, DNS and storage");
    let installed = bootstrap::install(&client, layout, &objects, run.deadline);
    watched(run, &client, &nodes, Some(&step), installed).await?;
    step.finish();

    if let Some(node) = nodes.first() {
        for warning in ignored::warnings(&*run.engine, node, &layout.cluster.containerd).await {
            run.ui.warn(warning);
        }
    }
    if options.is_awaited {
        until_usable(run, &client, &nodes, &conditions(&layout.cluster).0).await?;
        until_dns_stays(run, &client, &nodes, &layout.cluster).await?;
    }
    let install = contents::install(run, &client, layout, contents, &options.logins, options.is_awaited);
    watched(run, &client, &nodes, None, install).await
}

/// The error of a cluster whose time is over: whatever did not answer any more, it is not ready.
fn in_time(error: Error, deadline: Instant, options: &Options) -> Error {
    if error.code() != Code::ApiFailed || Instant::now() < deadline {
        return error;
    }
    let late = Error::new(Code::NotReady, format!("the cluster is not usable after {}s", options.wait.as_secs()))
        .because(error.in_words())
        .with_lines(error.lines().iter().cloned());
    if error.hints().is_empty() {
        return late.hint("give it more time, such as `--wait 10m`; `--wait 0s` creates it without waiting");
    }
    late.with_hints(error.hints())
}

/// The plan, without making or pulling anything, for `--dry-run`. It does not depend on which ports are free: port 0
/// stands for one that `create` chooses.
pub async fn dry_run(engine: &SharedEngine, cluster: ClusterConfig, options: &Options, ui: &Ui) -> Result<Plan> {
    let cluster = facts::for_place(cluster, engine.place(), ui);
    let run = Run::new(engine, ui, new_id(), options.wait);
    let step = ui.step("Planning");
    let facts = match facts::without_pulling(&run, &cluster, options).await {
        Err(error) => return Err(all_problems(&**engine, &cluster, options, error).await),
        Ok(facts) => facts,
    };
    let (version, registry) = (facts::version(&facts), facts.registry.as_ref());
    contents::check(&**engine, &cluster, &version, registry, options.local).await?;
    let subnets = facts::subnets(&**engine, &cluster.networking, options.local).await?;
    let subnet = subnets.into_iter().next().ok_or_else(preflight::no_subnet)?;
    provision::check_names(&run, &cluster, options.local, &facts).await?;
    let pki = Pki::generate(time::OffsetDateTime::now_utc())?;
    let port = cluster.networking.api_server_port;
    let layout = Layout::new(cluster, subnet, port, &facts::version(&facts))?.on(facts::engine_host(&**engine));
    let plan = plan::plan(layout, &facts, &pki)?;
    step.finish();
    Ok(plan)
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
