//! How a port of the host that leads into a cluster is written: `8080:30080`, `127.0.0.1:53:svc/dns:53/udp`. Pure.

use std::fmt;
use std::net::IpAddr;

use crate::engine::spec::Protocol;
use crate::error::counted;

/// The most ports of a range: each has a container of its own.
const MAX_PORTS: usize = 32;
/// Words before the name of a Service, as kubectl knows them.
const SERVICE: [&str; 3] = ["svc", "service", "services"];

/// One port of the host, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// What was typed.
    pub text: String,
    /// The address on the host, if one is given.
    pub listen: Option<IpAddr>,
    /// The port on the host; 0 for any free one.
    pub host_port: u16,
    pub target: Target,
    pub protocol: Protocol,
}

/// Where a port leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To this port of the nodes.
    Node(u16),
    /// To a Service.
    Service { namespace: Option<String>, name: String, port: ServicePort },
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServicePort {
    Number(u16),
    Name(String),
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(port) => write!(f, "{port}"),
            Self::Service { namespace: None, name, port } => write!(f, "svc/{name}:{port}"),
            Self::Service { namespace: Some(namespace), name, port } => write!(f, "svc/{namespace}/{name}:{port}"),
        }
    }
}

/// The mappings that a text stands for: several for a range. Every mistake in it otherwise.
pub fn parse(text: &str) -> Result<Vec<Mapping>, Vec<String>> {
    if let Some((_, filter)) = text.split_once('@') {
        let why = "a port leads to every node, the first one that answers";
        return Err(vec![format!("leave out `@{filter}`: {why}")]);
    }
    // What follows the last slash is a protocol, or else the name of a Service whose port is missing.
    let service = SERVICE.iter().find_map(|word| Some(text.split_once(&format!(":{word}/"))?.1));
    let is_whole = service.is_none_or(|service| service.contains(':'));
    let (rest, word) = match text.rsplit_once('/') {
        Some((rest, word)) if is_whole && !word.contains(':') => (rest, Some(word)),
        _ => (text, None),
    };
    let mut mistakes = Vec::new();
    let protocol = noted(&mut mistakes, word.map_or(Ok(Protocol::Tcp), protocol));
    let (host, target) = split(rest).map_err(|mistake| vec![mistake])?;
    let (address, port) = host.rsplit_once(':').map_or((None, host), |(address, port)| (Some(address), port));
    let listen = noted(&mut mistakes, address.map(listen).transpose());
    let hosts = noted(&mut mistakes, if port.is_empty() { Ok(vec![0]) } else { ports(port, 0) });
    let targets = noted(&mut mistakes, target.targets());
    let (Some(protocol), Some(listen), Some(hosts), Some(targets)) = (protocol, listen, hosts, targets) else {
        return Err(mistakes);
    };
    if hosts.len() != targets.len() {
        return Err(vec![format!("{} of the host cannot lead to {}", counted(hosts.len(), "port"), targets.len())]);
    }
    let mapping = |(host_port, target)| Mapping { text: text.to_owned(), listen, host_port, target, protocol };
    Ok(hosts.into_iter().zip(targets).map(mapping).collect())
}

/// The value, or a note of the mistake.
fn noted<T>(mistakes: &mut Vec<String>, result: Result<T, String>) -> Option<T> {
    result.map_err(|mistake| mistakes.push(mistake)).ok()
}

/// The second half of a mapping, as it is written.
enum Written<'t> {
    Node(&'t str),
    /// What follows `svc/`.
    Service(&'t str),
}

impl Written<'_> {
    fn targets(&self) -> Result<Vec<Target>, String> {
        match self {
            Self::Node(port) => Ok(ports(port, 1)?.into_iter().map(Target::Node).collect()),
            Self::Service(service) => services(service),
        }
    }
}

/// The two halves: the host's and the cluster's.
fn split(text: &str) -> Result<(&str, Written<'_>), String> {
    for word in SERVICE {
        if let Some((host, service)) = text.split_once(&format!(":{word}/")) {
            return Ok((host, Written::Service(service)));
        }
    }
    let example = "write `8080:30080` or `8080:svc/NAME:80`";
    let (host, node) =
        text.rsplit_once(':').ok_or_else(|| format!("it does not say where the port leads; {example}"))?;
    Ok((host, Written::Node(node)))
}

fn protocol(word: &str) -> Result<Protocol, String> {
    match word.to_lowercase().parse() {
        Ok(Protocol::Sctp) => {
            Err("SCTP cannot be forwarded; `extraPortMappings` publishes it when a cluster is created".to_owned())
        }
        Ok(protocol) => Ok(protocol),
        Err(_) => Err(format!("`{word}` is not a protocol: `tcp` or `udp`")),
    }
}

/// An address of the host; one of IPv6 is written in brackets.
fn listen(text: &str) -> Result<IpAddr, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = inner.unwrap_or(text).parse::<IpAddr>();
    match address {
        Ok(address) if address.is_ipv6() && inner.is_none() => {
            Err(format!("an address of IPv6 has brackets: `[{text}]`"))
        }
        Ok(address) => Ok(address),
        Err(_) if text.contains(':') => Err(format!("`{text}` is not an address; one of IPv6 has brackets: `[::1]`")),
        Err(_) => Err(format!("`{text}` is not an address")),
    }
}

/// A port or a range of ports, none of which is below `minimum`.
fn ports(text: &str, minimum: u16) -> Result<Vec<u16>, String> {
    let number = |text: &str| {
        let number = text.parse::<u16>().ok().filter(|number| *number >= minimum);
        number.ok_or_else(|| format!("`{text}` is not a port from 1 to 65535"))
    };
    let Some((first, last)) = text.split_once('-') else { return Ok(vec![number(text)?]) };
    let (first, last) = (number(first)?, number(last)?);
    let all: Vec<u16> = (first..=last).collect();
    match all.len() {
        0 => Err(format!("the range `{text}` is empty")),
        count if count > MAX_PORTS || first == 0 => {
            Err(format!("`{text}` is not a range of at most {MAX_PORTS} ports"))
        }
        _ => Ok(all),
    }
}

/// The targets in `NAME:PORT` or `NAMESPACE/NAME:PORT`.
fn services(text: &str) -> Result<Vec<Target>, String> {
    let (service, port) =
        text.rsplit_once(':').ok_or_else(|| format!("Service `{text}` has no port: `svc/{text}:80`"))?;
    let (namespace, name) = match service.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, service),
    };
    let is_name = |name: &str| {
        let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&name.len()) && name.bytes().all(is_inside) && !name.starts_with('-') && !name.ends_with('-')
    };
    for name in namespace.as_deref().into_iter().chain([name]) {
        if !is_name(name) {
            return Err(format!("`{name}` is not the name of a Service or a namespace"));
        }
    }
    let target = |port| Target::Service { namespace: namespace.clone(), name: name.to_owned(), port };
    if port.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(ports(port, 1)?.into_iter().map(|port| target(ServicePort::Number(port))).collect());
    }
    if !is_name(port) {
        return Err(format!("`{port}` is neither the number nor the name of a port"));
    }
    Ok(vec![target(ServicePort::Name(port.to_owned()))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let mappings = parse(text).unwrap();
        let word = |mapping: &Mapping| {
            let listen = mapping.listen.map(|address| address.to_string()).unwrap_or_default();
            format!("{listen} {} {} {}", mapping.host_port, mapping.target, mapping.protocol)
        };
        mappings.iter().map(word).collect()
    }

    fn mistakes(text: &str) -> String {
        parse(text).unwrap_err().join("; ")
    }

    #[test]
    fn mappings_are_read_as_docker_and_kubectl_write_them() {
        assert_eq!(read("8080:30080"), [" 8080 30080 tcp"]);
        assert_eq!(read("8080:30080/UDP"), [" 8080 30080 udp"]);
        assert_eq!(read("127.0.0.1:8080:30080/tcp"), ["127.0.0.1 8080 30080 tcp"]);
        assert_eq!(read("[::1]:8080:svc/hello:80"), ["::1 8080 svc/hello:80 tcp"]);
        assert_eq!(read("8080:service/shop/hello:http/udp"), [" 8080 svc/shop/hello:http udp"]);
        assert_eq!(read(":30080"), [" 0 30080 tcp"]);
        assert_eq!(read("8080-8081:svc/a:80-81"), [" 8080 svc/a:80 tcp", " 8081 svc/a:81 tcp"]);
    }

    #[test]
    fn every_mistake_of_a_mapping_is_told() {
        let told = mistakes("1.2.3:99999:0/icmp");
        for part in ["`icmp`", "`1.2.3`", "`99999`", "`0`"] {
            assert!(told.contains(part), "{told}");
        }
        for (text, part) in [
            ("8080", "where the port leads"),
            ("8080:80@server:0", "`@server:0`"),
            ("8080:30080/sctp", "extraPortMappings"),
            ("::1:8080:80", "`[::1]`"),
            ("8080:svc/hello", "`svc/hello:80`"),
            ("8080:svc/Hello:80", "`Hello`"),
            ("8080:pod/hello:80", "`pod/hello`"),
            ("8080-8082:80-81", "3 ports of the host cannot lead to 2"),
            ("8000-8100:8000-8100", "at most 32"),
            ("8082-8080:80", "is empty"),
            ("8080:svc/a:80-http", "`http`"),
        ] {
            assert!(mistakes(text).contains(part), "{text}: {}", mistakes(text));
        }
    }
}
