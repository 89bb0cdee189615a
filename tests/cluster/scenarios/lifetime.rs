//! Clusters that end by themselves, and what killed commands have left.

use std::time::{Duration, Instant};

use crate::Group;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{contains, docker, ensure, eventually, start};

const HEAD: &str = "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n";

/// How long the group's cluster is not used until it stops.
const IDLE: Duration = Duration::from_secs(10);

/// A cluster that stops when no one uses it, and others beside it.
pub const LIFETIME: Group = Group {
    name: "lifetime",
    environment: &[],
    create,
    together: &[],
    scenarios: &[("ttl-and-gc", ttl_and_gc), ("idle-stop", idle_stop)],
};

fn create(cluster: &Cluster) -> Result<(), String> {
    cluster.create(&format!("{HEAD}idleStop: {}s\n", IDLE.as_secs()), &[])?;
    cluster.kubectl(&["create", "configmap", "kept"]).map(drop)
}

/// A name of this group's own, and of no one else; the end of the program removes what has it.
fn another(cluster: &Cluster, word: &str) -> String {
    let name = format!("{}{word}-{}", cleanup::PREFIX, std::process::id());
    cleanup::register(&name, &cluster.home.join(word));
    name
}

fn labelled(kind: &str, name: &str) -> Result<String, String> {
    let filter = format!("--filter=label=dev.coracle.cluster={name}");
    match kind {
        "container" => docker(&["ps", "--all", "--quiet", &filter]),
        _ => docker(&[kind, "ls", "--quiet", &filter]),
    }
}

fn nothing_left(name: &str) -> Result<(), String> {
    for kind in ["container", "volume", "network"] {
        let left = labelled(kind, name)?;
        ensure(left.trim().is_empty(), || format!("of {name}, a {kind} is left: {left}"))?;
    }
    Ok(())
}

/// A container of a cluster that is being created.
fn first_container(name: &str) -> Result<String, String> {
    eventually(EVENTUALLY_TIMEOUT, || {
        let made = labelled("container", name)?;
        ensure(!made.trim().is_empty(), || "no container yet".to_owned()).map(|()| made)
    })
}

fn ended(node: &str) -> Result<(), String> {
    let state = docker(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", node])?;
    ensure(state.trim() == "exited 0", || format!("{node}: {state}"))
}

/// `gc` removes what a killed `create` has left, and nothing of one that goes on, of a finished cluster or of someone else.
fn gc(cluster: &Cluster) -> Result<(), String> {
    let (killed, going) = (another(cluster, "killed"), another(cluster, "going"));
    let foreign = format!("{}gc-foreign-{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("network", &foreign);
    docker(&["network", "create", &foreign])?;
    let creating = |name: &str| start(cluster.command(&["create", "cluster", name]), None);
    let first = creating(&killed)?;
    first_container(&killed)?;
    // It is killed as it is dropped.
    drop(first);
    let second = creating(&going)?;
    let made = first_container(&going)?;
    let found = cluster.coracle(&["gc", "--dry-run", "--output=json"])?;
    contains(&found, &format!("\"name\":\"{killed}\""))?;
    ensure(!labelled("container", &killed)?.trim().is_empty(), || "`--dry-run` removed something".to_owned())?;
    let said = cluster.coracle(&["gc"])?;
    contains(&said, &killed)?;
    ensure(!said.contains(&going) && !said.contains(&cluster.name), || format!("gc removed too much: {said}"))?;
    nothing_left(&killed)?;
    ensure(labelled("container", &going)?.contains(made.trim()), || format!("gc took the node of {going}"))?;
    second.signal("INT")?;
    let end = second.finish(EVENTUALLY_TIMEOUT)?;
    ensure(end.code == 130, || end.told())?;
    nothing_left(&going)?;
    docker(&["network", "inspect", &foreign])?;
    docker(&["inspect", "--format", "{{.State.Status}}", &cluster.node()]).map(drop)
}

/// Without use the node stops for good, and comes back with its data.
fn idle_stop(cluster: &Cluster) -> Result<(), String> {
    eventually(EVENTUALLY_TIMEOUT, || ended(&cluster.node()))?;
    contains(&cluster.coracle(&["get", "clusters"])?, "stopped")?;
    docker(&["start", &cluster.node()])?;
    eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["kubectl", "get", "configmap", "kept"]))?;
    // Whether it is well already is not what this is about.
    let status = cluster.coracle_output(&["status", "--output=json"])?;
    contains(&status.stdout, &format!("\"idleStop\": \"{}s\"", IDLE.as_secs()))
}

/// What happens beside the group's cluster, which a watch keeps running meanwhile.
fn ttl_and_gc(cluster: &Cluster) -> Result<(), String> {
    let watch = start(cluster.kubectl_command(&["get", "configmaps", "--watch"]), None)?;
    let began = Instant::now();
    ttl(cluster)?;
    gc(cluster)?;
    // Without the watch it would be marked by now as one that stops.
    std::thread::sleep((2 * IDLE).saturating_sub(began.elapsed()));
    let service = cluster.coracle(&["kubectl", "get", "service", "kubernetes", "--output=yaml"])?;
    ensure(!service.contains("dev.coracle.idle-stop"), || "the cluster stops though somebody watches".to_owned())?;
    drop(watch);
    Ok(())
}

/// When its time is over, a cluster stops by itself, and the next command removes it; one that got more time stays.
fn ttl(cluster: &Cluster) -> Result<(), String> {
    let name = another(cluster, "ttl");
    let node = format!("{name}-control-plane");
    // On a slow machine its time is over before it is ready.
    let created = cluster.coracle_output(&["create", "cluster", &name, "--ttl=10s", "--wait=0s", "--retain"])?;
    ensure(created.code == 0 || created.stderr.contains("the cluster expired at"), || created.told())?;
    eventually(EVENTUALLY_TIMEOUT, || ended(&node))?;
    // Whoever starts it: it ends before anything in it begins.
    docker(&["start", &node])?;
    eventually(EVENTUALLY_TIMEOUT, || ended(&node))?;
    cluster.coracle(&["extend", &name, "--ttl=2h"])?;
    let clusters = cluster.coracle_json(&["get", "clusters", "--output=json"])?;
    let of = |name: &str| clusters.as_array().and_then(|all| all.iter().find(|one| one["name"] == name).cloned());
    ensure(of(&name).is_some_and(|one| one["expires"].is_string()), || format!("get clusters: {clusters}"))?;
    ensure(of(&cluster.name).is_some_and(|one| one["expires"].is_null()), || format!("get clusters: {clusters}"))?;
    // What it would have been without more time.
    let past = cluster.write("expires", "1 1970-01-01T00:00:01Z\n")?;
    docker(&["cp", &past, &format!("{node}:/etc/coracle/expires")])?;
    let dry = cluster.coracle_output(&["create", "cluster", "--dry-run", "--name", &format!("{name}-other")])?;
    ensure(dry.code == 0 && !labelled("container", &name)?.trim().is_empty(), || dry.told())?;
    let next = cluster.coracle_output(&["get", "clusters"])?;
    contains(&next.stderr, &format!("Removed cluster `{name}`"))?;
    ensure(next.stderr.lines().count() == 1 && !next.stdout.contains(&name), || next.told())?;
    nothing_left(&name)?;
    let kubeconfig = std::fs::read_to_string(cluster.kubeconfig()).map_err(|error| error.to_string())?;
    ensure(!kubeconfig.contains(&name), || "its entry is left in the kubeconfig".to_owned())
}
