//! The rules of Kubernetes and Docker for single values. Each error is a complete message.

use std::net::IpAddr;

use ipnet::IpNet;

use super::value::quoted;
use crate::error::closest;

/// Checks a part of a label: up to 63 letters, digits, `-`, `_` and `.`, alphanumeric at both ends.
fn label_part(text: &str, what: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err(format!("{what} {} is longer than 63 characters", quoted(text)));
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')) {
        return Err(format!(
            "{what} {} contains {}; only letters, digits, `-`, `_` and `.` are allowed",
            quoted(text),
            quoted(&bad.to_string())
        ));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(format!("{what} {} must begin and end with a letter or a digit", quoted(text)));
    }
    Ok(())
}

/// Checks the key of a label or taint: `name` or `domain/name`.
pub(super) fn label_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.is_empty() {
        return Err(format!("the key {} has no name", quoted(key)));
    }
    if let Some(prefix) = prefix {
        domain(prefix).map_err(|reason| format!("the prefix of the key {} {reason}", quoted(key)))?;
    }
    label_part(name, "the key")
}

/// Checks a DNS subdomain; the error continues a sentence.
pub(super) fn domain(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 253 {
        return Err("must have 1 to 253 characters".to_owned());
    }
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part =
        |part: &str| part.starts_with(lower) && part.ends_with(lower) && part.chars().all(|c| lower(c) || c == '-');
    if text.split('.').all(part) { Ok(()) } else { Err("must be a lower-case domain such as `example.com`".to_owned()) }
}

/// Checks a search domain as resolvers take it: also with capitals, `_` and a dot at the end, as in many hosts' own.
pub(super) fn search_domain(text: &str) -> Result<String, String> {
    let wrong = |reason: &str| Err(format!("{} {reason}", quoted(text)));
    let name = text.strip_suffix('.').unwrap_or(text);
    if text == "." {
        return wrong("is the root, in which nothing is searched; write `dnsSearch: []` for no search domains");
    }
    if name.is_empty() || name.len() > 253 {
        return wrong("must have 1 to 253 characters");
    }
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let part = |part: &str| {
        (1..=63).contains(&part.len()) && part.chars().all(letter) && !part.starts_with('-') && !part.ends_with('-')
    };
    if name.split('.').all(part) { Ok(text.to_owned()) } else { wrong("is not a domain such as `corp.example`") }
}

/// Checks the value of a label or taint; it may be empty.
pub(super) fn label_value(value: &str) -> Result<(), String> {
    if value.is_empty() { Ok(()) } else { label_part(value, "the value") }
}

/// Checks an image reference as far as is possible without a registry.
pub(super) fn image(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':' | '@');
    if text.is_empty() {
        return Err("the image is empty".to_owned());
    }
    if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
        return Err(format!("the image {} contains {}", quoted(text), quoted(&bad.to_string())));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(format!("the image {} must begin and end with a letter or a digit", quoted(text)));
    }
    // Docker's grammar: the host of a registry and a tag may have capitals, what is between them may not.
    let name = text.split('@').next().unwrap_or(text);
    let (host, rest) = name.split_once('/').unwrap_or(("", name));
    let is_host = host.contains(['.', ':']) || host == "localhost";
    let path = if is_host { rest } else { name };
    let path = path.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(path, |(path, _)| path);
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!("the image {} has capitals in its name; they are allowed in a tag only", quoted(text)));
    }
    Ok(text.to_owned())
}

/// Checks a name or an address in a certificate; a name may begin with `*.`.
pub(super) fn certificate_name(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let looks_like_address = name.chars().all(|c| c.is_ascii_digit() || c == '.') || name.contains(':');
    if text.parse::<IpAddr>().is_ok() || (!looks_like_address && domain(name).is_ok()) {
        return Ok(text.to_owned());
    }
    Err(format!("{} is neither a domain such as `ci.example.com` nor an IP address", quoted(text)))
}

/// Checks the host of a registry, with which names of images begin, or `*`.
pub fn registry_host(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!("write {} without `{scheme}://`: `{}`", quoted(text), rest.trim_end_matches('/')));
    }
    if text.contains('/') {
        return Err(format!("{} contains a path; give only the host of the registry", quoted(text)));
    }
    let (name, port) = text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if domain(name).is_err() || !is_port {
        return Err(format!("{} is not the host of a registry such as `registry.example.com:5000`", quoted(text)));
    }
    Ok(text.to_owned())
}

/// Checks the URL of a mirror.
pub(super) fn mirror(text: &str) -> Result<String, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("the mirror {} needs a scheme, such as `https://{}`", quoted(text), text));
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        return Err("credentials do not belong in this file; log in with Docker and set `login: true`".to_owned());
    }
    let url = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if !["http", "https"].contains(&scheme) || !is_server(host) || !path.chars().all(url) {
        return Err(format!("the mirror {} is not a URL such as `https://mirror.example.com:5000`", quoted(text)));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Whether this is the host of a URL: a name, also one with capitals or `_` as containers have them, or an address.
fn is_server(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    is_port && inner.map_or_else(|| search_domain(name).is_ok(), |inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Reads one IP address.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{} is not an IP address such as `127.0.0.1`", quoted(text)))
}

/// Reads one subnet without host bits.
pub(super) fn subnet(text: &str) -> Result<IpNet, String> {
    let subnet: IpNet = text
        .parse()
        .map_err(|_| format!("{} is not a subnet such as `10.244.0.0/16` or `fd00:10:244::/56`", quoted(text)))?;
    if subnet.trunc() != subnet {
        return Err(format!("`{text}` has host bits set; did you mean `{}`?", subnet.trunc()));
    }
    let first = subnet.network();
    let unusable = match subnet {
        IpNet::V4(v4) => {
            let first = v4.network();
            first.is_link_local() || first.octets()[0] == 0 || v4.prefix_len() < 8
        }
        // Unique local and global addresses.
        IpNet::V6(v6) => {
            !matches!(v6.network().segments()[0], 0x2000..=0x3fff | 0xfc00..=0xfdff) || v6.prefix_len() < 8
        }
    };
    if unusable || first.is_loopback() || first.is_multicast() {
        return Err(if subnet.addr().is_ipv4() {
            format!("`{text}` cannot be used; choose a part of `10.0.0.0/8`, `172.16.0.0/12` or `192.168.0.0/16`")
        } else {
            format!("`{text}` cannot be used; choose a part of `fd00::/8`")
        });
    }
    Ok(subnet)
}

/// Checks the name of a command line flag, without dashes.
pub(super) fn flag_name(name: &str) -> Result<(), String> {
    if name.starts_with('-') {
        return Err(format!("write {} without its dashes: `{}`", quoted(name), name.trim_start_matches('-')));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(format!("{} is not the name of a flag; names are lower-case words joined by `-`", quoted(name)));
    }
    Ok(())
}

/// Checks the name of a feature gate.
pub(super) fn feature_gate(name: &str) -> Result<(), String> {
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric()) {
        Ok(())
    } else {
        Err(format!("{} is not the name of a feature gate such as `UserNamespacesSupport`", quoted(name)))
    }
}

/// Checks that the engine can mount something at this path of a node.
pub(super) fn container_path(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("{} is not an absolute path; paths in a node begin with `/`", quoted(path)));
    }
    if path.chars().any(char::is_control) {
        return Err(format!("{} contains a control character", quoted(path)));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("{} contains `..`", quoted(path)));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let path = format!("/{}", parts.join("/"));
    match hidden_path(&path) {
        Some(needed) if needed == path => Err(format!("`{path}` is reserved for coracle; choose another path")),
        Some(needed) => {
            Err(format!("a mount at `{path}` would hide `{needed}`, which the node needs; choose another path"))
        }
        None => Ok(path),
    }
}

/// Paths of the node that a mount must not cover.
const NEEDED: &[&str] = &[
    "/bin",
    "/etc/cni/net.d",
    "/etc/containerd",
    "/etc/coracle",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/manifests/etcd.yaml",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/manifests/kube-controller-manager.yaml",
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    "/etc/kubernetes/pki",
    "/etc/kubernetes/scheduler.conf",
    "/etc/kubernetes/super-admin.conf",
    "/etc/resolv.conf",
    "/kind",
    "/lib",
    "/opt/cni/bin",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/usr/lib",
    "/usr/local/bin",
    "/usr/sbin",
    "/var/lib/containerd",
    "/var/lib/coracle",
    "/var/lib/etcd",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/pki",
    "/var/log/containers",
    "/var/log/pods",
];

/// Directories of the node that must not contain a mount either.
const CLOSED: &[&str] = &[
    "/etc/coracle",
    "/etc/kubernetes/pki",
    "/lib/modules",
    "/proc",
    "/sys",
    "/var/lib/containerd",
    "/var/lib/coracle",
    "/var/lib/etcd",
    "/var/lib/kubelet/pki",
];

/// The kubelet's directory: plugins for storage want the host's; what the node needs in it is written through the mount.
pub const KUBELET_DIRECTORY: &str = "/var/lib/kubelet";
/// The directory of keys and certificates: people add those of an identity provider or a webhook.
const PKI: &str = "/etc/kubernetes/pki/";
/// What coracle has in that directory.
const OWN: &[&str] = &[
    "apiserver-etcd-client.crt",
    "apiserver-etcd-client.key",
    "apiserver-kubelet-client.crt",
    "apiserver-kubelet-client.key",
    "apiserver.crt",
    "apiserver.key",
    "ca.crt",
    "ca.key",
    "etcd",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "front-proxy-client.crt",
    "front-proxy-client.key",
    "sa.key",
    "sa.pub",
];

/// Checks a key of the API server's `runtime-config` and its value: groups of versions, or a group and version of the API.
pub(super) fn runtime_config(key: &str, value: &str) -> Result<(), String> {
    const ALL: [&str; 4] = ["api/all", "api/alpha", "api/beta", "api/ga"];
    if !["", "true", "false"].contains(&value) {
        return Err(format!("{} must be `true` or `false`, not {}", quoted(key), quoted(value)));
    }
    if key.starts_with("api/") && !ALL.contains(&key) {
        let meant = closest(key, ALL).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
        return Err(format!("the API server knows no {}{meant}", quoted(key)));
    }
    Ok(())
}

/// Directories in closed ones that may be mounted: programs that look into the host's kernel need them.
const OPEN: &[&str] = &["/sys/fs/bpf", "/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing"];

/// The path that a mount at `path` would cover, or the closed directory that it would be in.
fn hidden_path(path: &str) -> Option<&'static str> {
    let below =
        |inner: &str, outer: &str| outer == "/" || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    if OPEN.iter().any(|open| *open == path || below(path, open)) {
        return None;
    }
    let covered = NEEDED.iter().find(|needed| **needed == path || (below(needed, path) && path != KUBELET_DIRECTORY));
    let added = path.strip_prefix(PKI).and_then(|name| name.split('/').next());
    if covered.is_none() && added.is_some_and(|name| !OWN.contains(&name)) {
        return None;
    }
    covered.or_else(|| CLOSED.iter().find(|closed| **closed == path || below(path, closed))).copied()
}
