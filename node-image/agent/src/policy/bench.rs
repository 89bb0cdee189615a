//! The time for 1,000 policies and 1,000 pods, on a real kernel. Run it in release mode, with `--ignored --nocapture`.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use super::compile::{Cluster, compile};
use super::objects::{NamespaceObject, Namespaces, PodObject, Pods};
use super::records::Records;
use super::render::{self, Family};
use super::spec::{Policies, PolicyObject};
use crate::nft;
use crate::object::Object;

const NAMESPACE: &str = "t-agent-bench";
const LIMIT: Duration = Duration::from_secs(1);

/// The network namespace, removed at the end.
struct Network;

impl Network {
    fn enter() -> Self {
        let _ = Command::new("ip").args(["netns", "del", NAMESPACE]).output();
        let added = Command::new("ip").args(["netns", "add", NAMESPACE]).output().unwrap();
        assert!(added.status.success());
        let namespace = File::open(format!("/run/netns/{NAMESPACE}")).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        Self
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", NAMESPACE]).output();
    }
}

fn objects<O: Object, M: FromIterator<(O::Key, O::Value)>>(count: usize, object: impl Fn(usize) -> Value) -> M {
    let entries = (0..count).map(|index| serde_json::from_value::<O>(object(index)).unwrap().into_entry());
    entries.map(|(key, value)| (key, value.unwrap())).collect()
}

/// Twenty namespaces of fifty pods, all on one node; each policy selects five pods and allows ten others, by several
/// selectors, a named port, a range and a block.
fn generate() -> (Policies, Pods, Namespaces) {
    let pods = objects::<PodObject, _>(1000, |index| {
        let (namespace, within) = (index / 50, index % 50);
        json!({
            "metadata": {"namespace": format!("n{namespace}"), "name": format!("p{within}"), "uid": "u",
                "labels": {"app": format!("a{}", within % 10), "tier": format!("t{}", within % 5), "index": within.to_string()}},
            "spec": {"nodeName": "a", "containers": [{"ports": [{"name": "http", "containerPort": 8000 + within}]}]},
            "status": {"phase": "Running", "podIPs": [
                {"ip": format!("10.244.{namespace}.{}", within + 1)}, {"ip": format!("fd00:244::{namespace}:{}", within + 1)}]},
        })
    });
    let namespaces = objects::<NamespaceObject, _>(
        20,
        |index| json!({"metadata": {"name": format!("n{index}"), "labels": {"team": format!("x{}", index % 4)}}}),
    );
    let policies = objects::<PolicyObject, _>(1000, |index| {
        let (namespace, within) = (index / 50, index % 50);
        let app = |app: usize| json!({"matchLabels": {"app": format!("a{}", app % 10)}});
        let team = json!({"matchLabels": {"team": format!("x{}", index % 4)}});
        let peers = json!([
            {"podSelector": app(within + 1)},
            {"namespaceSelector": team, "podSelector": {"matchLabels": {"index": within.to_string()}}},
            {"ipBlock": {"cidr": "192.168.0.0/16", "except": [format!("192.168.{within}.0/24")]}},
        ]);
        let rule = |side: &str| json!([{side: peers, "ports": [{"port": "http"}, {"port": 9000 + within, "endPort": 9100 + within}]}]);
        json!({
            "metadata": {"namespace": format!("n{namespace}"), "name": format!("policy-{within}")},
            "spec": {"podSelector": app(within), "policyTypes": ["Ingress", "Egress"],
                "ingress": rule("from"), "egress": rule("to")},
        })
    });
    (policies, pods, namespaces)
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "needs root and network namespaces; figures count in release mode"]
async fn a_thousand_policies_for_a_thousand_pods_are_in_force_within_a_second() {
    let (policies, pods, namespaces) = generate();
    assert_eq!((policies.len(), pods.len()), (1000, 1000));
    for families in [&[Family::Four][..], &[Family::Four, Family::Six]] {
        let (all, one) = measure(&policies, pods.clone(), &namespaces, families).await;
        assert!(cfg!(debug_assertions) || (all < LIMIT && one < LIMIT), "{all:?}, {one:?}");
    }
}

/// The time for all rules, and then for the removal of one pod.
async fn measure(
    policies: &Policies,
    mut pods: Pods,
    namespaces: &Namespaces,
    families: &[Family],
) -> (Duration, Duration) {
    let records = Records::new();
    let _network = Network::enter();
    let rules = |pods: &Pods| compile(&Cluster { node: "a", policies, pods, namespaces, records: &records });
    let began = Instant::now();
    let first = rules(&pods);
    let compiled = began.elapsed();
    let script = render::full(&first, families);
    let rendered = began.elapsed();
    nft::run(&script).await.unwrap();
    let all = began.elapsed();
    println!(
        "{families:?}: compile {compiled:?}, render {:?} ({} KiB, {} sets), nft {:?}: {all:?}",
        rendered.saturating_sub(compiled),
        script.len() / 1024,
        first.sets.len(),
        all.saturating_sub(rendered)
    );
    pods.retain(|name, _| name.to_string() != "n3/p7");
    let began = Instant::now();
    let second = rules(&pods);
    let script = render::update(&first, &second, families);
    nft::run(&script).await.unwrap();
    let one = began.elapsed();
    println!("one pod less: {one:?} ({} bytes)", script.len());
    (all, one)
}
