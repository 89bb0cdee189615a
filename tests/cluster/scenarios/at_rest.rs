//! What a node does when nothing happens.

use crate::harness::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use crate::harness::run::{contains, ensure, eventually};

/// A thread of a component: its slack in nanoseconds, and how often it was woken in a second.
struct Thread {
    component: String,
    slack: u64,
    wakes: u64,
}

/// The components and the shims are seldom woken, and a lone etcd does not need short heartbeats to start fast.
pub(super) fn seldom_woken(cluster: &Cluster) -> Result<(), String> {
    let etcd =
        cluster.in_node("cat /var/log/pods/kube-system_etcd-*/etcd/*.log; cat /etc/kubernetes/manifests/etcd.yaml")?;
    contains(&etcd, "received MsgTimeoutNow")?;
    ensure(!etcd.contains("--heartbeat-interval"), || "etcd's heartbeats are not its own".to_owned())?;
    // What containerd uses, not what a file says.
    let containerd = cluster.in_node("containerd config dump | grep --after-context=60 cri.v1.runtime")?;
    contains(&containerd, "stats_collect_period = '10s'")?;
    // Components have it some seconds after they have started.
    eventually(EVENTUALLY_TIMEOUT, || woken_together(cluster))?;
    // Pods do not: what sleeps in them sleeps as long as it wants to.
    let dns = cluster.in_node(
        "for process in /proc/[0-9]*; do \
            [ \"$(cat $process/comm 2>/dev/null)\" != coredns ] || cat $process/timerslack_ns; done",
    )?;
    let is_usual = |slack: &str| slack.parse::<u64>().is_ok_and(|slack| slack <= 50_000);
    ensure(!dns.is_empty() && dns.lines().all(is_usual), || format!("pods have a slack of {dns:?} ns"))
}

/// The threads that wait for the timers of a component have a slack of 5 ms.
fn woken_together(cluster: &Cluster) -> Result<(), String> {
    const COMPONENTS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller", "kubelet"];
    let threads = threads(cluster)?;
    for component in COMPONENTS {
        let wakes = |has: bool| {
            let mine = threads.iter().filter(|thread| thread.component == component);
            mine.filter(|thread| (thread.slack == 5_000_000) == has).map(|thread| thread.wakes).sum::<u64>()
        };
        let (with, without) = (wakes(true), wakes(false));
        println!("        {component}: woken {with} times a second with the slack, {without} times without");
        ensure(with > 0 && without <= with / 4, || {
            format!("{component}: {with} wakes with the slack, {without} without")
        })?;
    }
    Ok(())
}

/// The threads of the components, without the second one of each: that is the monitor of Go's runtime, which never waits for
/// timers of the program.
fn threads(cluster: &Cluster) -> Result<Vec<Thread>, String> {
    const SCRIPT: &str = r#"
        look() {
            for process in /proc/[0-9]*; do
                component=$(cat "$process/comm" 2>/dev/null) || continue
                case $component in etcd | kubelet | kube-apiserver | kube-controller) ;; *) continue ;; esac
                ls "$process/task" | sort -n | sed 2d | while read -r thread; do
                    wakes=$(sed -n 's/^voluntary_ctxt_switches:\s*//p' "$process/task/$thread/status")
                    echo "$thread $component $(cat "/proc/$thread/timerslack_ns") $wakes"
                done
            done
        }
        look >/tmp/threads
        sleep 2
        look | while read -r thread component slack wakes; do
            before=$(sed -n "s/^$thread .* //p" /tmp/threads)
            echo "$component $slack $(((wakes - ${before:-$wakes}) / 2))"
        done
        rm /tmp/threads"#;
    let text = cluster.in_node(SCRIPT)?;
    let thread = |line: &str| {
        let mut words = line.split_whitespace();
        let component = words.next()?.to_owned();
        Some(Thread { component, slack: words.next()?.parse().ok()?, wakes: words.next()?.parse().ok()? })
    };
    text.lines().map(|line| thread(line).ok_or_else(|| format!("no thread: {line}"))).collect()
}
