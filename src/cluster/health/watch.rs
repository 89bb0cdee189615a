//! Waiting with an eye on the nodes: what will never come up ends the wait early, with the reason.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::health::diagnose::{Failure, Outlook, find_failure};
use crate::cluster::health::explain::{explained, of_way};
use crate::cluster::run::Run;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::kubernetes::Client;
use crate::ui::Step;

/// Shortest and longest pause between two diagnoses.
const DIAGNOSIS_INTERVAL: Duration = Duration::from_secs(3);
const MAX_DIAGNOSIS_INTERVAL: Duration = Duration::from_secs(60);
/// Longest pause before the first one: who waits for what will never come should not wait longer.
const MAX_FIRST_PAUSE: Duration = Duration::from_secs(9);
/// What the way from this host to the API server is kept under, beside the names of nodes.
const API: &str = "";
/// How long after the deadline a wait ends, whatever a call does: a request to the API may take a minute.
const GRACE: Duration = Duration::from_secs(65);

/// Does `work`, of which `step` tells if it is one, and ends early if one of the nodes or a component will never come up.
pub async fn watched<T>(
    run: &Run,
    client: &Client,
    nodes: &[String],
    step: Option<&Step>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let result = tokio::select! {
        result = work => result,
        error = failure(&*run.engine, client, nodes) => return Err(error),
        // Every wait in `work` looks at the deadline; this one is for a call inside that does not end.
        () = sleep_until(run.deadline + GRACE) => Err(Error::new(Code::NotReady, "gave up waiting for the cluster")),
    };
    match result {
        Err(error) if Instant::now() >= run.deadline => {
            if let Some(step) = step {
                step.detail("asking", "the nodes for the reason");
            }
            Err(explained(&*run.engine, client, nodes, error).await)
        }
        other => other,
    }
}

/// Waits for a failure that one of the nodes reports twice: a component that failed once while another one started gets its
/// second chance.
async fn failure(engine: &dyn Engine, client: &Client, nodes: &[String]) -> Error {
    let mut suspected = BTreeMap::new();
    let mut pause = first_pause(nodes.len());
    loop {
        sleep(pause).await;
        let began = Instant::now();
        for node in nodes {
            if let Some(error) = judged(&mut suspected, node, find_failure(engine, node).await) {
                return error;
            }
        }
        if let Some(error) = judged(&mut suspected, API, of_way(engine, client, nodes).await) {
            return error;
        }
        pause = pause_after(began.elapsed());
    }
}

/// The pause before the first diagnosis of so many nodes: most waits are over by then, and a look takes a node 0.3 s of its
/// processors just when it needs them.
fn first_pause(nodes: usize) -> Duration {
    let starting = u32::try_from(nodes).unwrap_or(u32::MAX).saturating_mul(2);
    (DIAGNOSIS_INTERVAL + Duration::from_secs(starting.into())).min(MAX_FIRST_PAUSE)
}

/// The pause after a diagnosis that took so long: on a slow machine, the looks must not take the time that the nodes need.
fn pause_after(took: Duration) -> Duration {
    (took * 10).clamp(DIAGNOSIS_INTERVAL, MAX_DIAGNOSIS_INTERVAL)
}

/// The error of a node's failure that an earlier look saw as well; else it is kept for the next look.
fn judged<'a>(suspected: &mut BTreeMap<&'a str, Failure>, node: &'a str, now: Option<Failure>) -> Option<Error> {
    let Some(now) = now else {
        suspected.remove(node);
        return None;
    };
    match suspected.get(node) {
        _ if now.outlook == Outlook::Final => return Some(now.error),
        Some(earlier) if now.confirms(earlier) => return Some(now.error),
        // It has not failed again, yet.
        Some(earlier) if now.is_same(earlier) => {}
        _ => drop(suspected.insert(node, now)),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn looks_take_a_tenth_of_the_time_at_most() {
        let pauses = [1, 20, 2_000, 60_000].map(|took| pause_after(Duration::from_millis(took)).as_secs());
        assert_eq!(pauses, [3, 3, 20, 60]);
        assert_eq!([0, 1, 3, 500].map(|nodes| first_pause(nodes).as_secs()), [3, 5, 9, 9]);
    }

    #[test]
    fn a_failure_counts_when_the_same_node_fails_again() {
        let failure = |message: &str, times: Option<u64>| {
            let outlook = times.map_or(Outlook::Lasting, Outlook::Times);
            Some(Failure { error: Error::new(Code::ComponentFailed, message), outlook })
        };
        let mut suspected = BTreeMap::new();
        assert!(judged(&mut suspected, "a", failure("etcd", Some(2))).is_none());
        // Another node is not the same one, and neither is another component.
        assert!(judged(&mut suspected, "b", failure("etcd", Some(3))).is_none());
        assert!(judged(&mut suspected, "b", failure("kubelet", Some(3))).is_none());
        assert!(judged(&mut suspected, "a", failure("etcd", Some(2))).is_none());
        assert!(judged(&mut suspected, "a", failure("etcd", Some(3))).is_some());
        // Well in between.
        assert!(judged(&mut suspected, "b", None).is_none());
        assert!(judged(&mut suspected, "b", failure("kubelet", Some(4))).is_none());
        // What cannot become well counts when it is seen twice.
        assert!(judged(&mut suspected, "c", failure("disk", None)).is_none());
        assert!(judged(&mut suspected, "c", failure("disk", None)).is_some());
        // What no attempt can mend is not looked for twice.
        let error = Error::new(Code::ComponentFailed, "flag");
        assert!(judged(&mut suspected, "d", Some(Failure { error, outlook: Outlook::Final })).is_some());
    }
}
