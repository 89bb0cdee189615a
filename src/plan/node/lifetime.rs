//! How a node ends by itself: when its cluster's time is over, or no one has used its API for long enough. Pure.

use crate::config::{Period, Role};
use crate::plan::facts::Facts;
use crate::plan::files::FileTree;
use crate::plan::layout::{Layout, NodeLayout};
use crate::plan::lifetime::{EXPIRES, file};

/// The program that ends a node.
const PROGRAM: &str = "/etc/coracle/lifetime";
/// The program that the load balancer runs below.
pub(crate) const BALANCER_PROGRAM: &str = "/etc/coracle/lifetime-balancer";

/// How often the use of the API is looked at: reading an API server's figures costs it 50 ms.
const MAX_INTERVAL: u64 = 60;
const MIN_INTERVAL: u64 = 5;

const SCRIPT: &str = include_str!("lifetime.sh");
const BALANCER_SCRIPT: &str = include_str!("lifetime-balancer.sh");

/// Whether the nodes end by themselves, and must then stay as they are.
pub(crate) fn is_limited(layout: &Layout, facts: &Facts) -> bool {
    facts.expires.is_some() || layout.cluster.idle_stop.is_some()
}

/// Adds the program, its unit and its limits, if the cluster has some.
pub(super) fn files(files: &mut FileTree, layout: &Layout, node: &NodeLayout, facts: &Facts) {
    if !is_limited(layout, facts) {
        return;
    }
    if facts.expires.is_some() {
        files.text(EXPIRES, file(facts.expires));
    }
    files.program(PROGRAM, SCRIPT);
    let unit = "/etc/systemd/system/coracle-lifetime.service";
    files.text(unit, service(node.config.role, layout.cluster.idle_stop));
    files.link("/etc/systemd/system/multi-user.target.wants/coracle-lifetime.service", unit);
}

/// Adds the same for the load balancer, which only knows the time.
pub(crate) fn balancer_files(files: &mut FileTree, facts: &Facts) {
    if facts.expires.is_some() {
        files.text(EXPIRES, file(facts.expires));
        files.program(BALANCER_PROGRAM, BALANCER_SCRIPT);
    }
}

/// The unit: a node whose time is over must not start anything when it boots.
fn service(role: Role, idle_stop: Option<Period>) -> String {
    let idle = idle_stop.map_or_else(String::new, |period| {
        let interval = (period.seconds() / 6).clamp(MIN_INTERVAL, MAX_INTERVAL);
        let plane = if role == Role::ControlPlane { "yes" } else { "no" };
        let seconds = period.seconds();
        format!("Environment=IDLE_STOP={seconds} INTERVAL={interval} CONTROL_PLANE={plane}\n")
    });
    format!(
        "[Unit]\nDescription=Ends the node when the cluster's time is over or it is not used\n\
         Before=containerd.service kubelet.service\nStartLimitIntervalSec=0\n\n\
         [Service]\n{idle}ExecStartPre={PROGRAM} once\nExecStart={PROGRAM}\nRestart=always\nRestartSec=5\n\
         RuntimeDirectory=coracle-lifetime\nRuntimeDirectoryMode=0700\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_time_without_use_is_looked_at_often() {
        let unit = |seconds| service(Role::Worker, Some(Period::of_seconds(seconds)));
        assert!(unit(1800).contains("IDLE_STOP=1800 INTERVAL=60 CONTROL_PLANE=no\n"));
        assert!(unit(20).contains("IDLE_STOP=20 INTERVAL=5 "));
        assert!(!service(Role::ControlPlane, None).contains("Environment"));
    }
}
