//! Each check of a configuration, provoked by what the engine and the host have.

use std::path::Path;

use super::*;
use crate::config::{Overrides, load};
use crate::engine::fake::{FakeEngine, info};
use crate::engine::spec::{AddressPool, ContainerSpec, Labels, Mount, NetworkSpec};

fn cluster(more: &str) -> ClusterConfig {
    let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nname: t-check\n{more}\n");
    load(&text, "c.yaml", &Overrides::default()).unwrap_or_else(|error| panic!("{error}: {:?}", error.problems()))
}

fn network(name: &str, subnet: &str, mtu: Option<u32>) -> NetworkSpec {
    let subnet: IpNet = subnet.parse().unwrap();
    let pool = AddressPool { subnet, gateway: subnet.addr(), dynamic_range: subnet };
    NetworkSpec { name: name.to_owned(), pools: vec![pool], mtu, labels: Labels::new() }
}

/// The IDs of those that fail, with their errors.
fn failed(checks: &[Check]) -> Vec<(&'static str, Error)> {
    checks.iter().filter_map(|check| Some((check.id.row().id, check.result.as_ref().err()?.clone()))).collect()
}

/// What fails on another host, of which only the engine is known.
async fn far(engine: &FakeEngine, cluster: &ClusterConfig) -> Vec<(&'static str, Error)> {
    let (info, proxy) = (info(), ProxySettings::default());
    let subject = Subject::look(engine, &info, cluster, &proxy, false).await.unwrap();
    failed(&subject.checks())
}

async fn ids(engine: &FakeEngine, cluster: &ClusterConfig) -> Vec<&'static str> {
    far(engine, cluster).await.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn what_a_configuration_names_is_found_one_by_one_and_refused_together() {
    let directory = tempfile::tempdir().unwrap();
    // The engine's files are here.
    let info = EngineInfo { data_root: directory.path().display().to_string(), ..info() };
    let cluster = cluster(
        "nodes:\n- role: control-plane\n  memory: 9Gi\n  cpus: 3\n  devices: [/dev/absent]\n  \
         extraMounts: [{hostPath: /absent-on-this-host, containerPath: /a}]\n  \
         extraPortMappings: [{containerPort: 80, hostPort: 0, listenAddress: 192.0.2.1}]",
    );
    let proxy = ProxySettings::default();
    let subject = Subject::look(&FakeEngine::new(&[]), &info, &cluster, &proxy, true).await.unwrap();
    let checks = subject.placed();
    let failed = failed(&checks);
    let ids: Vec<&str> = failed.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, ["memory-too-large", "cpus-too-many", "device-missing", "mount-missing", "address-absent"]);
    assert!(failed.iter().all(|(_, error)| error.problems().len() == 1), "{failed:?}");
    let error = require(&cluster, &checks).unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
    assert!(error.message().contains("5 problems") && error.problems().len() == 5, "{error}");
    assert!(Path::new(&info.data_root).exists());
}

#[tokio::test]
async fn a_name_that_something_has_is_told() {
    let engine = FakeEngine::new(&["node"]);
    assert_eq!(ids(&engine, &cluster("")).await, [""; 0]);
    let labels = Labels::from([(labels::CLUSTER.to_owned(), "t-check".to_owned())]);
    let volume = Mount::Volume { name: "t-check-var".to_owned(), target: "/var".to_owned(), labels: labels.clone() };
    let spec = ContainerSpec { labels, mounts: vec![volume], ..ContainerSpec::new("t-check-control-plane", "node") };
    engine.create_container(&spec).await.unwrap();
    assert_eq!(ids(&engine, &cluster("")).await, ["cluster-exists", "old-volumes"]);
    engine.remove_container("t-check-control-plane").await.unwrap();
    assert_eq!(ids(&engine, &cluster("")).await, ["old-volumes"]);
}

#[tokio::test]
async fn subnets_that_others_have_are_told() {
    let engine = FakeEngine::new(&[]);
    engine.create_network(&network("bridge", "198.51.100.0/24", Some(1000))).await.unwrap();
    assert_eq!(ids(&engine, &cluster("networking: {ipFamily: dual}")).await, ["small-packets"]);
    engine.create_network(&network("mine", "172.16.0.0/12", None)).await.unwrap();
    assert_eq!(ids(&engine, &cluster("networking: {nodeSubnet: 172.20.0.0/24}")).await, ["subnet-in-use"]);
    engine.create_network(&network("other", "10.192.0.0/11", None)).await.unwrap();
    assert_eq!(ids(&engine, &cluster("")).await, ["no-subnet"]);
}

#[tokio::test]
async fn routes_and_proxies_of_the_host_are_told() {
    let (engine, info) = (FakeEngine::new(&[]), info());
    let proxy = ProxySettings { http: Some("http://127.0.0.1:1".to_owned()), ..ProxySettings::default() };
    let cluster = cluster("networking: {nodeSubnet: 172.30.0.0/22}");
    let mut subject = Subject::look(&engine, &info, &cluster, &proxy, false).await.unwrap();
    let route = |net: &str| Route::new(net.parse().unwrap(), "tun0", 254);
    subject.routes = vec![route("172.30.1.0/24"), route("10.96.0.0/16")];
    let checks = subject.checks();
    let ids: Vec<&str> = failed(&checks).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["subnet-routed", "proxy-unusable", "route-across"]);
    assert_eq!(require(&cluster, &checks).unwrap_err().code(), Code::SubnetClash);
    subject.routes.remove(0);
    let warnings = require(&cluster, &subject.checks()).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[1].contains("`10.96.0.0/16 dev tun0`") && warnings[1].contains("serviceSubnet"), "{warnings:?}");
}
