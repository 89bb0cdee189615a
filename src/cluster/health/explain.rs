//! Why a cluster is not usable at its deadline: what does not work is looked for, from the nodes to the way to the API.

use std::time::Duration;

use tokio::time::timeout;

use crate::cluster::health::api::{self, Api};
use crate::cluster::health::diagnose::{self, find_failure};
use crate::cluster::health::probe::{self, Fault};
use crate::engine::Engine;
use crate::error::{Code, Error};
use crate::kubernetes::Client;

/// Where the logs of a create that failed are.
const LOGS: &str = "`--logs-on-failure DIR` keeps the logs of all nodes, and `--retain` the nodes themselves";

/// How long may be looked for the reason.
const LIMIT: Duration = Duration::from_secs(30);
/// How long the API server may take to say whether it is ready.
const ANSWER: Duration = Duration::from_secs(10);

/// The failure that explains a missed deadline, else the error itself, with what is known and a hint.
pub(super) async fn explained(engine: &dyn Engine, client: &Client, nodes: &[String], error: Error) -> Error {
    let found = timeout(LIMIT, reason(engine, client, nodes, &error)).await;
    found.ok().flatten().unwrap_or_else(|| error.hint("give it more time with `--wait 10m`").hint(LOGS))
}

/// Why the cluster is not usable; `None` if nothing is found.
async fn reason(engine: &dyn Engine, client: &Client, nodes: &[String], error: &Error) -> Option<Error> {
    for node in nodes {
        if let Some(failure) = find_failure(engine, node).await {
            return Some(failure.error);
        }
    }
    let mut known = true;
    for node in nodes {
        match probe::faults(engine, node).await.map(|faults| faults.into_iter().next()) {
            Ok(Some(fault)) => return Some(of_fault(engine, node, fault).await),
            Ok(None) => {}
            Err(_) => known = false,
        }
    }
    let said = timeout(ANSWER, api::ask(client)).await;
    let silent = || Api::Silent(format!("no answer within {} s", ANSWER.as_secs()));
    match said.unwrap_or_else(|_| silent()) {
        // All components answer in their nodes, so it is the way there.
        Api::Silent(cause) if known => Some(
            Error::new(Code::NotReady, "the API server works in its node, but this host does not reach it")
                .because(cause)
                .with_lines([error.to_string()])
                .hint("look for a VPN, a firewall or a route of this host that takes its connections: `ip route`")
                .hint(LOGS),
        ),
        Api::Silent(_) | Api::Unready(_) | Api::Ready => None,
    }
}

async fn of_fault(engine: &dyn Engine, node: &str, fault: Fault) -> Error {
    let lines = diagnose::log(engine, node, &fault.component).await;
    Error::new(Code::NotReady, fault.message())
        .on_node(node)
        .because(lines.last().map_or_else(|| fault.cause.clone(), |line| format!("{}; {line}", fault.cause)))
        .with_lines(lines)
        .hint("on a slow machine, give it more time with `--wait 10m`")
        .hint(LOGS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::{ContainerSpec, ExecOutput};

    /// What is said of a node that answers so, when no API server answers this host.
    async fn told(answers: &'static str) -> Error {
        let engine = FakeEngine::new(&["node"]).on_exec(move |_, command, _| {
            let stdout = match *command {
                ["sh", ..] => answers,
                ["stat", ..] => "65536 4096",
                ["systemctl", ..] => "0",
                ["crictl", "ps", ..] => "{}",
                ["journalctl", .., "--grep", _] => "",
                _ => "E0101 it failed to start kube-apiserver",
            };
            ExecOutput { stdout: stdout.into(), ..ExecOutput::default() }
        });
        engine.create_container(&ContainerSpec::new("a", "node")).await.unwrap();
        engine.start_container("a").await.unwrap();
        let error = Error::new(Code::ApiFailed, "cannot create Node `a`").because("refused");
        explained(&engine, &Client::anonymous("http://127.0.0.1:1"), &["a".to_owned()], error).await
    }

    #[tokio::test]
    async fn a_component_that_does_not_answer_is_the_cause_and_its_log_the_reason() {
        let error = told("kubelet\tunit\tactive\nkube-apiserver\t000\trefused\n").await;
        assert_eq!(
            error.to_string(),
            "kube-apiserver does not answer on node `a`: refused; E0101 it failed to start kube-apiserver"
        );
        let error = told("kubelet\tunit\tfailed\nkube-apiserver\t000\trefused\n").await;
        assert!(error.to_string().starts_with("the kubelet does not run on node `a`: its unit is failed"), "{error}");
        assert!(error.hints().iter().any(|hint| hint.contains("--logs-on-failure")), "{error:?}");
    }

    #[tokio::test]
    async fn a_node_that_says_nothing_is_not_well() {
        let error = told("").await;
        assert_eq!(error.to_string(), "cannot create Node `a`: refused");
        assert!(error.hints()[0].contains("--wait"), "{error:?}");
    }

    #[tokio::test]
    async fn an_api_server_that_works_in_its_node_is_told_apart_from_one_that_does_not() {
        let error = told("kubelet\tunit\tactive\nkube-apiserver\t200\t\tok\n").await;
        assert!(error.message().contains("this host does not reach it"), "{error}");
        assert!(error.hints()[0].contains("VPN") && error.lines()[0].contains("cannot create Node"), "{error:?}");
    }
}
