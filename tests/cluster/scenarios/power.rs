//! Stop, start, pause: nothing is lost, what cannot answer says so at once, and every command can be repeated.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::harness::chance;
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{LIMIT, contains, docker, ensure, eventually, run, start};

/// What ends at once, and not after the time of a request: on a machine that also does other things.
const MAX_ANSWER: Duration = Duration::from_secs(3);

/// Commands that need the API end at once with the way to go on.
fn refused(cluster: &Cluster, state: &str, hint: &str) -> Result<(), String> {
    for command in [&["url", "web"][..], &["addon", "list"], &["kubectl", "get", "nodes"], &["tunnel"]] {
        let began = Instant::now();
        let output = cluster.coracle_output(command)?;
        ensure(output.code == 5 && began.elapsed() < MAX_ANSWER, || {
            format!("{:?}: {}", began.elapsed(), output.told())
        })?;
        contains(&output.stderr, &format!("error[cluster-stopped]: cluster `{}` is {state}", cluster.name))?;
        contains(&output.stderr, hint)?;
    }
    let status = cluster.coracle_output(&["status"])?;
    ensure(status.code == 1, || status.told())?;
    contains(&status.stdout, &format!("is {state}"))?;
    contains(&status.stderr, hint)?;
    let clusters = cluster.coracle(&["get", "clusters"])?;
    let is_own = |line: &&str| line.starts_with(&format!("{} ", cluster.name));
    contains(clusters.lines().find(is_own).unwrap_or_default(), state)?;
    contains(&cluster.coracle(&["get", "kubeconfig"])?, "client-key-data")
}

/// Writes as fast as it can, and notes what the API server has acknowledged, until the file `end` is there.
const WRITER: &str = r#"
round=0
while ! [ -e "$HOME/end" ]; do
  round=$((round + 1))
  if kubectl create configmap "written-$round" --request-timeout=3s >/dev/null 2>&1; then
    echo "configmap/written-$round"
  else
    sleep 0.1
  fi
done"#;

/// Stop and start while a client writes: everything that was acknowledged is there, with the same addresses and ports.
pub(super) fn stop_start(cluster: &Cluster) -> Result<(), String> {
    let (endpoint, address) = (cluster.host_port(6443)?, cluster.address()?);
    let writer = start(cluster.script(WRITER, &cluster.home)?, None)?;
    let mut times = Vec::new();
    let rounds = chance::rounds(2, 50);
    let work = (0..rounds).try_for_each(|_| {
        eventually(EVENTUALLY_TIMEOUT, || cluster.kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"]))?;
        let began = Instant::now();
        cluster.coracle(&["stop"])?;
        let (stopped, began) = (began.elapsed(), Instant::now());
        cluster.coracle(&["start"])?;
        times.push((stopped, began.elapsed()));
        // What `start` calls usable is.
        cluster.coracle(&["status"]).map(drop)
    });
    cluster.write("end", "")?;
    let written = writer.finish(LIMIT).and_then(crate::harness::run::Output::ok);
    work?;
    let written = written?;
    let there = cluster.kubectl(&["get", "configmaps", "--output=name"])?;
    let lost: Vec<&str> = written.lines().filter(|name| !there.lines().any(|other| other == *name)).collect();
    ensure(lost.is_empty(), || format!("acknowledged and lost: {}", lost.join(", ")))?;
    let count = written.lines().count();
    ensure(count >= rounds, || format!("only {count} writes in {rounds} rounds"))?;
    let seconds = |pick: fn(&(Duration, Duration)) -> Duration| {
        times.iter().map(|time| format!("{:.1}", pick(time).as_secs_f64())).collect::<Vec<_>>().join(" ")
    };
    println!("        {count} writes; stop {} s, start {} s", seconds(|time| time.0), seconds(|time| time.1));
    ensure(cluster.host_port(6443)? == endpoint, || "the API server's port has changed".to_owned())?;
    ensure(cluster.address()? == address, || "the node's address has changed".to_owned())
}

/// What a cluster at rest says and does.
pub(super) fn rest(cluster: &Cluster) -> Result<(), String> {
    port_taken(cluster)?;
    pause(cluster)
}

/// What is stopped says so, and a port that someone took meanwhile is named with who has it.
fn port_taken(cluster: &Cluster) -> Result<(), String> {
    let port: u16 = cluster.host_port(6443)?.rsplit(':').next().and_then(|port| port.parse().ok()).ok_or("no port")?;
    cluster.kubectl(&["create", "configmap", "before-move", "--from-literal=key=value"])?;
    cluster.in_node("mkdir /etc/by-hand; echo kept > /etc/by-hand/file; chmod 640 /etc/by-hand/file")?;
    cluster.coracle(&["stop", "cluster", &cluster.name])?;
    refused(cluster, "stopped", &format!("`coracle start {}`", cluster.name))?;
    contains(&cluster.coracle_output(&["stop"])?.stderr, "is already stopped")?;
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    let output = cluster.coracle_output(&["start"])?;
    ensure(output.code == 4, || output.told())?;
    contains(&output.stderr, &format!("error[port-taken]: port {port} on 127.0.0.1 is taken"))?;
    contains(&output.stderr, &format!("(process {}) uses it", std::process::id()))?;
    contains(&output.stderr, "--move-ports")?;
    moved(cluster, port)?;
    cluster.coracle(&["stop"])?;
    drop(listener);
    // Interrupted in the middle, and then again.
    let line = format!("timeout --signal=INT 2 {} start || true", crate::harness::coracle());
    run(cluster.shell(&line), None, LIMIT)?.ok()?;
    cluster.coracle(&["start"])?;
    contains(&cluster.coracle_output(&["start"])?.stderr, "already runs and is ready")?;
    cluster.coracle(&["status"]).map(drop)
}

/// The cluster takes another port instead, with everything that it had: also what was written into its node by hand.
fn moved(cluster: &Cluster, port: u16) -> Result<(), String> {
    let began = Instant::now();
    let output = cluster.coracle_output(&["start", "--move-ports"])?;
    ensure(output.code == 0, || output.told())?;
    contains(&output.stderr, &format!("instead of port {port}: "))?;
    contains(&output.stderr, &format!("(process {}) uses it", std::process::id()))?;
    println!("        start --move-ports: {:.1} s", began.elapsed().as_secs_f64());
    let now = cluster.host_port(6443)?;
    ensure(!now.ends_with(&format!(":{port}")), || format!("it still has {now}"))?;
    let server = cluster.kubectl(&["config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"])?;
    ensure(server == format!("https://{now}"), || format!("the kubeconfig says {server} instead of {now}"))?;
    contains(&cluster.coracle(&["status"])?, &server)?;
    contains(&cluster.kubectl(&["get", "configmap", "before-move", "--output=yaml"])?, "key: value")?;
    contains(&cluster.in_node("cat /etc/by-hand/file; stat --format=%a /etc/by-hand/file")?, "kept\n640")?;
    let all = docker(&["ps", "--all", "--format={{.Names}}"])?;
    ensure(!all.contains(".replaced"), || format!("something is left: {all}"))
}

/// A frozen cluster uses no CPU, says that it is frozen, and goes on at once.
fn pause(cluster: &Cluster) -> Result<(), String> {
    let began = Instant::now();
    cluster.coracle(&["pause"])?;
    let paused = began.elapsed();
    refused(cluster, "paused", &format!("`coracle unpause {}`", cluster.name))?;
    let usage = docker(&["stats", "--no-stream", "--format={{.CPUPerc}}", &cluster.node()])?;
    ensure(usage.trim() == "0.00%", || format!("it uses {usage} of a CPU"))?;
    contains(&cluster.coracle_output(&["pause"])?.stderr, "is already paused")?;
    let began = Instant::now();
    cluster.coracle(&["unpause"])?;
    cluster.kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"])?;
    println!("        pause {:.1} s, unpause {:.1} s", paused.as_secs_f64(), began.elapsed().as_secs_f64());
    contains(&cluster.coracle_output(&["unpause"])?.stderr, "is not paused")?;
    // What is paused can be stopped.
    cluster.coracle(&["pause"])?;
    cluster.coracle(&["stop"])?;
    cluster.coracle(&["start"])?;
    cluster.ready(EVENTUALLY_TIMEOUT)
}

/// A worker stops and starts by its name, and the others go on.
pub(super) fn node(cluster: &Cluster) -> Result<(), String> {
    let worker = format!("{}-worker2", cluster.name);
    cluster.coracle(&["node", "stop", &worker])?;
    let clusters = cluster.coracle(&["get", "clusters"])?;
    contains(&clusters, "partial")?;
    cluster.kubectl(&["get", "nodes"])?;
    let unknown = cluster.coracle_output(&["node", "stop", "nobody"])?;
    ensure(unknown.code == 3, || unknown.told())?;
    cluster.coracle(&["node", "start", &worker])?;
    cluster.coracle(&["status"]).map(drop)
}
