//! Waiting until a cluster is usable.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cluster::health::watch::watched;
use crate::cluster::run::Run;
use crate::config::{ClusterConfig, KubeProxyMode, Role};
use crate::engine::files::read_file;
use crate::error::{Code, Error, Result};
use crate::kubernetes::ready::Condition;
use crate::kubernetes::{Client, Failure, object, workload};
use crate::plan::subnet::{DNS, service_address};
use crate::ui::Step;

/// Pause between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long CoreDNS is looked at where it may ask itself: its plugin `loop` finds that out within seconds after it is ready.
const DNS_LOOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where the resolver of a node is the cluster's own DNS: the plugin tries for 30 s, and on a busy machine needs them.
const SURE_DNS_LOOP_TIMEOUT: Duration = Duration::from_secs(40);
const DNS_INTERVAL: Duration = Duration::from_millis(500);
const DNS_PODS: &str = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns";

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
            Condition::ServicesReachable(nodes),
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

/// With a resolver of the user's own, CoreDNS may be ready, and find a moment later that its questions come back to it.
pub async fn until_dns_stays(run: &Run, client: &Client, nodes: &[String], cluster: &ClusterConfig) -> Result<()> {
    let of_cluster = cluster.kubelet["resolvConf"].as_str().map(|path| (None, path));
    let by_flag = cluster.nodes.iter().zip(nodes).filter_map(|(node, name)| {
        let flag = node.kubelet_flags.get("resolv-conf")?;
        Some((Some(name), flag.values().first()?.as_str()))
    });
    let files: Vec<(Option<&String>, &str)> = of_cluster.into_iter().chain(by_flag).collect();
    if files.is_empty() {
        return Ok(());
    }
    let dns = service_address(&cluster.networking, DNS);
    let mut time = DNS_LOOP_TIMEOUT;
    for (node, path) in files {
        let Some(node) = node.or(nodes.first()) else { continue };
        let text = read_file(&*run.engine, node, path).await.ok().flatten().unwrap_or_default();
        if dns.is_some_and(|dns| asks(&String::from_utf8_lossy(&text), &dns.to_string())) {
            time = SURE_DNS_LOOP_TIMEOUT;
        }
    }
    watched(run, client, nodes, None, stays(client, Instant::now() + time, run.deadline)).await
}

/// Whether a resolver's configuration names this server.
fn asks(text: &str, server: &str) -> bool {
    text.lines().any(|line| line.split_whitespace().eq(["nameserver", server]))
}

/// Looks for a while; if CoreDNS ends meanwhile, until its failure is found, or to the deadline.
async fn stays(client: &Client, end: Instant, deadline: Instant) -> Result<()> {
    let end = end.min(deadline);
    loop {
        let has_ended = client.get(DNS_PODS).await.is_ok_and(|pods| object::items(&pods).iter().any(has_ended));
        if Instant::now() >= if has_ended { deadline } else { end } {
            let late = Error::new(Code::NotReady, "CoreDNS was ready, and has ended since then");
            return if has_ended { Err(late) } else { Ok(()) };
        }
        sleep(DNS_INTERVAL).await;
    }
}

/// Whether a container of a pod has ended.
fn has_ended(pod: &Value) -> bool {
    let statuses = pod["status"]["containerStatuses"].as_array();
    statuses
        .into_iter()
        .flatten()
        .any(|status| workload::number(&status["restartCount"], 0) > 0 || status["state"]["terminated"].is_object())
}

/// Waits for conditions, one after the other.
async fn until(client: &Client, conditions: &[Condition], deadline: Instant, step: &Step) -> Result<()> {
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
            sleep(POLL_INTERVAL).await;
        }
        step.settle(WAITING);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_that_is_the_clusters_own_dns_is_known() {
        assert!(asks("search x\n nameserver  10.96.0.10 \n", "10.96.0.10"));
        assert!(!asks("nameserver 10.96.0.100\n# nameserver 10.96.0.10\n", "10.96.0.10"));
    }
}
