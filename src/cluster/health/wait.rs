//! Waiting until a cluster is usable.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cluster::health::watch::watched;
use crate::cluster::run::Run;
use crate::config::{ClusterConfig, KubeProxyMode, Role};
use crate::error::{Code, Error, Result};
use crate::kubernetes::ready::Condition;
use crate::kubernetes::{Client, Failure};
use crate::ui::Step;

/// Shortest and longest pause between two looks at what is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// What the step says it is doing.
const WAITING: &str = "waiting for";

/// The conditions under which this cluster is usable, and what the user has to install.
pub fn conditions(cluster: &ClusterConfig) -> (Vec<Condition>, Vec<String>) {
    let mut missing = Vec::new();
    if cluster.networking.disable_default_cni {
        missing.push(
            "no CNI plugin is installed (disableDefaultCNI): nodes become Ready after you install one".to_owned(),
        );
    }
    if cluster.networking.kube_proxy_mode == KubeProxyMode::None {
        missing.push(
            "kube-proxy is not installed (kubeProxyMode: none): services do not work until you install a replacement"
                .to_owned(),
        );
    }
    let conditions = if missing.is_empty() {
        let nodes = cluster.nodes.len();
        let mut conditions = vec![
            Condition::NodesReady(nodes),
            Condition::DnsAvailable,
            Condition::DefaultServiceAccount,
            Condition::ServicesReachable { nodes, answers: cluster.kube_proxy.get("healthzBindAddress").is_none() },
            Condition::StorageStarted,
        ];
        // Each API server adds its address to a list, unless a flag of the user gives it another way.
        if !cluster.api_server.contains_key("endpoint-reconciler-type") {
            let servers = cluster.nodes.iter().filter(|node| node.role == Role::ControlPlane).count();
            conditions.push(Condition::ServersReady(servers));
        }
        conditions
    } else {
        vec![Condition::ApiReady]
    };
    (conditions, missing)
}

/// Waits until a cluster is usable. Ends early if one of its nodes or components will never come up.
pub async fn until_usable(run: &Run, client: &Client, nodes: &[String], conditions: &[Condition]) -> Result<()> {
    let step = run.ui.step("Waiting until the cluster is usable");
    watched(run, client, nodes, Some(&step), until(client, conditions, run.deadline, &step)).await?;
    step.finish();
    Ok(())
}

/// The pause after a look in a wait that began then: on a slow machine, the looks must not take the time that the nodes need.
pub(super) fn pause_since(began: Instant) -> Duration {
    (began.elapsed() / 100).clamp(POLL_INTERVAL, MAX_POLL_INTERVAL)
}

/// Waits for conditions, one after the other.
async fn until(client: &Client, conditions: &[Condition], deadline: Instant, step: &Step) -> Result<()> {
    let began = Instant::now();
    for condition in conditions {
        loop {
            let cause = match condition.check(client).await {
                Ok(None) => break,
                Ok(Some(cause)) => cause,
                Err(Failure::Status(404, ..)) => "it does not exist yet".to_owned(),
                Err(failure) => failure.text().to_owned(),
            };
            step.detail(WAITING, &format!("{} ({cause})", condition.what()));
            if Instant::now() >= deadline {
                return Err(
                    Error::new(Code::NotReady, format!("gave up waiting for {}", condition.what())).because(cause)
                );
            }
            sleep(pause_since(began)).await;
        }
        step.settle(WAITING);
    }
    Ok(())
}
