//! What a node says is told from what it does not say.

use super::*;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, ExecOutput};

fn told(output: &str) -> Vec<String> {
    read(output).iter().map(|fault| format!("{}: {}", fault.message(), fault.cause)).collect()
}

#[test]
fn a_node_is_well_only_if_all_of_it_is() {
    let well = "containerd\tunit\tactive\nkubelet\tunit\tactive\nkubelet\t200\t\tok\netcd\t200\t\t{}\n\
                kube-apiserver\t401\t\t{}\nkube-scheduler\t200\t\tok\n";
    assert!(told(well).is_empty());
    let ill = "kubelet\tunit\tactive\nkube-scheduler\tabsent\n\
               kube-apiserver\t500\t\t[+]ping ok\u{b}[-]etcd failed: reason withheld\u{b}readyz check failed\n\
               etcd\t000\tFailed to connect\t\nkubelet\t000\tTimed out\t\n";
    assert_eq!(
        told(ill),
        [
            "the kubelet does not answer: Timed out",
            "etcd does not answer: Failed to connect",
            "kube-apiserver is not ready: etcd failed",
            "kube-scheduler is missing: its manifest in /etc/kubernetes/manifests is gone",
        ]
    );
}

#[test]
fn a_worker_is_well_only_if_it_reaches_the_api_server() {
    assert!(told("api\t403\t\tforbidden\n").is_empty());
    assert_eq!(told("api\t000\tno route\t\n"), ["the API server cannot be reached from the node: no route"]);
}

#[test]
fn a_control_plane_that_is_cut_off_is_told_before_what_that_does_to_it() {
    let output = "kubelet\t200\t\tok\netcd\t503\t\t[-]linearizable_read failed\nbalancer\t000\tno connection to a:1\n";
    let way = "the load balancer cannot be reached from the node: no connection to a:1";
    assert_eq!(told(output), [way, "etcd is not ready: linearizable_read failed"]);
}

#[test]
fn a_unit_that_does_not_run_is_told_once() {
    let output = "kubelet\tunit\tfailed\nkubelet\t000\tFailed to connect\t\n";
    assert_eq!(told(output), ["the kubelet does not run: its unit is failed"]);
}

#[test]
fn a_disk_is_full_when_almost_nothing_is_free() {
    assert!(is_full("4099 4096\n"));
    assert!(!is_full("65536 4096\n"));
    assert!(!is_full(""));
    assert_eq!(disk("disk\tdisk\t20 4096 10 100"), Some(Disk { free: 4096 * 10, size: 4096 * 100 }));
    assert_eq!(disk("disk\tdisk\t"), None);
}

/// A node that says this, and what it says if nobody wants its kubeconfig.
async fn node(told: &'static str, otherwise: &'static str) -> FakeEngine {
    let engine = FakeEngine::new(&["node"])
        .on_converse(move |_, _, _, output| output.write_all(told.as_bytes()).unwrap())
        .on_exec(move |_, _, _| ExecOutput { stdout: otherwise.into(), ..ExecOutput::default() });
    engine.create_container(&ContainerSpec::new("a", "node")).await.unwrap();
    engine.start_container("a").await.unwrap();
    engine
}

#[tokio::test]
async fn the_kubeconfig_comes_first_and_is_no_part_of_the_health() {
    let engine = node("kind: Config\n\u{4}kubelet\t200\t\tok\netcd\t000\tTimed out\t\n", "").await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let found = ask_and_tell(&engine, "a", Some(tell)).await.unwrap();
    assert_eq!(told.await.unwrap(), b"kind: Config\n");
    assert_eq!(found.faults.len(), 1, "{found:?}");
}

#[tokio::test]
async fn a_node_that_breaks_off_is_asked_once_more_without_its_kubeconfig() {
    for broken in ["", "kind: Config\n\u{4}"] {
        let engine = node(broken, "kubelet\t200\t\tok\n").await;
        let (tell, _told) = tokio::sync::oneshot::channel();
        assert_eq!(ask_and_tell(&engine, "a", Some(tell)).await.unwrap(), Found::default());
    }
    let engine = node("", "").await;
    let (tell, _told) = tokio::sync::oneshot::channel();
    let error = ask_and_tell(&engine, "a", Some(tell)).await.unwrap_err();
    assert!(error.cause().unwrap().contains("no answer"), "{error}");
}
