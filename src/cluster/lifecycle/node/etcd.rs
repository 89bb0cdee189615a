//! The members of a cluster's etcd, which come and go one at a time: asked and changed by `etcdctl` in a control plane.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::engine::Engine;
use crate::engine::files::run;
use crate::error::{Code, Error, Result};
use crate::plan::layout::peer_url;
use crate::plan::node::static_pods::ETCDCTL;

/// Pause between two attempts to make a member vote.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a change of the members may take, with etcd's 5 s and an election.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(40);

/// Runs its arguments in the node, or, with images that have etcdctl with etcd only, as kind's, in etcd's container.
const HERE_OR_IN_POD: &str = "if command -v \"$0\" >/dev/null; then exec \"$0\" \"$@\"; fi
    crictl() { command crictl --runtime-endpoint=unix:///run/containerd/containerd.sock \"$@\"; }
    crictl exec \"$(crictl ps --quiet --name='^etcd$' | head -n 1)\" \"$0\" \"$@\"";

/// A member of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Member {
    #[serde(rename = "ID")]
    pub(super) id: u64,
    /// The name of its node; empty before it has begun.
    #[serde(default)]
    pub(super) name: String,
    #[serde(rename = "peerURLs", default)]
    peers: Vec<String>,
    #[serde(rename = "isLearner", default)]
    pub(super) is_learner: bool,
}

impl Member {
    /// Whether it is that of a node with this name and address.
    pub(super) fn is_of(&self, name: &str, address: IpAddr) -> bool {
        self.name == name || self.peers.iter().any(|peer| *peer == peer_url(address))
    }
}

#[derive(Deserialize)]
struct Members {
    members: Vec<Member>,
}

/// The members, as the control plane `node` knows them.
pub(super) async fn members(engine: &dyn Engine, node: &str) -> Result<Vec<Member>> {
    let all: Members = read(node, &etcdctl(engine, node, &["member", "list"]).await?)?;
    Ok(all.members)
}

/// Adds a member that does not vote yet, and returns its ID.
pub(super) async fn add(engine: &dyn Engine, node: &str, name: &str, address: IpAddr) -> Result<u64> {
    let peers = format!("--peer-urls={}", peer_url(address));
    let command = ["member", "add", name, "--learner", &peers];
    let is_there = |all: &[Member]| all.iter().find(|member| member.is_of(name, address)).map(|member| member.id);
    change(engine, node, &command, is_there).await
}

/// Makes a member vote, once it has everything that the others have.
pub(super) async fn promote(engine: &dyn Engine, node: &str, id: u64, deadline: Instant) -> Result<()> {
    loop {
        match etcdctl(engine, node, &["member", "promote", &hexadecimal(id)]).await {
            Ok(_) => return Ok(()),
            // It does not run yet, or is behind.
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Removes a member.
pub(super) async fn remove(engine: &dyn Engine, node: &str, id: u64) -> Result<()> {
    let command = ["member", "remove", &hexadecimal(id)];
    let is_gone = |all: &[Member]| all.iter().all(|member| member.id != id).then_some(());
    change(engine, node, &command, is_gone).await
}

/// Changes the list of members, and returns what `seen` finds in it then. etcd allows a change once every member was connected
/// for 5 s, and what timed out may have happened.
async fn change<T>(
    engine: &dyn Engine,
    node: &str,
    command: &[&str],
    seen: impl Fn(&[Member]) -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + CHANGE_TIMEOUT;
    loop {
        let done = etcdctl(engine, node, command).await;
        let found = members(engine, node).await.map(|all| seen(&all));
        match (done, found) {
            (_, Ok(Some(found))) => return Ok(found),
            (Err(error), _) | (Ok(_), Err(error)) if Instant::now() >= deadline => return Err(error),
            _ => sleep(PAUSE).await,
        }
    }
}

/// Has another member lead, if the one of the control plane `node` does.
pub(super) async fn hand_over(engine: &dyn Engine, node: &str, to: u64) -> Result<()> {
    #[derive(Deserialize)]
    struct Endpoint {
        #[serde(rename = "Status")]
        status: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        header: Header,
        #[serde(default)]
        leader: u64,
    }
    #[derive(Deserialize)]
    struct Header {
        member_id: u64,
    }
    let all: Vec<Endpoint> = read(node, &etcdctl(engine, node, &["endpoint", "status"]).await?)?;
    if all.iter().any(|endpoint| endpoint.status.leader == endpoint.status.header.member_id) {
        etcdctl(engine, node, &["move-leader", &hexadecimal(to)]).await?;
    }
    Ok(())
}

async fn etcdctl(engine: &dyn Engine, node: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let what = format!("`etcdctl {}` failed", arguments.join(" "));
    let failed = Error::new(Code::StepFailed, what).on_node(node);
    run(engine, node, &[&["sh", "-c", HERE_OR_IN_POD], &ETCDCTL[..], arguments].concat(), None, failed).await
}

fn read<T: for<'a> Deserialize<'a>>(node: &str, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|source| {
        Error::new(Code::StepFailed, "cannot read what etcdctl prints").on_node(node).with_cause(&source)
    })
}

/// An ID as etcdctl takes it.
fn hexadecimal(id: u64) -> String {
    format!("{id:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_known_by_its_name_or_by_its_address() {
        let text = br#"{"header":{"cluster_id":1},"members":[
            {"ID":2583549131277751082,"name":"t-control-plane","peerURLs":["https://172.18.0.3:2380"],"clientURLs":["https://172.18.0.3:2379"]},
            {"ID":12,"peerURLs":["https://172.18.0.4:2380"],"isLearner":true}]}"#;
        let all: Members = read("n", text).unwrap();
        let is_of = |index: usize, name: &str, address: &str| all.members[index].is_of(name, address.parse().unwrap());
        assert!(is_of(0, "t-control-plane", "1.1.1.1") && !is_of(0, "t-control-plane2", "172.18.0.4"));
        assert!(is_of(1, "t-control-plane2", "172.18.0.4") && all.members[1].is_learner);
        assert_eq!((hexadecimal(all.members[1].id), hexadecimal(255)), ("c".to_owned(), "ff".to_owned()));
    }
}
