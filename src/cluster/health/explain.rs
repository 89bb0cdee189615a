//! Why a cluster is not usable at its deadline: what does not work is looked for, from the nodes to the way to the API.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::health::api::{self, Api};
use crate::cluster::health::causes::{self, Cause, Evidence, OF_CONNECTIONS, OF_WARNINGS, find_among};
use crate::cluster::health::diagnose::{self, Failure, Outlook, find_failure};
use crate::cluster::health::facts::{self, Facts};
use crate::cluster::health::probe::{self, Fault};
use crate::cluster::health::warnings;
use crate::engine::Engine;
use crate::error::{Code, Error};
use crate::kubernetes::Client;

/// How long may be looked for the reason.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the API server may take to say whether it is ready.
const ANSWER: Duration = Duration::from_secs(10);
/// The same, while there is time left: what does not answer then may only be slow.
const QUICK_ANSWER: Duration = Duration::from_secs(2);
/// How long an address of this host may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// The failure that explains a missed deadline, else the error itself, with what is known and a hint.
pub(super) async fn explained(engine: &dyn Engine, client: &Client, nodes: &[String], error: Error) -> Error {
    let found = timeout(TIMEOUT, reason(engine, client, nodes, &error)).await;
    found.ok().flatten().unwrap_or_else(|| error.hint("give it more time with `--wait 10m`"))
}

/// Why the cluster is not usable; `None` if nothing is found.
async fn reason(engine: &dyn Engine, client: &Client, nodes: &[String], error: &Error) -> Option<Error> {
    for node in nodes {
        if let Some(failure) = find_failure(engine, node).await {
            return Some(failure.error);
        }
    }
    let mut lines = warnings::read(client).await;
    lines.extend(error.cause().map(str::to_owned));
    if let Some(found) = find_among(&OF_WARNINGS, &Evidence { facts: &Facts::default(), lines: &lines }) {
        return Some(found.explain(error.clone()).with_lines(error.cause().map(str::to_owned)));
    }
    let mut known = true;
    for node in nodes {
        match probe::ask(engine, node).await.map(|found| found.faults.into_iter().next()) {
            Ok(Some(fault)) => return Some(of_fault(engine, node, fault).await),
            Ok(None) => {}
            Err(_) => known = false,
        }
    }
    let said = timeout(ANSWER, api::ask(client)).await;
    let silent = || Api::Silent(format!("no answer within {} s", ANSWER.as_secs()));
    match said.unwrap_or_else(|_| silent()) {
        // All components answer in their nodes, so it is the way there.
        Api::Silent(cause) if known => Some(not_reached(client, &cause).await.with_lines([error.to_string()])),
        Api::Silent(_) | Api::Unready(_) | Api::Ready => None,
    }
}

/// Why this host does not reach an API server that works.
async fn not_reached(client: &Client, cause: &str) -> Error {
    let lines = [cause.to_owned()];
    if let Some(found) = find_among(&OF_CONNECTIONS, &Evidence { facts: &Facts::default(), lines: &lines }) {
        return found.error(Code::NotReady);
    }
    // What accepts connections and then says nothing loses what is larger than the first packets.
    let is_refused = cause.contains("refused") || cause.contains("unreachable");
    let accepts = match client.address().filter(|_| !is_refused) {
        Some(address) => timeout(CONNECT, TcpStream::connect(address)).await.is_ok_and(|stream| stream.is_ok()),
        None => false,
    };
    let cause = if accepts {
        causes::found(
            Cause::SmallPackets,
            &format!("the connection is accepted, and its TLS handshake does not end: {cause}"),
        )
    } else {
        causes::found(Cause::NotReached, cause)
    };
    cause.error(Code::NotReady)
}

/// What is wrong with the way from this host to the API server: its certificate is of another cluster, or it works in its node
/// and connections from here are refused. Silence may be that of a slow machine.
pub(super) async fn of_way(engine: &dyn Engine, client: &Client, nodes: &[String]) -> Option<Failure> {
    let Ok(Api::Silent(cause)) = timeout(QUICK_ANSWER, api::ask(client)).await else { return None };
    let lines = [cause.clone()];
    let found = match find_among(&OF_CONNECTIONS, &Evidence { facts: &Facts::default(), lines: &lines }) {
        Some(found) => found,
        None if ["refused", "unreachable", "no route"].iter().any(|word| cause.contains(word)) => {
            // With several control planes, one that works does not mean that their load balancer does.
            let [node, rest @ ..] = nodes else { return None };
            let works = probe::ask(engine, node).await.is_ok_and(|found| found.faults.is_empty());
            (works && rest.iter().all(|other| !other.contains("control-plane")))
                .then(|| causes::found(Cause::NotReached, &cause))?
        }
        None => return None,
    };
    Some(Failure { error: found.error(Code::NotReady), outlook: Outlook::Lasting })
}

async fn of_fault(engine: &dyn Engine, node: &str, fault: Fault) -> Error {
    let id = engine.inspect(node).await.ok().flatten().map(|inspected| diagnose::id(&inspected));
    let facts = facts::look(engine, node, &id.unwrap_or_default()).await.unwrap_or_default();
    let lines = facts::log(engine, node, &facts, &fault.component).await;
    let error = Error::new(Code::NotReady, fault.message())
        .on_node(node)
        .because(lines.last().map_or_else(|| fault.cause.clone(), |line| format!("{}; {line}", fault.cause)))
        .hint("on a slow machine, give it more time with `--wait 10m`");
    let found = find_among(&causes::OF_COMPONENTS, &Evidence { facts: &facts, lines: &lines });
    match found.filter(|found| found.cause != Cause::Setting) {
        Some(found) => found.explain(error).with_lines(lines),
        None => error.with_lines(lines),
    }
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
                ["sh", "-c", _] => answers,
                ["sh", ..] => "\u{1}disk\n65536 4096\n",
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
        assert!(error.hints().iter().any(|hint| hint.contains("--wait")), "{error:?}");
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
        assert_eq!(error.cause_id(), Some("not-reached"));
        assert!(error.hints()[0].contains("VPN") && error.lines()[0].contains("cannot create Node"), "{error:?}");
    }
}
