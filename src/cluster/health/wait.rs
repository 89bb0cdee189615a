//! Waiting until a cluster is usable.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::{Cluster, KubeProxyMode};
use crate::error::{Code, Error, Result};
use crate::kubernetes::ready::Condition;
use crate::kubernetes::{Client, Failure};
use crate::ui::Step;

/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(50);

/// What makes this cluster usable, and what the user has to bring.
pub(crate) fn conditions(cluster: &Cluster) -> (Vec<Condition>, Vec<String>) {
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
        let nodes = cluster.nodes.len();
        vec![
            Condition::NodesReady(nodes),
            Condition::DnsAvailable,
            Condition::DefaultServiceAccount,
            Condition::ServicesReachable(nodes),
        ]
    } else {
        vec![Condition::ApiReady]
    };
    (conditions, missing)
}

/// Waits for conditions, one after the other.
pub(crate) async fn wait(client: &Client, conditions: &[Condition], deadline: Instant, step: &Step) -> Result<()> {
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
