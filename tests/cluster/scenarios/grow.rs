//! A cluster that gets more control planes and loses them again, while clients write.

use std::time::{Duration, Instant};

use crate::Group;
use crate::harness::clients::{Attempt, Clients, Kind};
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{contains, docker, ensure, eventually};
use crate::scenarios::hello;

/// What a machine that also does other things may take of what docs/reference/nodes.md promises.
const SLOWER: u32 = 3;
/// No request fails for longer.
const ANSWERED: Duration = Duration::from_secs(2);

/// One control plane and a worker.
pub(super) const GROW: Group = Group {
    name: "grow",
    environment: &[],
    create,
    together: &[],
    scenarios: &[
        ("load", hello::load),
        ("up", up),
        ("any-is-lost", any_is_lost),
        ("down", down),
        ("again", again),
        ("removed-container", removed_container),
    ],
};

fn create(cluster: &Cluster) -> Result<(), String> {
    cluster.create(
        "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes: [{role: control-plane}, {role: worker}]\n",
        &[],
    )
}

/// The slowest request of clients that try again after a second, and of one that reads.
fn slowest(attempts: &[Attempt]) -> Duration {
    let now = Instant::now();
    let of = |attempt: &&Attempt| [Kind::Hurried, Kind::Reader].contains(&attempt.kind);
    let took = |attempt: &Attempt| attempt.ended.unwrap_or(now).duration_since(attempt.first);
    attempts.iter().filter(of).map(took).max().unwrap_or_default()
}

/// Does something while clients write: nothing that was acknowledged is lost, and every request is answered soon.
fn while_written(cluster: &Cluster, what: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let clients = Clients::start(cluster, &format!("{what}-{}", std::process::id()))?;
    let began = Instant::now();
    work()?;
    let took = began.elapsed();
    let slowest = slowest(&clients.since(began));
    let count = clients.finish(cluster)?;
    println!(
        "        {what}: {:.1} s, {count} writes, slowest request {:.1} s",
        took.as_secs_f64(),
        slowest.as_secs_f64()
    );
    ensure(count > 0, || "nothing was written".to_owned())?;
    ensure(slowest < ANSWERED * SLOWER, || format!("a request took {slowest:?}"))
}

/// The address of the API in the user's kubeconfig, and in what `get kubeconfig` prints.
fn server(cluster: &Cluster) -> Result<Vec<String>, String> {
    let user = std::fs::read_to_string(cluster.kubeconfig()).map_err(|error| error.to_string())?;
    let now = cluster.coracle(&["get", "kubeconfig"])?;
    Ok([user, now]
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| line.contains("server:"))
        .map(str::to_owned)
        .collect())
}

fn up(cluster: &Cluster) -> Result<(), String> {
    let server = server(cluster)?;
    while_written(cluster, "up", || cluster.coracle(&["node", "add", "--role=control-plane", "--count=2"]).map(drop))?;
    ensure(self::server(cluster)? == server, || "the API has another address".to_owned())?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"]))?;
    for node in ["", "2", "3"] {
        has_members(&format!("{}{node}", cluster.node()), 3)?;
    }
    let list = cluster.coracle(&["node", "list", "--output=name"])?;
    ensure(list.lines().count() == 4, || list.clone())
}

/// As many members vote as one of them knows.
fn has_members(node: &str, count: usize) -> Result<(), String> {
    let members = docker(&["exec", node, "sh", "-c", MEMBERS])?;
    ensure(members.matches("peerURLs").count() == count && !members.contains("isLearner"), || members.clone())
}

/// What a member knows of all of them.
const MEMBERS: &str = "cd /etc/kubernetes/pki/etcd && etcdctl --cacert=ca.crt --cert=healthcheck-client.crt \
    --key=healthcheck-client.key --write-out=json member list";

/// Now the first control plane is like the others: the cluster goes on without it.
fn any_is_lost(cluster: &Cluster) -> Result<(), String> {
    docker(&["kill", &cluster.node()])?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.kubectl(&["create", "configmap", "without-the-first"]))?;
    // The kubelet of the worker reaches the API through the load balancer now.
    cluster.kubectl(&["rollout", "restart", "deployment/hello-world"])?;
    cluster.rolled_out("hello-world")?;
    docker(&["start", &cluster.node()])?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"])).map(drop)
}

/// The last one is kept, and so is everything that was written.
fn down(cluster: &Cluster) -> Result<(), String> {
    let (first, third) = (cluster.node(), format!("{}3", cluster.node()));
    while_written(cluster, "down", || cluster.coracle(&["node", "remove", &first, &third]).map(drop))?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"]))?;
    cluster.kubectl(&["get", "configmap", "without-the-first"])?;
    let last = cluster.coracle_output(&["node", "remove", &format!("{first}2")])?;
    ensure(last.code != 0, || last.told())?;
    contains(&last.stderr, "the last control plane")
}

/// From one to three once more, behind the load balancer that is there, and a stop and start.
fn again(cluster: &Cluster) -> Result<(), String> {
    while_written(cluster, "again", || {
        cluster.coracle(&["node", "add", "--role=control-plane", "--count=2"]).map(drop)
    })?;
    cluster.coracle(&["stop"])?;
    cluster.coracle(&["start"])?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"]))?;
    cluster.kubectl(&["get", "configmap", "without-the-first"]).map(drop)
}

/// A control plane whose container someone has removed leaves etcd too.
fn removed_container(cluster: &Cluster) -> Result<(), String> {
    let third = format!("{}3", cluster.node());
    docker(&["rm", "--force", "--volumes", &third])?;
    cluster.coracle(&["node", "remove", &third])?;
    has_members(&format!("{}2", cluster.node()), 2)?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"])).map(drop)
}
