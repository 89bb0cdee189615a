//! How much processor time and memory the containers of a cluster use, as the engine measures it: no metrics server is needed.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::cluster::found::Cluster;
use crate::engine::Engine;
use crate::engine::inside::Sample;
use crate::engine::spec::State;

/// How long is measured.
const PERIOD: Duration = Duration::from_secs(1);

/// What a container uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    pub name: String,
    /// State of its container.
    pub state: State,
    /// Thousandths of a processor; `None` for one that does not run.
    pub milli_cpus: Option<u64>,
    /// Bytes, without what the kernel gives back first.
    pub memory: Option<u64>,
    /// The most memory that it can have, bytes; that of the engine's host, if it has no limit.
    pub memory_limit: Option<u64>,
}

/// What the containers of a cluster use, and all of them together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Top {
    pub cluster: String,
    /// The nodes, then what stands beside them.
    pub containers: Vec<Usage>,
    pub milli_cpus: u64,
    pub memory: u64,
}

/// Measures for a second what the containers of a cluster use.
pub async fn top(engine: &dyn Engine, cluster: &Cluster) -> Top {
    let first = samples(engine, cluster).await;
    sleep(PERIOD).await;
    let second = samples(engine, cluster).await;
    let containers: Vec<Usage> = cluster
        .containers()
        .zip(first.iter().zip(&second))
        .map(|(container, (before, after))| Usage {
            name: container.name.clone(),
            state: container.state,
            milli_cpus: before.as_ref().zip(after.as_ref()).map(|(before, after)| rate(before, after)),
            memory: after.map(|(_, sample)| sample.memory),
            memory_limit: after.map(|(_, sample)| sample.memory_limit),
        })
        .collect();
    Top {
        cluster: cluster.name.to_string(),
        milli_cpus: containers.iter().filter_map(|usage| usage.milli_cpus).sum(),
        memory: containers.iter().filter_map(|usage| usage.memory).sum(),
        containers,
    }
}

/// What each container has used, and when it was read; nothing of one that does not run, or has just ended.
async fn samples(engine: &dyn Engine, cluster: &Cluster) -> Vec<Option<(Instant, Sample)>> {
    let each = cluster.containers().map(async |container| {
        if !container.is_running() {
            return None;
        }
        let sample = engine.sample(&container.name).await.ok()?;
        Some((Instant::now(), sample))
    });
    join_all(each).await
}

/// Thousandths of a processor between two samples.
fn rate((begin, before): &(Instant, Sample), (end, after): &(Instant, Sample)) -> u64 {
    let period = end.saturating_duration_since(*begin).as_nanos().max(1);
    // It begins at zero again in a container that was started again.
    let used = after.cpu.saturating_sub(before.cpu).as_nanos();
    // To the nearest one.
    u64::try_from((used * 1000 + period / 2) / period).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_time_of_processors_in_time() {
        let begin = Instant::now();
        let sample = |seconds: u64, milliseconds: u64| {
            let sample = Sample { cpu: Duration::from_millis(milliseconds), ..Sample::default() };
            (begin + Duration::from_secs(seconds), sample)
        };
        assert_eq!(rate(&sample(0, 5000), &sample(2, 8000)), 1500);
        assert_eq!(rate(&sample(0, 5000), &sample(1, 5001)), 1);
        // Started again meanwhile.
        assert_eq!(rate(&sample(0, 5000), &sample(1, 10)), 0);
    }
}
