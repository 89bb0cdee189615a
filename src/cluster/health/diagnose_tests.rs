use serde_json::{Value, json};

use super::*;
use crate::cluster::health::facts::Killed;
use crate::engine::fake::FakeEngine;
use crate::engine::spec::{ContainerSpec, ExecOutput};

async fn look(engine: &FakeEngine) -> Option<Failure> {
    let inspected = engine.inspect("t-node").await.unwrap().unwrap();
    stopped(engine, "t-node", &inspected).await
}

#[tokio::test]
async fn a_node_that_was_killed_twice_is_told_with_how_it_ended() {
    let engine = FakeEngine::new(&["node"]);
    engine.create_container(&ContainerSpec::new("t-node", "node")).await.unwrap();
    engine.start_container("t-node").await.unwrap();
    for _ in 0..2 {
        assert!(look(&engine).await.is_none());
        engine.restarts_after("t-node", 137);
    }
    let error = look(&engine).await.unwrap().error;
    let cause = error.cause().unwrap_or_default();
    assert!(cause.starts_with("its container exited 2 times and was restarted by the engine;"), "{cause}");
    assert!(cause.contains("its last exit code was 137, which is SIGKILL"), "{cause}");
    // The log is that of the new start.
    assert!(error.lines().is_empty());
    engine.stop_container("t-node", 0).await.unwrap();
    let error = look(&engine).await.unwrap().error;
    assert!(error.cause().unwrap().starts_with("its container exited with 0"), "{error}");
}

#[test]
fn only_a_quick_end_with_an_error_counts() {
    assert!(is_short_failure(&End { code: 1, lived: 0 }, &Facts::default()));
    assert!(!is_short_failure(&End { code: 0, lived: 0 }, &Facts::default()));
    assert!(!is_short_failure(&End { code: 1, lived: 29 }, &Facts::default()));
    let killed = vec![Killed { program: "etcd".to_owned(), by_limit: true }];
    assert!(is_short_failure(&End { code: 137, lived: 29 }, &Facts { killed, ..Facts::default() }));
}

#[tokio::test]
async fn a_node_that_got_no_inotify_instance_is_told_as_one() {
    let log = "Failed to create control group inotify object: Too many open files";
    let reason = few_inotify(&FakeEngine::new(&["node"]), log).await;
    assert_eq!(reason.as_deref(), Some("the kernel refused it an inotify instance"));
}

fn container(attempt: u64, state: &str) -> Value {
    let labels = json!({"io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.pod.name": "etcd-a"});
    let metadata = json!({"name": "etcd", "attempt": attempt});
    json!({"id": format!("c{attempt}"), "metadata": metadata, "state": state, "labels": labels})
}

/// A node whose kubelet was restarted this often, and answers or not, with these containers.
async fn node(restarts: u64, answers: bool, containers: Vec<Value>, log: &str) -> Option<Failure> {
    let log = log.to_owned();
    let engine = FakeEngine::new(&["node"]).on_exec(move |_, command, _| {
        let (exit_code, stdout) = match *command {
            ["sh", "-c", _, "facts", _] => {
                let (well, containers) = (if answers { "yes" } else { "" }, json!({"containers": containers}));
                let parts = format!(
                    "\u{1}disk\n65536 4096\n\u{1}restarts\n{restarts}\n\u{1}well\n{well}\n\u{1}containers\n{containers}\n"
                );
                (0, parts)
            }
            ["crictl", "inspect", _] => {
                let status = json!({"exitCode": 1, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"});
                (0, json!({"status": status}).to_string())
            }
            ["crictl", "logs", ..] => (0, log.clone()),
            _ => (0, "error: it broke".to_owned()),
        };
        ExecOutput { exit_code, stdout: stdout.into(), stderr: Vec::new() }
    });
    engine.create_container(&ContainerSpec::new("a", "node")).await.unwrap();
    engine.start_container("a").await.unwrap();
    find_failure(&engine, "a").await
}

#[tokio::test]
async fn a_kubelet_that_is_well_now_is_no_failure_and_one_that_fails_must_fail_again() {
    assert!(node(5, true, Vec::new(), "").await.is_none());
    let failing = async |restarts| node(restarts, false, Vec::new(), "").await.unwrap();
    let (first, same, again) = (failing(2).await, failing(2).await, failing(3).await);
    assert_eq!(first.error.message(), "the kubelet keeps failing");
    assert!(!same.confirms(&first) && again.confirms(&first));
}

#[tokio::test]
async fn a_component_that_runs_now_is_no_failure() {
    let ended = || container(2, "CONTAINER_EXITED");
    assert!(node(0, true, vec![ended(), container(3, "CONTAINER_RUNNING")], "").await.is_none());
    let failing = node(0, true, vec![ended()], "error: no such host").await.unwrap();
    assert_eq!(failing.error.to_string(), "etcd keeps failing on node `a`: error: no such host");
    // It may only have been too early.
    assert!(!failing.confirms(&failing));
    let mistaken = node(0, true, vec![ended()], "error: unknown flag: --x").await.unwrap();
    assert_eq!((mistaken.outlook, mistaken.error.cause_id()), (Outlook::Final, Some("setting")));
    assert!(mistaken.error.hints()[0].contains("check `etcd`"), "{mistaken:?}");
    // A wrong flag shows at the first attempt, and what may have been too early does not.
    let first = || vec![container(0, "CONTAINER_EXITED")];
    assert!(node(0, true, first(), "error: no such host").await.is_none());
    assert!(node(0, true, first(), "flag provided but not defined: -x").await.is_some());
}
