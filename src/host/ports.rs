//! Ports and addresses of this host: whether a configuration can have those that it names, and which ports are free.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::{ClusterConfig, Protocol};
use crate::engine::spec::{self, Container, PortBinding};
use crate::error::{Code, Error, Result, counted};
use crate::host::check::Found;
use crate::host::checks::Id;

/// How long a taken port may take to become free: that of a program that is just ending.
const PORT_TIMEOUT: Duration = Duration::from_secs(2);

/// An address and port of the configuration, and the path of its field there.
struct Published {
    address: SocketAddr,
    protocol: Protocol,
    /// The path of what has the two fields.
    path: String,
    /// The names of the two fields.
    fields: [&'static str; 2],
}

/// Everything that the configuration publishes.
fn published(cluster: &ClusterConfig) -> Vec<Published> {
    let networking = &cluster.networking;
    let mut published = vec![Published {
        address: SocketAddr::new(networking.api_server_address, networking.api_server_port),
        protocol: Protocol::Tcp,
        path: "networking".to_owned(),
        fields: ["apiServerAddress", "apiServerPort"],
    }];
    for (node, config) in cluster.nodes.iter().enumerate() {
        published.extend(config.extra_port_mappings.iter().enumerate().map(|(index, mapping)| Published {
            address: SocketAddr::new(mapping.listen_address, mapping.host_port),
            protocol: mapping.protocol,
            path: format!("nodes[{node}].extraPortMappings[{index}]"),
            fields: ["listenAddress", "hostPort"],
        }));
    }
    published
}

/// Addresses of the configuration that this host does not have.
pub fn addresses(cluster: &ClusterConfig) -> Vec<Found> {
    let problem = |published: Published| {
        let message =
            format!("this host has no address `{}`; `ip address` lists those that it has", published.address.ip());
        let place = format!("{}.{}", published.path, published.fields[0]);
        (Id::AddressAbsent, cluster.places.problem(&place, message))
    };
    published(cluster).into_iter().filter(is_absent).map(problem).collect()
}

/// Checks that the ports that the configuration names are free, or soon are; those that coracle chooses are replaced when
/// they are taken. `containers` are those of the engine.
pub async fn free(cluster: &ClusterConfig, containers: &[Container]) -> Result<()> {
    let deadline = Instant::now() + PORT_TIMEOUT;
    loop {
        let free = free_now(cluster, containers);
        if free.is_ok() || Instant::now() > deadline {
            return free;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The same at this moment.
pub fn free_now(cluster: &ClusterConfig, containers: &[Container]) -> Result<()> {
    let taken: Vec<Published> = published(cluster).into_iter().filter(is_taken).collect();
    if taken.is_empty() { Ok(()) } else { Err(taken_error(cluster, &taken, containers)) }
}

/// Whether the configuration names this port.
pub fn names(cluster: &ClusterConfig, port: u16) -> bool {
    published(cluster).iter().any(|published| published.address.port() == port)
}

/// Why a port of this host cannot be had, if it cannot. `containers` are those of the engine.
pub fn obstacle(address: SocketAddr, protocol: spec::Protocol, containers: &[Container]) -> Option<String> {
    let protocol = if protocol == spec::Protocol::Udp { Protocol::Udp } else { Protocol::Tcp };
    let published = Published { address, protocol, path: String::new(), fields: ["", ""] };
    if is_absent(&published) {
        return Some(format!("this host has no address `{}`; `ip address` lists those that it has", address.ip()));
    }
    let user = || user(&published, containers).unwrap_or_else(|| "another program uses it".to_owned());
    is_taken(&published).then(|| format!("port {} on {} is taken: {}", address.port(), address.ip(), user()))
}

fn is_absent(published: &Published) -> bool {
    let ip = published.address.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(address) if address.is_broadcast());
    // A link-local address of IPv6 needs the name of its link, which is refused as invalid.
    let refused = [ErrorKind::AddrNotAvailable, ErrorKind::InvalidInput];
    ip.is_multicast() || is_broadcast || TcpListener::bind((ip, 0)).is_err_and(|error| refused.contains(&error.kind()))
}

fn is_taken(published: &Published) -> bool {
    if published.address.port() == 0 {
        return false;
    }
    let refusal = match published.protocol {
        Protocol::Tcp => TcpListener::bind(published.address).err(),
        Protocol::Udp => UdpSocket::bind(published.address).err(),
        Protocol::Sctp => None,
    };
    refusal.is_some_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn taken_error(cluster: &ClusterConfig, taken: &[Published], containers: &[Container]) -> Error {
    let what =
        |published: &Published| format!("port {} on {} is taken", published.address.port(), published.address.ip());
    let hint = |port: u16| {
        format!("`sudo ss -lnp 'sport = :{port}'` shows what uses it; or set another port in the configuration")
    };
    if let [one] = taken {
        let user = user(one, containers).unwrap_or_else(|| "another program uses it".to_owned());
        return Error::new(Code::PortTaken, what(one)).because(user).hint(hint(one.address.port()));
    }
    let problem = |published: &Published| {
        let user = user(published, containers).map(|user| format!(": {user}")).unwrap_or_default();
        let path = format!("{}.{}", published.path, published.fields[1]);
        cluster.places.problem(&path, format!("{}{user}", what(published)))
    };
    Error::new(Code::PortTaken, format!("{} of this host are taken", counted(taken.len(), "port")))
        .with_problems(taken.iter().map(problem).collect())
}

/// Who has a port: a container, or else a program as far as this user can see it.
fn user(published: &Published, containers: &[Container]) -> Option<String> {
    publisher(published, containers).or_else(|| program_with(published))
}

/// The container that publishes a port.
fn publisher(published: &Published, containers: &[Container]) -> Option<String> {
    let protocol = spec::Protocol::from(published.protocol);
    let has_it = |container: &&Container| {
        container.is_running()
            && container.ports.iter().any(|port| {
                (port.protocol, port.host_port) == (protocol, published.address.port())
                    && meet(port.host_address, published.address.ip())
            })
    };
    containers.iter().find(has_it).map(|container| format!("the container `{}` publishes it", container.name))
}

/// The program that has a port of this host.
fn program_with(published: &Published) -> Option<String> {
    let name = if published.protocol == Protocol::Udp { "udp" } else { "tcp" };
    let sockets =
        [name.to_owned(), format!("{name}6")].map(|name| std::fs::read_to_string(format!("/proc/net/{name}")));
    let listeners: Vec<Listener> =
        sockets.iter().flatten().flat_map(|text| text.lines().filter_map(listener)).collect();
    let port = published.address.port();
    let listener = listeners
        .iter()
        .find(|listener| listener.address.port() == port && meet(listener.address.ip(), published.address.ip()))?;
    Some(program(listener.inode).unwrap_or_else(|| match listener.user {
        0 => "a program run by root uses it".to_owned(),
        user => format!("a program run by user ID {user} uses it"),
    }))
}

/// A published port that someone else has.
#[derive(Debug, Clone)]
pub struct Taken<'a> {
    pub port: &'a PortBinding,
    /// Who has it, as a sentence.
    pub user: String,
}

/// Who has a port that a container publishes once it runs; `None` if it is free. Programs can be seen only of this host.
pub fn taken<'a>(port: &'a PortBinding, containers: &[Container], local: bool) -> Option<Taken<'a>> {
    let published = Published {
        address: SocketAddr::new(port.host_address, port.host_port),
        protocol: match port.protocol {
            spec::Protocol::Tcp => Protocol::Tcp,
            spec::Protocol::Udp => Protocol::Udp,
            spec::Protocol::Sctp => Protocol::Sctp,
        },
        path: String::new(),
        fields: ["", ""],
    };
    let user = match publisher(&published, containers) {
        None if local && is_taken(&published) => {
            Some(program_with(&published).unwrap_or_else(|| "another program uses it".to_owned()))
        }
        other => other,
    };
    user.map(|user| Taken { port, user })
}

/// Whether something at one of these addresses keeps others from the other one.
fn meet(one: IpAddr, other: IpAddr) -> bool {
    one == other || one.is_unspecified() || other.is_unspecified()
}

/// A socket that waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    user: u32,
    inode: u64,
}

/// The sockets of TCP that listen on this host.
pub(super) fn listeners() -> Vec<Listener> {
    let texts = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
    texts.iter().flat_map(|text| text.lines().filter_map(listener)).collect()
}

/// Reads a line of `/proc/net/tcp` and its like.
pub(super) fn listener(line: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    // 0A is a listening socket of TCP, and 07 one of UDP that is not connected.
    if !["0A", "07"].contains(fields.get(3)?) {
        return None;
    }
    // Words of 32 bits, each in the order of this machine.
    let words = (0..address.len() / 8).map(|word| u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip: IpAddr = match <[u8; 16]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::from(bytes).to_canonical(),
        Err(_) => <[u8; 4]>::try_from(bytes.as_slice()).ok()?.into(),
    };
    Some(Listener {
        address: SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?),
        user: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// The program with this socket, if this user may see it.
fn program(inode: u64) -> Option<String> {
    let link = format!("socket:[{inode}]");
    let is_number = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let processes = std::fs::read_dir("/proc").ok()?.flatten().filter(|entry| is_number(&entry.file_name()));
    let has = |path: &std::path::Path| {
        let files = std::fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    };
    let process = processes.map(|entry| entry.path()).find(|path| has(path))?;
    let name = std::fs::read_to_string(process.join("comm")).ok()?;
    Some(format!("`{}` (process {}) uses it", name.trim(), process.file_name()?.to_string_lossy()))
}

/// A free UDP port at an address of this host.
pub fn any_udp(address: IpAddr) -> Result<u16> {
    let port = UdpSocket::bind((address, 0)).and_then(|socket| socket.local_addr()).map(|local| local.port());
    port.map_err(|source| Error::new(Code::PortTaken, format!("no port is free at {address}")).with_cause(&source))
}

/// A free TCP port at an address of this host.
pub fn any(address: IpAddr) -> Result<u16> {
    TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr()).map(|local| local.port()).map_err(
        |source| {
            Error::new(Code::PortTaken, format!("no port is free at {address}"))
                .with_cause(&source)
                .hint("set `networking.apiServerPort`")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load};
    use crate::engine::spec::{Labels, State};

    fn cluster(ports: &[u16], more: &str) -> ClusterConfig {
        let mapping = |port: &u16| format!("  - {{containerPort: 80, hostPort: {port}{more}}}\n");
        let mappings = ports.iter().map(mapping).collect::<Vec<_>>().concat();
        let text = format!(
            "apiVersion: coracle.dev/v1alpha1\nkind: Cluster\nnodes:\n- role: control-plane\n  extraPortMappings:\n{mappings}"
        );
        load(&text, "c.yaml", &Overrides::default()).unwrap()
    }

    #[tokio::test]
    async fn a_taken_port_is_told_with_who_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = free(&cluster(&[port], ""), &[]).await.unwrap_err();
        assert_eq!(error.code(), Code::PortTaken);
        assert_eq!(error.message(), format!("port {port} on 127.0.0.1 is taken"));
        let own = format!("(process {}) uses it", std::process::id());
        assert!(error.cause().unwrap().ends_with(&own), "{error}");
        drop(listener);
        assert!(free(&cluster(&[port], ""), &[]).await.is_ok());
    }

    #[tokio::test]
    async fn all_taken_ports_are_told_with_their_places() {
        let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let error = free(&cluster(&ports, ""), &[]).await.unwrap_err();
        assert_eq!(error.message(), "2 ports of this host are taken");
        let places: Vec<&str> = error.problems().iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, ["c.yaml:6:35", "c.yaml:7:35"]);
    }

    #[tokio::test]
    async fn a_port_that_becomes_free_in_a_moment_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cluster = cluster(&[listener.local_addr().unwrap().port()], "");
        let end = async {
            sleep(Duration::from_millis(150)).await;
            drop(listener);
        };
        let (result, ()) = tokio::join!(free(&cluster, &[]), end);
        assert!(result.is_ok(), "{result:?}");
    }

    #[test]
    fn a_container_that_publishes_the_port_is_named() {
        let binding = PortBinding {
            host_address: IpAddr::from([0, 0, 0, 0]),
            host_port: 8080,
            container_port: 80,
            protocol: spec::Protocol::Tcp,
        };
        let container = Container {
            id: "1".to_owned(),
            name: "web".to_owned(),
            image: "web".to_owned(),
            state: State::Running,
            labels: Labels::new(),
            addresses: Vec::new(),
            networks: Vec::new(),
            network_ids: Vec::new(),
            volumes: Vec::new(),
            ports: vec![binding],
            created: 0,
        };
        let published = published(&cluster(&[8080], "")).pop().unwrap();
        assert_eq!(user(&published, &[container]).as_deref(), Some("the container `web` publishes it"));
    }

    #[test]
    fn an_address_of_another_host_is_told_at_its_field() {
        let problems = addresses(&cluster(&[8080], ", listenAddress: 192.0.2.1"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].1.place, "c.yaml:6:56");
        assert!(problems[0].1.message.contains("no address `192.0.2.1`"));
        assert!(addresses(&cluster(&[8080], ", listenAddress: 0.0.0.0")).is_empty());
    }

    #[test]
    fn listening_sockets_are_read_as_the_kernel_writes_them() {
        let line =
            "   0: 0100007F:0C38 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100";
        let found = listener(line).unwrap();
        assert_eq!((found.address.to_string().as_str(), found.user, found.inode), ("127.0.0.1:3128", 1000, 4711));
        let line =
            "   1: 00000000000000000000000001000000:0C38 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 5 1";
        assert_eq!(listener(line).unwrap().address.to_string(), "[::1]:3128");
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(listener("  sl  local_address rem_address   st tx_queue"), None);
    }
}
