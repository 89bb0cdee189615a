//! What goes wrong is told with its cause, its exit code and what to run, and nothing is left of it.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::by_hand;
use crate::Group;
use crate::harness::cleanup;
use crate::harness::cluster::{Cluster, FOREIGN};
use crate::harness::run::{Output, Running, contains, docker, docker_output, ensure, eventually, run, start};

/// How long a command that fails may take on a busy machine; `create` would wait for five minutes.
const QUICK: Duration = Duration::from_secs(120);
/// The steps of `create`.
const STEPS: usize = 5;

/// Failures that need no cluster beside them.
pub const FAILURES: Group = Group {
    name: "fail",
    environment: &[],
    create: nothing_is_there,
    together: &[],
    scenarios: &[
        ("engine-absent", engine_absent),
        ("engine-unsupported", engine_unsupported),
        ("engine-permission", engine_permission),
        ("image-missing", image_missing),
        ("inotify", inotify),
        ("port-taken", port_taken),
        ("subnet-clash", subnet_clash),
        ("old-volumes", old_volumes),
        ("ids", super::ids::of_host),
        ("taken-names", super::ownership::taken_names),
        ("config-mistakes", config_mistakes),
        ("all-mistakes", by_hand::all_mistakes),
        ("entry-of-others", by_hand::entry_of_others),
        ("pipe-as-kubeconfig", by_hand::pipe_as_kubeconfig),
        ("deleted-meanwhile", by_hand::deleted_meanwhile),
        ("ctrl-c-at-once", ctrl_c_at_once),
        ("ctrl-c-at-standard-input", ctrl_c_at_standard_input),
        ("ctrl-c-at-every-step", ctrl_c_at_every_step),
        ("sigterm", sigterm),
        ("killed", killed),
        ("wrong-etcd-flag", wrong_etcd_flag),
        ("wrong-kubelet-setting", wrong_kubelet_setting),
        ("retained", retained),
    ],
};

/// Two creates of one name at once; the winner's cluster then dies with a frozen pod.
pub const RACE: Group = Group {
    name: "race",
    environment: &[],
    create: two_at_once,
    together: &[],
    scenarios: &[("frozen-pod", frozen_pod)],
};

fn nothing_is_there(cluster: &Cluster) -> Result<(), String> {
    nothing_left(cluster)
}

/// Neither container, volume, network nor kubeconfig entry has the cluster's name, and the foreign entry is as it was.
pub fn nothing_left(cluster: &Cluster) -> Result<(), String> {
    let name = &cluster.name;
    let label = format!("label=dev.coracle.cluster={name}");
    let by_label = [&["ps", "--all", "--quiet"][..], &["volume", "ls", "--quiet"], &["network", "ls", "--quiet"]];
    for list in by_label {
        let left = docker(&[list, &["--filter", &label]].concat())?;
        ensure(left.is_empty(), || format!("`docker {}` with the label shows {left}", list.join(" ")))?;
    }
    for list in [&["ps", "--all", "--format={{.Names}}"][..], &["volume", "ls"], &["network", "ls"]] {
        ensure(!docker(list)?.contains(name), || format!("`docker {}` shows {name}", list.join(" ")))?;
    }
    let kubeconfig = std::fs::read_to_string(cluster.kubeconfig()).map_err(|error| error.to_string())?;
    // `delete` unsets the current context when it was the cluster's.
    let foreign = [FOREIGN.to_owned(), FOREIGN.replace("current-context: foreign", "current-context: \"\"")];
    ensure(foreign.contains(&kubeconfig), || format!("the kubeconfig was changed: {kubeconfig}"))?;
    ensure(!cluster.home.join("kubeconfig.lock").exists(), || "the kubeconfig is locked".to_owned())
}

/// It failed with this error and exit code, and says all these parts.
pub fn told(output: &Output, id: &str, code: i32, parts: &[&str]) -> Result<(), String> {
    ensure(output.code == code, || output.told())?;
    for part in [&[format!("error[{id}]").as_str(), "hint: "][..], parts].concat() {
        contains(&output.stderr, part)?;
    }
    Ok(())
}

/// Fails to create with this error, and leaves nothing.
pub fn refused(cluster: &Cluster, command: Command, id: &str, code: i32, parts: &[&str]) -> Result<(), String> {
    told(&run(command, None, QUICK)?, id, code, parts)?;
    nothing_left(cluster)
}

fn create_with(cluster: &Cluster, config: &str) -> Result<Command, String> {
    let text = format!("apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n{config}\n");
    let path = cluster.write("cluster.yaml", &text)?;
    Ok(cluster.command(&["create", "cluster", "--config", &path]))
}

fn engine_absent(cluster: &Cluster) -> Result<(), String> {
    let mut command = cluster.command(&["create", "cluster"]);
    command.env("DOCKER_HOST", "unix:///nonexistent.sock");
    refused(
        cluster,
        command,
        "engine-unreachable",
        4,
        &["/nonexistent.sock", "docker -H unix:///nonexistent.sock info"],
    )
}

fn engine_unsupported(cluster: &Cluster) -> Result<(), String> {
    let mut command = cluster.command(&["create", "cluster"]);
    command.env("DOCKER_HOST", "ssh://me@elsewhere");
    refused(cluster, command, "engine-unsupported", 4, &["ssh://me@elsewhere", "not at `ssh:", "unset DOCKER_HOST"])
}

/// As a user who may not use the engine; only root can become one.
fn engine_permission(cluster: &Cluster) -> Result<(), String> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    let socket = std::fs::metadata("/var/run/docker.sock").is_ok_and(|meta| meta.mode() & 0o006 == 0);
    if !root || !socket {
        return Ok(());
    }
    // The build directory may be closed to others.
    let binary = cluster.home.join("coracle");
    std::fs::copy(crate::harness::coracle(), &binary).map_err(|error| error.to_string())?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
    command.args(["create", "cluster", "--name", &cluster.name]).env("KUBECONFIG", cluster.kubeconfig());
    command.env("HOME", &cluster.home).env_remove("DOCKER_HOST");
    refused(cluster, command, "engine-permission", 4, &["/var/run/docker.sock", "usermod -aG docker"])
}

fn image_missing(cluster: &Cluster) -> Result<(), String> {
    let image = "localhost:1/no-such-image:1";
    let command = cluster.command(&["create", "cluster", "--image", image]);
    refused(cluster, command, "image-missing", 3, &[image, "coracle build node-image"])
}

/// Where the kernel allows too few inotify instances: in a mount namespace in which it says so, since others need theirs.
fn inotify(cluster: &Cluster) -> Result<(), String> {
    if std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() != 0) {
        println!("        skipped: only root can make a mount namespace");
        return Ok(());
    }
    let limit = cluster.write("instances", "3\n")?;
    let create = cluster.command(&["create", "cluster"]);
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "mount --bind $0 /proc/sys/fs/inotify/max_user_instances && exec \"$@\"",
        &limit,
    ]);
    command.arg(create.get_program()).args(create.get_args());
    command.envs(create.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let parts = ["the kernel allows 3 per user", "sudo sysctl fs.inotify.max_user_instances="];
    refused(cluster, command, "inotify-limit", 4, &parts)
}

fn port_taken(cluster: &Cluster) -> Result<(), String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let command = create_with(cluster, &format!("networking: {{apiServerPort: {port}}}"))?;
    let named = format!("port {port} on 127.0.0.1 is taken");
    refused(cluster, command, "port-taken", 4, &[&named, &format!("sport = :{port}")])
}

fn subnet_clash(cluster: &Cluster) -> Result<(), String> {
    // Not with the cluster's name in it: that is what must not be left.
    let network = format!("{}subnet-{}", cleanup::PREFIX, std::process::id());
    cleanup::register_object("network", &network);
    docker(&["network", "create", "--subnet=10.213.7.0/24", &network])?;
    let command = create_with(cluster, "networking: {nodeSubnet: 10.213.7.0/24}")?;
    let result = refused(cluster, command, "subnet-clash", 4, &["10.213.7.0/24", &network, "networking.nodeSubnet"]);
    docker(&["network", "rm", &network])?;
    result
}

/// The data of a cluster whose containers someone removed is not started again.
fn old_volumes(cluster: &Cluster) -> Result<(), String> {
    let volume = format!("{}-control-plane-var", cluster.name);
    cleanup::register_object("volume", &volume);
    let label = format!("--label=dev.coracle.cluster={}", cluster.name);
    docker(&["volume", "create", &label, &volume])?;
    let output = run(cluster.command(&["create", "cluster"]), None, QUICK)?;
    told(&output, "cluster-exists", 3, &[&volume, &format!("coracle delete cluster --name {}", cluster.name)])?;
    cluster.coracle(&["delete", "cluster"])?;
    nothing_left(cluster)
}

fn config_mistakes(cluster: &Cluster) -> Result<(), String> {
    let command = create_with(cluster, "networking: {podSubnet: 10.0.0.0, ipFamly: ipv4}\nnodes: [{role: worke}]")?;
    let output = run(command, None, QUICK)?;
    ensure(output.code == 2, || output.told())?;
    for part in ["error[config-invalid]", "cluster.yaml:3:25", "ipFamly", "cluster.yaml:4:16", "worker"] {
        contains(&output.stderr, part)?;
    }
    nothing_left(cluster)
}

/// The names of the steps that have begun, from the events so far.
fn begun(said: &str) -> Vec<String> {
    let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let steps = events.filter(|event| event["event"] == "step" && event["state"] == "started");
    steps.filter_map(|event| event["name"].as_str().map(str::to_owned)).collect()
}

/// Starts to create with events, and waits until the n-th step has begun.
fn creating(cluster: &Cluster, step: usize) -> Result<Running, String> {
    let running = start(cluster.command(&["create", "cluster", "--output", "json"]), None)?;
    eventually(QUICK, || {
        let steps = begun(&running.said());
        let text = || format!("step {step} has not begun: {}", running.said());
        ensure(steps.len() >= step, text)
    })?;
    Ok(running)
}

/// Ends the command with a signal: its exit code, an event that says so, and nothing left.
fn interrupt(cluster: &Cluster, running: Running, signal: &str) -> Result<(), String> {
    running.signal(signal)?;
    let output = running.finish(QUICK)?;
    let (id, code) = if signal == "TERM" { ("terminated", 143) } else { ("interrupted", 130) };
    ensure(output.code == code, || output.told())?;
    let last = output.stdout.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    ensure(last.is_some_and(|event| event["id"] == id && event["exitCode"] == code), || output.told())?;
    nothing_left(cluster)
}

/// An input that does not end does not keep the command.
fn ctrl_c_at_standard_input(cluster: &Cluster) -> Result<(), String> {
    let (reader, mut writer) = std::io::pipe().map_err(|error| error.to_string())?;
    let mine = reader.try_clone().map_err(|error| error.to_string())?;
    writer.write_all(b"apiVersion: coracle.dev/v1alpha1\n").map_err(|error| error.to_string())?;
    let create = cluster.command(&["create", "cluster", "--config", "-", "--output", "json"]);
    let running = start(create, Some(std::os::fd::OwnedFd::from(reader).into()))?;
    eventually(QUICK, || {
        let left = rustix::io::ioctl_fionread(&mine).map_err(|error| error.to_string())?;
        ensure(left == 0, || "it does not read its input".to_owned())
    })?;
    interrupt(cluster, running, "INT")
}

fn ctrl_c_at_once(cluster: &Cluster) -> Result<(), String> {
    let running = start(cluster.command(&["create", "cluster", "--output", "json"]), None)?;
    std::thread::sleep(Duration::from_millis(100));
    interrupt(cluster, running, "INT")
}

fn ctrl_c_at_every_step(cluster: &Cluster) -> Result<(), String> {
    for step in 1..=STEPS {
        let result = creating(cluster, step).and_then(|running| interrupt(cluster, running, "INT"));
        result.map_err(|error| format!("step {step}: {error}"))?;
    }
    Ok(())
}

fn sigterm(cluster: &Cluster) -> Result<(), String> {
    interrupt(cluster, creating(cluster, 3)?, "TERM")
}

/// After a `kill -9` everything is still there; `delete` removes it, and the name is free again.
fn killed(cluster: &Cluster) -> Result<(), String> {
    let running = creating(cluster, 3)?;
    running.signal("KILL")?;
    running.finish(QUICK)?;
    docker(&["inspect", "--format={{.State.Status}}", &cluster.node()])?;
    let output = run(cluster.command(&["create", "cluster"]), None, QUICK)?;
    told(&output, "cluster-exists", 3, &[&format!("coracle delete cluster --name {}", cluster.name)])?;
    cluster.coracle(&["delete", "cluster"])?;
    nothing_left(cluster)?;
    interrupt(cluster, creating(cluster, 3)?, "INT")
}

/// A component that never comes up ends the creation long before the wait is over, with its own words.
fn wrong_etcd_flag(cluster: &Cluster) -> Result<(), String> {
    let mut command = create_with(cluster, "etcd: {max-concurrent-streams: many}")?;
    let logs = cluster.home.join("logs-on-failure");
    command.arg("--logs-on-failure").arg(&logs);
    refused(
        cluster,
        command,
        "component-failed",
        1,
        &["etcd keeps failing", "cause[setting]: ", "-max-concurrent-streams", "check `etcd`"],
    )?;
    let log =
        std::fs::read_to_string(logs.join(cluster.node()).join("kubelet.log")).map_err(|error| error.to_string())?;
    contains(&log, "etcd")
}

fn wrong_kubelet_setting(cluster: &Cluster) -> Result<(), String> {
    let command = create_with(cluster, "kubelet: {maxPods: -5}")?;
    refused(
        cluster,
        command,
        "component-failed",
        1,
        &["the kubelet keeps failing", "cause[setting]: ", "maxPods", "check `kubelet`"],
    )
}

/// With `--retain` the nodes stay for a look, and `delete` removes them.
fn retained(cluster: &Cluster) -> Result<(), String> {
    let mut command = create_with(cluster, "apiServer: {authorization-mode: Nonsense}")?;
    command.arg("--retain");
    let delete = format!("coracle delete cluster --name {}", cluster.name);
    let parts = ["kube-apiserver keeps failing", "is not a valid mode", "check `apiServer`", &delete];
    told(&run(command, None, QUICK)?, "component-failed", 1, &parts)?;
    let state = docker(&["inspect", "--format={{.State.Status}}", &cluster.node()])?;
    ensure(state.trim() == "running", || format!("the node is {state}"))?;
    cluster.coracle(&["export", "logs", &cluster.home.join("logs").display().to_string()])?;
    cluster.coracle(&["delete", "cluster"])?;
    nothing_left(cluster)
}

/// One of two wins, and its cluster is whole; the other one says that the name is taken.
fn two_at_once(cluster: &Cluster) -> Result<(), String> {
    let create = || start(cluster.command(&["create", "cluster", "--workers", "1"]), None);
    let (one, other) = (create()?, create()?);
    let limit = Duration::from_secs(300);
    let (one, other) = (one.finish(limit)?, other.finish(limit)?);
    let (winner, loser) = if one.code == 0 { (one, other) } else { (other, one) };
    ensure(winner.code == 0, || format!("neither won: {}\n{}", winner.told(), loser.told()))?;
    told(&loser, "cluster-exists", 3, &["choose another `--name`"])?;
    cluster.coracle(&["status"])?;
    let nodes = cluster.kubectl(&["get", "nodes", "--output=name"])?;
    let wanted = format!("node/{0}-control-plane\nnode/{0}-worker\n", cluster.name);
    ensure(nodes == wanted, || format!("the nodes are {nodes}"))?;
    // What the loser made is gone: one network, a volume for each node, and the one that they share.
    let filter = format!("label=dev.coracle.cluster={}", cluster.name);
    let networks = docker(&["network", "ls", "--quiet", "--filter", &filter])?;
    let volumes = docker(&["volume", "ls", "--quiet", "--filter", &filter])?;
    let left = || format!("networks:\n{networks}volumes:\n{volumes}");
    ensure((networks.lines().count(), volumes.lines().count()) == (1, 3), left)
}

/// On version 1 of cgroups a frozen process cannot die, and would keep its node alive.
fn frozen_pod(cluster: &Cluster) -> Result<(), String> {
    let id = docker(&["inspect", "--format={{.Id}}", &cluster.node()])?;
    let below = format!("/sys/fs/cgroup/freezer/docker/{}", id.trim());
    // Files of a cgroup have no size: what is in them must be read.
    let script = format!(
        "for state in $(find {below} -path '*/pod*/*' -name freezer.state); do \
         [ -n \"$(cat ${{state%freezer.state}}cgroup.procs)\" ] && echo $state; done; true"
    );
    let mut find = Command::new("bash");
    find.args(["-c", &script]);
    let pods = run(find, None, QUICK)?.ok()?;
    let writable = |path: &&str| File::options().write(true).open(path).is_ok();
    let frozen: Vec<&str> = pods.lines().filter(writable).collect();
    if std::path::Path::new(&below).exists() {
        ensure(!frozen.is_empty(), || format!("no pod's freezer can be written below {below}"))?;
    }
    for state in &frozen {
        std::fs::write(state, "FROZEN").map_err(|error| format!("{state}: {error}"))?;
    }
    // Two at once, a moment apart: both end well.
    let delete = || start(cluster.command(&["delete", "cluster"]), None);
    let first = delete()?;
    std::thread::sleep(Duration::from_millis(100));
    let second = delete()?;
    let [first, second] = [first.finish(QUICK)?.ok(), second.finish(QUICK)?.ok()];
    let deleted = first.and(second);
    if deleted.is_err() {
        // Whatever happened, the machine must not keep frozen processes.
        for state in &frozen {
            let _ = std::fs::write(state, "THAWED");
        }
        let _ = docker_output(&["rm", "--force", "--volumes", id.trim()]);
    }
    deleted?;
    nothing_left(cluster)
}
