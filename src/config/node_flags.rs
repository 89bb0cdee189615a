//! A node as options of the command line describe it. Each mistake of all options is reported.

use std::net::IpAddr;
use std::path::PathBuf;

use super::nodes::{EFFECTS, KUBELET_LABELS, host_path};
use super::value::quoted;
use super::{ExtraMount, ExtraPortMapping, Node, Propagation, Protocol, Role, Taint, invalid, syntax};
use crate::error::{Problem, Result};

/// The options of a node, as they were typed.
#[derive(Debug, Clone)]
pub struct NodeFlags {
    pub role: Role,
    pub image: Option<String>,
    /// `KEY=VALUE`.
    pub labels: Vec<String>,
    /// `KEY=VALUE:EFFECT` or `KEY:EFFECT`.
    pub taints: Vec<String>,
    /// `HOST:CONTAINER`, or `HOST:CONTAINER:ro`.
    pub mounts: Vec<String>,
    /// `HOST:CONTAINER`, with an address before it and a protocol behind it if they are not the usual ones.
    pub ports: Vec<String>,
    /// Relative paths of mounts are relative to this directory.
    pub directory: PathBuf,
    /// Where ports listen if no address is given.
    pub loopback: IpAddr,
}

impl NodeFlags {
    /// The node.
    pub fn node(&self) -> Result<Node> {
        let mut problems = Vec::new();
        let mut node = Node::new(self.role);
        let image = self.image.iter().map(|text| syntax::image(text));
        node.image = taken(&mut problems, "--image", image).pop();
        let labels = self.labels.iter().map(|text| label(text));
        node.labels = taken(&mut problems, "--label", labels).into_iter().collect();
        let taints = taken(&mut problems, "--taint", self.taints.iter().map(|text| taint(text)));
        node.taints = (!self.taints.is_empty()).then_some(taints);
        node.extra_mounts = taken(&mut problems, "--mount", self.mounts.iter().map(|text| self.mount(text)));
        node.extra_port_mappings = taken(&mut problems, "--port", self.ports.iter().map(|text| self.port(text)));
        if problems.is_empty() { Ok(node) } else { Err(invalid("", problems)) }
    }

    fn mount(&self, text: &str) -> Result<ExtraMount, String> {
        let wrong = || format!("{} is not `HOST:CONTAINER` or `HOST:CONTAINER:ro`", quoted(text));
        let (text, read_only) = text.strip_suffix(":ro").map_or((text, false), |text| (text, true));
        // A path of the host may contain a colon, one of a node that is mounted to rarely does.
        let (host, container) = text.rsplit_once(':').ok_or_else(wrong)?;
        Ok(ExtraMount {
            host_path: host_path(host, &self.directory)?,
            container_path: syntax::container_path(container)?,
            read_only,
            propagation: Propagation::None,
        })
    }

    fn port(&self, text: &str) -> Result<ExtraPortMapping, String> {
        let wrong =
            || format!("{} is not `HOST:CONTAINER`, such as `8080:30080` or `0.0.0.0:53:30053/udp`", quoted(text));
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(wrong()),
        };
        let (host, container) = ports.rsplit_once(':').ok_or_else(wrong)?;
        let (address, host) = match host.rsplit_once(':') {
            Some((address, host)) => (syntax::address(address.trim_matches(['[', ']']))?, host),
            None => (self.loopback, host),
        };
        let container_port = container.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let host_port = host.parse().map_err(|_| wrong())?;
        Ok(ExtraPortMapping { container_port, host_port, listen_address: address, protocol })
    }
}

/// The values that could be read; the problems of the others are added, at this option.
fn taken<T>(problems: &mut Vec<Problem>, option: &str, values: impl Iterator<Item = Result<T, String>>) -> Vec<T> {
    let mut read = Vec::new();
    for value in values {
        match value {
            Ok(value) => read.push(value),
            Err(message) => problems.push(Problem { place: option.to_owned(), message, snippet: None }),
        }
    }
    read
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{} is not `KEY=VALUE`", quoted(text)))?;
    syntax::label_key(key)?;
    if KUBELET_LABELS.contains(&key) {
        return Err(format!("`{key}` is set by the kubelet and cannot be changed"));
    }
    syntax::label_value(value)?;
    Ok((key.to_owned(), value.to_owned()))
}

fn taint(text: &str) -> Result<Taint, String> {
    let wrong = || format!("{} is not `KEY=VALUE:EFFECT` or `KEY:EFFECT`", quoted(text));
    let (pair, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    syntax::label_key(key)?;
    syntax::label_value(value)?;
    let found = EFFECTS.iter().find(|(name, _)| *name == effect).map(|(_, effect)| *effect);
    let names: Vec<&str> = EFFECTS.iter().map(|(name, _)| *name).collect();
    let effect = found.ok_or_else(|| format!("{} is not an effect; they are {}", quoted(effect), names.join(", ")))?;
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TaintEffect;

    fn flags() -> NodeFlags {
        NodeFlags {
            role: Role::Worker,
            image: None,
            labels: Vec::new(),
            taints: Vec::new(),
            mounts: Vec::new(),
            ports: Vec::new(),
            directory: PathBuf::from("/home/me"),
            loopback: IpAddr::from([127, 0, 0, 1]),
        }
    }

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn options_are_read_as_docker_and_kubectl_write_them() {
        let node = NodeFlags {
            labels: list(&["tier=a", "x.io/empty="]),
            taints: list(&["gpu=yes:NoSchedule", "spot:NoExecute"]),
            mounts: list(&["data:/data", "/etc/ssl:/ssl:ro"]),
            ports: list(&["8080:30080", "0.0.0.0:53:30053/UDP", "[::1]:0:80"]),
            ..flags()
        }
        .node()
        .unwrap();
        assert_eq!((node.labels["tier"].as_str(), node.labels["x.io/empty"].as_str()), ("a", ""));
        let taints = node.taints.unwrap();
        assert_eq!((taints[0].value.as_str(), taints[1].value.as_str()), ("yes", ""));
        assert_eq!(taints[1].effect, TaintEffect::NoExecute);
        assert_eq!(node.extra_mounts[0].host_path, "/home/me/data");
        assert!(node.extra_mounts[1].read_only && node.extra_mounts[1].container_path == "/ssl");
        let ports: Vec<(String, u16, Protocol)> = node
            .extra_port_mappings
            .iter()
            .map(|port| (format!("{}:{}", port.listen_address, port.host_port), port.container_port, port.protocol))
            .collect();
        assert_eq!(ports[0], ("127.0.0.1:8080".to_owned(), 30080, Protocol::Tcp));
        assert_eq!(ports[1], ("0.0.0.0:53".to_owned(), 30053, Protocol::Udp));
        assert_eq!(ports[2].0, "::1:0");
        assert_eq!(flags().node().unwrap(), Node::new(Role::Worker));
    }

    #[test]
    fn every_mistake_is_reported_with_its_option() {
        let error = NodeFlags {
            image: Some("a b".to_owned()),
            labels: list(&["tier", "kubernetes.io/os=x"]),
            taints: list(&["a=b", "a:Never"]),
            mounts: list(&["data", "data:relative"]),
            ports: list(&["8080", "8080:80/icmp", "x:80", "8080:0"]),
            ..flags()
        }
        .node()
        .unwrap_err();
        let places: Vec<&str> = error.problems().iter().map(|problem| problem.place.as_str()).collect();
        let expected = ["--image"; 1].into_iter().chain(["--label"; 2]).chain(["--taint"; 2]);
        let expected: Vec<&str> = expected.chain(["--mount"; 2]).chain(["--port"; 4]).collect();
        assert_eq!(places, expected);
        assert_eq!(error.message(), "the command line has 11 problems");
        assert!(error.problems()[4].message.ends_with("they are NoSchedule, PreferNoSchedule, NoExecute"));
    }
}
