//! Several control planes: what is lost with one of them, or with what stands in front of them, and how soon it is known.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::chance::{self, Chance};
use crate::harness::clients::{Attempt, Clients, Kind, parts};
use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT, address_of, json};
use crate::harness::run::{docker, ensure, eventually};

/// What a machine that also does other things may take of what docs/reference/survival.md promises.
const SLOWER: u32 = 3;
/// A new request is answered this long after a fault at most.
const NEW: Duration = Duration::from_secs(2);
/// What is under way ends within this time: etcd gives up a write after 5 s and two election timeouts.
const UNDER_WAY: Duration = Duration::from_secs(8);
/// `status` knows a fault after this time.
const KNOWN: Duration = Duration::from_secs(5);

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Pause,
    /// Its network has it no more.
    Disconnect,
    /// Its packets are dropped.
    Cut,
    /// Its first process is killed, and the engine starts it again.
    Crash,
}

/// What it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The control plane whose etcd leads.
    Leader,
    /// Another control plane.
    Follower,
    Balancer,
}

const PLANES: [Fault; 4] = [Fault::Kill, Fault::Pause, Fault::Disconnect, Fault::Cut];
const BALANCER: [Fault; 3] = [Fault::Crash, Fault::Kill, Fault::Pause];
/// What happens every time, so that each kind and each place is there.
const ALWAYS: [(Fault, Place); 4] = [
    (Fault::Kill, Place::Leader),
    (Fault::Cut, Place::Follower),
    (Fault::Pause, Place::Leader),
    (Fault::Crash, Place::Balancer),
];
/// How many faults at random moments, when there are hours.
const MANY: usize = 20;

impl Fault {
    fn begin(self, cluster: &Cluster, name: &str) -> Result<(), String> {
        match self {
            Self::Kill => docker(&["kill", name]).map(drop),
            // On a busy machine, runc now and then gives up with "unable to freeze".
            Self::Pause => eventually(EVENTUALLY_TIMEOUT, || docker(&["pause", name])).map(drop),
            Self::Disconnect => docker(&["network", "disconnect", &network(cluster), name]).map(drop),
            Self::Cut => {
                let rules = "add table inet cut; \
                    add chain inet cut in { type filter hook input priority -300; policy drop; iif lo accept; }; \
                    add chain inet cut out { type filter hook output priority -300; policy drop; oif lo accept; }";
                docker(&["exec", name, "nft", rules]).map(drop)
            }
            Self::Crash => {
                let pid = docker(&["inspect", "--format={{.State.Pid}}", name])?;
                let pid = pid.trim().parse().ok().and_then(Pid::from_raw).ok_or(pid)?;
                kill_process(pid, Signal::KILL).map_err(|error| error.to_string())
            }
        }
    }

    fn end(self, cluster: &Cluster, name: &str) -> Result<(), String> {
        match self {
            Self::Kill => docker(&["start", name]).map(drop),
            Self::Pause => docker(&["unpause", name]).map(drop),
            Self::Disconnect => {
                docker(&["network", "connect", "--ip", &address_of(name)?, &network(cluster), name]).map(drop)
            }
            Self::Cut => docker(&["exec", name, "nft", "delete", "table", "inet", "cut"]).map(drop),
            Self::Crash => Ok(()),
        }
    }

    /// What `status` says of it.
    fn cause(self) -> &'static str {
        match self {
            Self::Kill => "its container is exited",
            Self::Pause => "its container is paused",
            Self::Disconnect | Self::Cut => "the load balancer cannot be reached from the node",
            Self::Crash => "",
        }
    }
}

fn network(cluster: &Cluster) -> String {
    format!("coracle-{}", cluster.name)
}

fn planes(cluster: &Cluster) -> [String; 3] {
    ["", "2", "3"].map(|number| format!("{}{number}", cluster.node()))
}

impl Place {
    fn container(self, cluster: &Cluster) -> Result<String, String> {
        if self == Self::Balancer {
            return Ok(format!("{}-load-balancer", cluster.name));
        }
        let metrics = ["curl", "--silent", "http://127.0.0.1:2381/metrics"];
        let leads = |node: &String| -> Result<bool, String> {
            let metrics = docker(&[&["exec", node], &metrics[..]].concat())?;
            Ok(metrics.lines().any(|line| line == "etcd_server_is_leader 1"))
        };
        for node in planes(cluster) {
            if leads(&node)? == (self == Self::Leader) {
                return Ok(node);
            }
        }
        Err("there is no such control plane".to_owned())
    }
}

/// What was seen of a fault.
struct Seen {
    /// The slowest new request of a client that makes it again after a second.
    new: Duration,
    /// The slowest one of clients that wait, and of the one that reads.
    patient: Duration,
    read: Duration,
    /// The longest time that an attempt was under way after the fault.
    under_way: Duration,
    failed: usize,
}

impl Seen {
    /// Of the attempts since a fault, whose moment is that from which on requests can be answered.
    fn of(attempts: &[Attempt], fault: Instant) -> Self {
        let now = Instant::now();
        let slowest = |kinds: &[Kind]| {
            let new = attempts.iter().filter(|attempt| kinds.contains(&attempt.kind) && attempt.first >= fault);
            new.map(|attempt| attempt.ended.unwrap_or(now).duration_since(attempt.first)).max().unwrap_or_default()
        };
        let rest = |attempt: &Attempt| attempt.ended.unwrap_or(now).saturating_duration_since(attempt.began.max(fault));
        Self {
            new: slowest(&[Kind::Hurried]),
            patient: slowest(&[Kind::Fresh, Kind::Kept]),
            read: slowest(&[Kind::Reader]),
            under_way: attempts.iter().map(rest).max().unwrap_or_default(),
            failed: attempts.iter().filter(|attempt| attempt.failure.is_some()).count(),
        }
    }
}

/// A control plane or the load balancer is lost while four clients write: new requests are answered, what was acknowledged is
/// there, and `status` says what is lost and why.
pub(super) fn faults(cluster: &Cluster) -> Result<(), String> {
    let clients = Clients::start(cluster, &format!("faults-{}", std::process::id()))?;
    let mut chance = Chance::new("faults")?;
    if chance::is_long() {
        for _ in 0..MANY {
            let (fault, place) = match chance.below(4) {
                0 => (*chance.one_of(&BALANCER), Place::Balancer),
                _ => (*chance.one_of(&PLANES), *chance.one_of(&[Place::Leader, Place::Follower])),
            };
            std::thread::sleep(chance.moment(Duration::from_secs(5)));
            one(cluster, &clients, fault, place)?;
        }
    } else {
        for (fault, place) in ALWAYS {
            one(cluster, &clients, fault, place)?;
        }
    }
    let count = clients.finish(cluster)?;
    println!("        {count} acknowledged writes, and all of them are there");
    ensure(count > 0, || "nothing was written".to_owned())
}

fn one(cluster: &Cluster, clients: &Clients, fault: Fault, place: Place) -> Result<(), String> {
    let name = place.container(cluster)?;
    let usual = usual(cluster, clients)?;
    let began = Instant::now();
    fault.begin(cluster, &name)?;
    let after = Instant::now();
    let told = known(cluster, fault, &name);
    // Requests that were under way get the time to end.
    if place != Place::Balancer {
        std::thread::sleep(UNDER_WAY.saturating_sub(after.elapsed()));
    }
    // Without the load balancer nothing can be answered, and its end is what counts.
    let since = if place == Place::Balancer && fault != Fault::Crash { Instant::now() } else { began };
    let mut seen = Seen::of(&clients.since(since), since);
    let ended = fault.end(cluster, &name);
    let told = told?;
    ended?;
    if place == Place::Balancer {
        std::thread::sleep(NEW * SLOWER / 2);
        seen = Seen::of(&clients.since(since), since);
    }
    let back = Instant::now();
    cluster.ready(EVENTUALLY_TIMEOUT * 2)?;
    let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
    println!(
        "        {fault:?} {place:?}: new request {} s ({} s without a limit, read {} s), under way {} s, {} attempts failed, \
         `status` {}, well again {} s after its return",
        seconds(seen.new),
        seconds(seen.patient),
        seconds(seen.read),
        seconds(seen.under_way),
        seen.failed,
        told.map_or_else(|| "-".to_owned(), |told| seconds(told) + " s"),
        seconds(back.elapsed())
    );
    let told = told.unwrap_or_default();
    for (what, time, most) in [
        ("a new request", seen.new, NEW),
        ("a read", seen.read, NEW),
        ("a request under way", seen.under_way, UNDER_WAY),
        ("`status`", told, KNOWN),
    ] {
        ensure(time <= most * SLOWER + usual * 6, || {
            format!("{fault:?} {place:?}: {what} took {time:?}, where the slowest one takes {usual:?} otherwise")
        })?;
    }
    Ok(())
}

/// How long the slowest request takes while all is well, also that of `status`: a machine may be busy with other things.
fn usual(cluster: &Cluster, clients: &Clients) -> Result<Duration, String> {
    // What has just come back may not be ready for a moment once more.
    let (began, status) = eventually(EVENTUALLY_TIMEOUT, || {
        let began = Instant::now();
        cluster.coracle(&["status"])?;
        Ok((began, began.elapsed()))
    })?;
    std::thread::sleep(Duration::from_secs(1).saturating_sub(status));
    let seen = Seen::of(&clients.since(began), began);
    Ok(status.max(seen.new).max(seen.read))
}

/// How long after the fault `status` says it, with the right container and cause; `None` for one that passes by itself.
fn known(cluster: &Cluster, fault: Fault, name: &str) -> Result<Option<Duration>, String> {
    if fault.cause().is_empty() {
        return Ok(None);
    }
    let began = Instant::now();
    eventually(EVENTUALLY_TIMEOUT, || {
        let status = cluster.coracle_output(&["status", "--output=json"])?;
        ensure(status.code == 1, || status.told())?;
        blamed(&status.stdout, name, fault.cause())
    })?;
    Ok(Some(began.elapsed()))
}

/// This part alone is blamed, with this cause.
fn blamed(status: &str, name: &str, cause: &str) -> Result<(), String> {
    for part in parts(status)? {
        let is_it = part["name"] == name;
        let told = part["cause"].as_str().unwrap_or_default();
        ensure((part["ready"] == false) == is_it && told.contains(cause) == is_it, || format!("of {name}: {status}"))?;
    }
    Ok(())
}

/// One etcd of three is gone, or hangs: the API answers, and `status` says which one it is.
pub(super) fn one_etcd(cluster: &Cluster) -> Result<(), String> {
    let third = &planes(cluster)[2];
    let in_third = |script: &str| docker(&["exec", third, "bash", "-c", script]);
    let manifest = "/etc/kubernetes/manifests/etcd.yaml";
    for (break_it, mend, cause) in [
        (format!("mv {manifest} /root"), format!("mv /root/etcd.yaml {manifest}"), "etcd is missing"),
        ("kill -STOP $(pidof etcd)".to_owned(), "kill -CONT $(pidof etcd)".to_owned(), "etcd does not answer"),
    ] {
        in_third(&break_it)?;
        let began = Instant::now();
        let known = eventually(KNOWN * SLOWER, || {
            let status = cluster.coracle_output(&["status", "--output=json"])?;
            let is_alive = json(&status.stdout)?["apiAlive"] == true;
            ensure(status.code == 1 && is_alive, || status.told())?;
            blamed(&status.stdout, third, cause)
        });
        let took = began.elapsed();
        let answer = cluster.kubectl(&["get", "nodes", "--request-timeout=15s"]);
        in_third(&mend)?;
        known?;
        answer?;
        println!("        {cause}: known after {:.1} s", took.as_secs_f64());
        cluster.ready(EVENTUALLY_TIMEOUT * 2)?;
    }
    Ok(())
}

/// Stop and start while four clients write: everything that was acknowledged is there.
pub(super) fn stop_start(cluster: &Cluster) -> Result<(), String> {
    let clients = Clients::start(cluster, &format!("stop-start-{}", std::process::id()))?;
    let mut times = Vec::new();
    for _ in 0..chance::rounds(1, 50) {
        // Writes are under way when it stops.
        std::thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        cluster.coracle(&["stop"])?;
        let (stopped, began) = (began.elapsed(), Instant::now());
        cluster.coracle(&["start"])?;
        times.push(format!("{:.1} and {:.1}", stopped.as_secs_f64(), began.elapsed().as_secs_f64()));
        no_member_waited(cluster)?;
        // While clients write and other tests run beside it, an etcd may be late once.
        eventually(EVENTUALLY_TIMEOUT, || cluster.coracle(&["status"]))?;
    }
    let count = clients.finish(cluster)?;
    println!("        {count} acknowledged writes are there; stop and start took {} s", times.join(", "));
    ensure(count > 0, || "nothing was written".to_owned())
}

/// No etcd of this start waited for another one, to compare its data with: that takes 6 s for each that starts as well.
fn no_member_waited(cluster: &Cluster) -> Result<(), String> {
    let mut left_out = 0;
    for plane in planes(cluster) {
        let log = docker(&["exec", &plane, "bash", "-c", "crictl logs $(crictl ps --quiet --name ^etcd$) 2>&1"])?;
        ensure(log.contains("starting an etcd server"), || format!("{plane}: this is not the log of etcd: {log}"))?;
        ensure(!log.contains("failed hash kv request"), || format!("{plane}: etcd has waited for another member"))?;
        left_out += usize::from(log.contains("coracle: no check for corruption"));
    }
    ensure(left_out > 0, || "somebody started alone, or all were checked".to_owned())
}
