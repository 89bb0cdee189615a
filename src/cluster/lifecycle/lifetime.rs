//! Clusters whose time is limited: how long they still live, which of them are over, and how they get more time.

use std::fmt;

use futures_util::future::{join_all, try_join_all};
use time::OffsetDateTime;

use crate::cluster::found::{self, Cluster};
use crate::cluster::lifecycle::delete::Scope;
use crate::cluster::upload::write_files;
use crate::config::Period;
use crate::engine::Engine;
use crate::engine::files::read_file;
use crate::engine::spec::{Container, State};
use crate::error::{Code, Error, Result};
use crate::plan::FileTree;
use crate::plan::labels;
use crate::plan::lifetime::{self, EXPIRES, Expiry};

/// How long nodes may take to stop once their time is over, seconds; one that still runs then has another clock.
const MAX_STOP: i64 = 120;

/// When a cluster's time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// It was created without a limit.
    None,
    At(Expiry),
    /// Its limit was lifted.
    Lifted,
    /// It has a limit, but no node tells which.
    Unknown,
}

/// A cluster whose time is over.
#[derive(Debug, Clone)]
pub struct Over {
    pub cluster: Cluster,
    pub expiry: Expiry,
    /// Why it is not removed, if it is not.
    pub kept: Option<Kept>,
}

/// Why a cluster whose time is over is not removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Its nodes have had no time to stop yet.
    Stopping,
    /// The cause, for people.
    Because(String),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopping => "its nodes are still stopping",
            Self::Because(cause) => cause,
        })
    }
}

impl Over {
    /// Everything of this cluster, and nothing of one that got its name meanwhile.
    pub fn scope(&self) -> Option<Scope> {
        let label = self.cluster.expires?;
        Some(Scope::Expired(self.cluster.name.clone(), label))
    }
}

/// When a cluster's time is over, as its nodes know it: the label is from its creation, and cannot be changed.
pub async fn limit(engine: &dyn Engine, cluster: &Cluster) -> Limit {
    if cluster.expires.is_none() {
        return Limit::None;
    }
    let read = async |container: &Container| {
        let text = read_file(engine, &container.id, EXPIRES).await.ok().flatten()?;
        lifetime::read(&String::from_utf8_lossy(&text)).ok()
    };
    let told = join_all(cluster.nodes.iter().map(|node| read(&node.container))).await;
    // An extension that was interrupted is in some nodes only: it counts, for nothing is lost by waiting.
    told.into_iter().flatten().fold(Limit::Unknown, |latest, one| match (latest, one) {
        (Limit::Lifted, _) | (_, None) => Limit::Lifted,
        (Limit::At(latest), Some(one)) => Limit::At(latest.max(one)),
        (_, Some(one)) => Limit::At(one),
    })
}

/// The clusters whose time is over by their labels and by their nodes.
pub async fn over(engine: &dyn Engine, now: OffsetDateTime) -> Result<Vec<Over>> {
    let labelled = engine.containers(&[labels::EXPIRES.to_owned()]).await?;
    if labelled.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for cluster in found::list(engine).await? {
        let is_over = |label: Option<Expiry>| label.is_some_and(|expiry| expiry.is_over(now));
        // A node without the label, or with another one, is not of the cluster that is over.
        if !is_over(cluster.expires) || cluster.nodes.iter().any(|node| node.expires() != cluster.expires) {
            continue;
        }
        if let Limit::At(expiry) = limit(engine, &cluster).await
            && expiry.is_over(now)
        {
            let kept = kept(&cluster, -expiry.seconds_from(now));
            all.push(Over { cluster, expiry, kept });
        }
    }
    Ok(all)
}

/// Why a cluster is not removed `late` seconds after its time is over. The nodes end by the engine's clock: as long as they
/// have not, only this host's clock says that the time is over, and it can be wrong.
fn kept(cluster: &Cluster, late: i64) -> Option<Kept> {
    let is_left = |state: State| !matches!(state, State::Exited | State::Dead);
    let left = cluster.nodes.iter().find(|node| is_left(node.state()))?;
    match left.state() {
        State::Paused => Some(Kept::Because(format!("node {} is paused; it ends once it is unpaused", left.name))),
        _ if late <= MAX_STOP => Some(Kept::Stopping),
        state => Some(Kept::Because(format!(
            "node {} is still {state} {late} s after that; check the clocks of this host and of the engine",
            left.name
        ))),
    }
}

/// Gives a cluster more time: `period` from now, or no limit at all. Returns when it is over then.
pub async fn extend(
    engine: &dyn Engine,
    cluster: &Cluster,
    period: Option<Period>,
    now: OffsetDateTime,
) -> Result<Option<Expiry>> {
    let name = &cluster.name;
    let new = period.map(|period| Expiry::after(now, period));
    match limit(engine, cluster).await {
        Limit::None => {
            return Err(Error::new(
                Code::UsageInvalid,
                format!("cluster `{name}` has no limit that could be extended"),
            )
            .hint("only `coracle create cluster --ttl DURATION` sets a limit"));
        }
        Limit::At(old) if new.is_some_and(|new| new < old) => {
            return Err(Error::new(
                Code::UsageInvalid,
                format!("cluster `{name}` lives longer than that, until {old}"),
            )
            .hint(format!("to end it earlier, run `coracle delete cluster --name {name}`")));
        }
        _ => {}
    }
    let mut files = FileTree::default();
    files.text(EXPIRES, lifetime::file(new));
    let containers = cluster.nodes.iter().map(|node| &node.container).chain(&cluster.balancer);
    try_join_all(containers.clone().map(async |container| {
        write_files(engine, &container.id, &files).await.map_err(|error| error.on_node(&container.name))
    }))
    .await?;
    // Someone else may have removed it while it was over.
    let left = found::get(engine, name).await?;
    match containers.clone().find(|one| !left.containers().any(|other| other.id == one.id)) {
        Some(gone) => Err(Error::new(Code::StepFailed, format!("cluster `{name}` was removed meanwhile"))
            .because(format!("{} is gone", gone.name))),
        None => Ok(new),
    }
}

#[cfg(test)]
#[path = "lifetime_tests.rs"]
mod tests;
