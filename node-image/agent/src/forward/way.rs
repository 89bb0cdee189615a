//! Ways to a Service: its address exists only inside nodes, so packets to it are sent by way of a node. A socket's mark says
//! by which one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use coracle_shared::forward::ForwardNode;
use nix::sys::socket::{setsockopt, sockopt};

/// The mark of the first node, which is also the number of its routing table.
const FIRST: u32 = 1000;

/// The mark for the node with this index.
pub(super) fn mark(node: usize) -> u32 {
    FIRST + u32::try_from(node).unwrap_or_default()
}

/// Lets a socket send by way of a node.
pub(super) fn set(socket: &impl AsFd, mark: u32) -> Result<(), String> {
    setsockopt(socket, sockopt::Mark, &mark).map_err(|error| format!("cannot mark a socket: {error}"))
}

/// Sets a routing table for each node, and the rule by which marked packets use it.
pub(super) fn open(nodes: &[ForwardNode]) -> Result<(), String> {
    for (family, is_of) in [("-4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("-6", IpAddr::is_ipv6)] {
        let commands = commands(nodes, is_of);
        if !commands.is_empty() {
            batch(family, &commands)?;
        }
    }
    Ok(())
}

fn commands(nodes: &[ForwardNode], is_of: fn(&IpAddr) -> bool) -> String {
    let mut commands = String::new();
    for (index, node) in nodes.iter().enumerate() {
        if let Some(address) = node.addresses.iter().find(|address| is_of(address)) {
            let mark = mark(index);
            // The priority is the rule's name: a second rule of it would not be one more of the same.
            let _ = write!(
                commands,
                "rule del priority {mark}\nrule add priority {mark} fwmark {mark} lookup {mark}\n\
                 route replace default via {address} table {mark}\n"
            );
        }
    }
    commands
}

/// Runs commands of `ip`; removing a rule that does not exist fails, and the others go on.
fn batch(family: &str, commands: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot run `ip`: {error}");
    let mut ip = Command::new("ip")
        .args([family, "-force", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = ip.stdin.take() {
        input.write_all(commands.as_bytes()).map_err(failed)?;
    }
    ip.wait().map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_a_table_in_each_of_its_families() {
        let node = |name: &str, addresses: &[&str]| ForwardNode {
            name: name.to_owned(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let nodes = [node("a", &["172.18.0.3"]), node("b", &["172.18.0.4", "fd00::4"])];
        let of_v4 = commands(&nodes, IpAddr::is_ipv4);
        assert!(of_v4.contains("rule add priority 1001 fwmark 1001 lookup 1001\n"), "{of_v4}");
        assert!(of_v4.contains("route replace default via 172.18.0.4 table 1001\n"), "{of_v4}");
        let of_v6 = commands(&nodes, IpAddr::is_ipv6);
        assert!(!of_v6.contains("1000") && of_v6.contains("via fd00::4 table 1001\n"), "{of_v6}");
    }
}
