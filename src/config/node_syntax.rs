//! The rules for what the container of a node gets. Each error is a complete message.

use super::syntax;
use super::value::quoted;
use crate::error::closest;

/// The limits of processes that the engine knows, and systemd's words for them.
pub const ULIMITS: &[(&str, &str)] = &[
    ("core", "CORE"),
    ("cpu", "CPU"),
    ("data", "DATA"),
    ("fsize", "FSIZE"),
    ("locks", "LOCKS"),
    ("memlock", "MEMLOCK"),
    ("msgqueue", "MSGQUEUE"),
    ("nice", "NICE"),
    ("nofile", "NOFILE"),
    ("nproc", "NPROC"),
    ("rss", "RSS"),
    ("rtprio", "RTPRIO"),
    ("rttime", "RTTIME"),
    ("sigpending", "SIGPENDING"),
    ("stack", "STACK"),
];

/// Kernel parameters that a container has of its own outside of its network.
const OF_A_CONTAINER: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];
/// Kernel parameters of networks that coracle sets, because pods would not work without them.
const OWNED: &[&str] = &[
    "net.ipv4.conf.all.route_localnet",
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.conf.default.accept_dad",
];
/// Kernel parameters below `net.` that only the host has.
const OF_THE_HOST: &[&str] = &[
    "net.bridge.",
    "net.core.bpf_",
    "net.core.busy_",
    "net.core.default_qdisc",
    "net.core.dev_weight",
    "net.core.netdev_",
    "net.core.rmem_",
    "net.core.rps_sock_flow_entries",
    "net.core.wmem_",
    "net.ipv4.tcp_available_",
    "net.ipv4.tcp_mem",
    "net.ipv4.udp_mem",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_expect_max",
    "net.nf_conntrack_max",
];
/// Variables that have a place of their own, and the reason why they cannot stand in `env`.
const VARIABLES: &[(&str, &str)] = &[
    ("HTTP_PROXY", "proxy settings come from the environment of `create cluster`"),
    ("HTTPS_PROXY", "proxy settings come from the environment of `create cluster`"),
    ("NO_PROXY", "proxy settings come from the environment of `create cluster`"),
    ("GOGC", "coracle sets it for each component"),
    ("PATH", "the node image sets it"),
    ("CONTAINER", "systemd reads from it that it is in a container"),
];

/// The message about a limit that does not exist.
pub(super) fn unknown_ulimit(name: &str) -> String {
    let names = || ULIMITS.iter().map(|(name, _)| *name);
    match closest(name, names()) {
        Some(meant) => format!("there is no limit {}; did you mean `{meant}`?", quoted(name)),
        None => {
            format!("there is no limit {}; the limits are {}", quoted(name), names().collect::<Vec<_>>().join(", "))
        }
    }
}

/// Checks the name of a kernel parameter: one that a container has of its own.
pub(super) fn sysctl(name: &str) -> Result<(), String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.contains('/') {
        return Err(format!("write {} with dots: `{}`", quoted(name), name.replace('/', ".")));
    }
    if name.is_empty() || !name.chars().all(letter) || name.split('.').any(str::is_empty) {
        return Err(format!("{} is not a kernel parameter such as `net.core.somaxconn`", quoted(name)));
    }
    if OWNED.contains(&name) {
        return Err(format!("`{name}` is set by coracle and cannot be changed"));
    }
    let of_a_container = OF_A_CONTAINER.contains(&name) || name.starts_with("fs.mqueue.");
    let of_a_network = name.starts_with("net.") && !OF_THE_HOST.iter().any(|start| name.starts_with(start));
    if of_a_container || of_a_network {
        return Ok(());
    }
    Err(format!(
        "`{name}` is a parameter of the whole host and not of a container; set it on the host: `sudo sysctl -w {name}=…`"
    ))
}

/// Checks the name of an environment variable.
pub(super) fn variable(name: &str) -> Result<(), String> {
    let upper = name.to_uppercase();
    if let Some((_, reason)) = VARIABLES.iter().find(|(owned, _)| *owned == upper) {
        return Err(format!("`{name}` cannot be set here: {reason}"));
    }
    if upper.starts_with("CORACLE_") {
        return Err(format!("`{name}` cannot be set here: coracle's own variables begin like this"));
    }
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(letter) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{} is not the name of an environment variable", quoted(name)));
    }
    Ok(())
}

/// Checks a text of one line.
pub(super) fn line(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err(format!("{} contains a control character", quoted(text)));
    }
    Ok(text.to_owned())
}

/// Checks a device: its path, or its name in the Container Device Interface.
pub(super) fn device(text: &str) -> Result<String, String> {
    let is_path = |path: &str| {
        let good = |part: &str| !part.is_empty() && part != "." && part != "..";
        !path.contains([':', ',']) && !path.chars().any(char::is_control) && path.split('/').all(good)
    };
    if text.strip_prefix("/dev/").is_some_and(is_path) || is_cdi_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!("{} is neither a device below `/dev` nor a CDI name such as `nvidia.com/gpu=all`", quoted(text)))
}

/// `vendor/class=name`, as the Container Device Interface spells it.
fn is_cdi_name(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let ends = |text: &str| {
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        letter(text.chars().next()) && letter(text.chars().last())
    };
    let all = |text: &str, more: &[char]| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(&c));
    let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    begins(vendor)
        && ends(vendor)
        && all(vendor, &['_', '-', '.'])
        && begins(class)
        && ends(class)
        && all(class, &['_', '-'])
        && ends(name)
        && all(name, &['_', '-', '.', ':'])
}

/// Checks a name for an address.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    syntax::domain(text).map_err(|reason| format!("{} {reason}", quoted(text)))?;
    if text == "localhost" || text.ends_with(".coracle.internal") {
        return Err(format!("`{text}` is a name that every node has already"));
    }
    Ok(text.to_owned())
}
