//! Waiting for a new cluster, and giving up early when a part of it will never come up.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::diagnose;
use super::provision::Calls;
use crate::config::{Cluster, KubeProxyMode};
use crate::error::{Code, Error, Result};
use crate::kubernetes::ready::Condition;
use crate::kubernetes::{Client, Failure};
use crate::plan::Plan;
use crate::ui::Step;

/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause between two looks for something that will never come up.
const DIAGNOSE: Duration = Duration::from_secs(3);

/// What makes this cluster usable, and what the user has to bring.
pub(super) fn conditions(cluster: &Cluster) -> (Vec<Condition>, Vec<String>) {
    let mut missing = Vec::new();
    if cluster.networking.disable_default_cni {
        missing.push(
            "no CNI plugin is installed (disableDefaultCNI): nodes become Ready after you install one".to_owned(),
        );
    }
    if cluster.networking.kube_proxy_mode == KubeProxyMode::None {
        missing.push("kube-proxy is not installed (kubeProxyMode: none): services have no addresses until you install a replacement".to_owned());
    }
    let conditions = if missing.is_empty() {
        vec![Condition::NodesReady(cluster.nodes.len()), Condition::DnsAvailable, Condition::DefaultServiceAccount]
    } else {
        vec![Condition::ApiReady]
    };
    (conditions, missing)
}

/// Waits for conditions, one after the other.
pub(super) async fn wait(client: &Client, conditions: &[Condition], deadline: Instant, step: &Step) -> Result<()> {
    for condition in conditions {
        loop {
            let cause = match condition.check(client).await {
                Ok(None) => break,
                Ok(Some(cause)) => cause,
                Err(Failure::Status(404, ..)) => "it is not there yet".to_owned(),
                Err(failure) => failure.text().to_owned(),
            };
            step.detail("waiting for", &format!("{} ({cause})", condition.what()));
            if Instant::now() >= deadline {
                return Err(
                    Error::new(Code::NotReady, format!("gave up waiting for {}", condition.what())).because(cause)
                );
            }
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Does `work`, and ends early when a node or a component will never come up.
pub(super) async fn watched<T>(
    calls: &Calls,
    plan: &Plan,
    deadline: Instant,
    step: &Step,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let watch = async {
        let mut suspected = None;
        loop {
            sleep(DIAGNOSE).await;
            for node in &plan.layout.nodes {
                let Some(error) = diagnose::failing(&*calls.engine, &node.name).await else { continue };
                // Seen twice: a component that failed once while another one started gets its second chance.
                if suspected.replace(error.message().to_owned()).is_some_and(|message| message == error.message()) {
                    return error;
                }
            }
        }
    };
    let result = tokio::select! {
        result = work => result,
        error = watch => return Err(error),
    };
    match result {
        Err(error) if Instant::now() >= deadline => {
            step.detail("asking", "the nodes for the reason");
            Err(explained(calls, plan, error).await)
        }
        other => other,
    }
}

/// A deadline that passed, with the component that is to blame if one is.
async fn explained(calls: &Calls, plan: &Plan, error: Error) -> Error {
    for node in &plan.layout.nodes {
        if let Some(cause) = diagnose::failing(&*calls.engine, &node.name).await {
            return cause;
        }
    }
    error.hint("give it more time with `--wait 10m`, or keep the nodes with `--retain` and read `coracle export logs`")
}
