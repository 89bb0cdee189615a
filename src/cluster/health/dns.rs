//! A resolver of the user's own may lead CoreDNS back to itself, which ends it after it was ready.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cluster::health::causes::{Cause, found};
use crate::cluster::health::watch::watched;
use crate::cluster::run::Run;
use crate::config::{ClusterConfig, Node};
use crate::engine::files::read_file;
use crate::error::{Code, Error, Result};
use crate::kubernetes::{Client, object, workload};
use crate::plan::subnet::{DNS, service_address};

/// How long CoreDNS is looked at where it may ask itself: its plugin `loop` finds that out within seconds after it is ready.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same where a node's resolver is the cluster's own DNS among others: the plugin tries for 30 s, and may need them.
const LIKELY_TIMEOUT: Duration = Duration::from_secs(40);
const INTERVAL: Duration = Duration::from_millis(500);
const PODS: &str = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns";
const CONFIG: &str = "/api/v1/namespaces/kube-system/configmaps/coredns";
/// What CoreDNS asks for names that are not the cluster's, if it asks the resolver of its node.
const OF_NODE: &str = "/etc/resolv.conf";

/// With a resolver of the user's own, CoreDNS may be ready, and find a moment later that its questions come back to it.
///
/// Where the resolver is the cluster's own DNS that is known without waiting for the plugin, which gives up on a busy machine.
///
/// # Errors
/// `component-failed` if CoreDNS asks itself, or ends for another reason.
pub async fn until_dns_stays(run: &Run, client: &Client, nodes: &[String], cluster: &ClusterConfig) -> Result<()> {
    let files = resolvers(cluster, nodes);
    if files.is_empty() {
        return Ok(());
    }
    let dns = service_address(&cluster.networking, DNS).map(|address| address.to_string()).unwrap_or_default();
    let (mut circular, mut time) = (Vec::new(), TIMEOUT);
    for (node, path) in files {
        let text = read_file(&*run.engine, node, path).await.ok().flatten().unwrap_or_default();
        match asks(&String::from_utf8_lossy(&text), &dns) {
            Asks::Only => circular.push((node, path)),
            Asks::Among => time = LIKELY_TIMEOUT,
            Asks::Never => {}
        }
    }
    if !circular.is_empty() {
        if let Some(error) = circle(client, &circular).await {
            return Err(error);
        }
        time = LIKELY_TIMEOUT;
    }
    watched(run, client, nodes, None, stays(client, Instant::now() + time, run.deadline)).await
}

/// The nodes whose resolver is the user's, with its path in the node.
fn resolvers<'a>(cluster: &'a ClusterConfig, nodes: &'a [String]) -> Vec<(&'a str, &'a str)> {
    let of_cluster = cluster.kubelet["resolvConf"].as_str();
    let of_node = |(node, name): (&'a Node, &'a String)| {
        let flag = node.kubelet_flags.get("resolv-conf").and_then(|flag| flag.values().first().map(String::as_str));
        Some((name.as_str(), flag.or(of_cluster)?))
    };
    cluster.nodes.iter().zip(nodes).filter_map(of_node).collect()
}

/// Whether a resolver's configuration names a server.
#[derive(Debug, PartialEq, Eq)]
enum Asks {
    Only,
    Among,
    Never,
}

fn asks(text: &str, server: &str) -> Asks {
    let address = |line: &'_ str| line.trim().strip_prefix("nameserver").map(|rest| rest.trim() == server);
    let named: Vec<bool> = text.lines().filter_map(address).collect();
    match named.iter().filter(|is_server| **is_server).count() {
        0 => Asks::Never,
        count if count == named.len() => Asks::Only,
        _ => Asks::Among,
    }
}

/// The error of a CoreDNS that runs on one of these nodes, and asks their resolver.
async fn circle(client: &Client, circular: &[(&str, &str)]) -> Option<Error> {
    let (pods, config) = (client.get(PODS).await.ok()?, client.get(CONFIG).await.ok()?);
    if forwards_to(config["data"]["Corefile"].as_str()?) != Some(OF_NODE) {
        return None;
    }
    let runs_on = |node: &str| object::items(&pods).iter().any(|pod| pod["spec"]["nodeName"] == node);
    let (node, path) = circular.iter().find(|(node, _)| runs_on(node))?;
    let line = format!("`{path}` names the cluster's own DNS, and no other server");
    Some(found(Cause::DnsLoop, &line).error(Code::ComponentFailed).on_node(*node))
}

/// Where the first rule of a Corefile forwards all other names.
fn forwards_to(corefile: &str) -> Option<&str> {
    corefile
        .lines()
        .find_map(|line| line.trim().strip_prefix("forward . "))
        .and_then(|rest| rest.split_whitespace().next())
}

/// Looks for a while; if CoreDNS ends meanwhile, until its failure is found, or to the deadline.
async fn stays(client: &Client, end: Instant, deadline: Instant) -> Result<()> {
    let end = end.min(deadline);
    loop {
        let has_ended = client.get(PODS).await.is_ok_and(|pods| object::items(&pods).iter().any(has_ended));
        if Instant::now() >= if has_ended { deadline } else { end } {
            let late = Error::new(Code::NotReady, "CoreDNS was ready, and has ended since then");
            return if has_ended { Err(late) } else { Ok(()) };
        }
        sleep(INTERVAL).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterName, FlagValue, Role};

    #[test]
    fn a_resolver_that_is_the_clusters_own_dns_is_known() {
        assert_eq!(asks("search x\n nameserver  10.96.0.10 \n", "10.96.0.10"), Asks::Only);
        assert_eq!(asks("nameserver 10.96.0.100\n# nameserver 10.96.0.10\n", "10.96.0.10"), Asks::Never);
        // One of two is asked by chance: the plugin has to find that out.
        assert_eq!(asks("nameserver 10.96.0.10\nnameserver 1.1.1.1\n", "10.96.0.10"), Asks::Among);
        assert_eq!(asks("", "10.96.0.10"), Asks::Never);
    }

    #[test]
    fn what_a_corefile_asks_for_other_names_is_its_first_rule_for_all() {
        let corefile = ".:53 {\n    forward corp.example 10.0.0.1\n    forward . /etc/resolv.conf {\n    }\n}\n";
        assert_eq!(forwards_to(corefile), Some(OF_NODE));
        assert_eq!(forwards_to(&format!(".:53 {{\n  forward . 1.1.1.1\n}}\n{corefile}")), Some("1.1.1.1"));
    }

    #[test]
    fn a_flag_of_a_node_goes_before_the_setting_of_the_cluster() {
        let mut worker = Node::new(Role::Worker);
        worker.kubelet_flags.insert("resolv-conf".to_owned(), FlagValue::One("/etc/b".to_owned()));
        let cluster = ClusterConfig {
            kubelet: serde_json::json!({"resolvConf": "/etc/a"}),
            nodes: vec![Node::new(Role::ControlPlane), worker],
            ..ClusterConfig::new(ClusterName::default())
        };
        let nodes = ["a".to_owned(), "b".to_owned()];
        assert_eq!(resolvers(&cluster, &nodes), [("a", "/etc/a"), ("b", "/etc/b")]);
    }
}
