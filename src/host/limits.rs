//! What this machine allows: kernel settings, disk space and ports.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use ipnet::IpNet;

use crate::config::{ClusterConfig, IpFamily, Protocol};
use crate::engine::spec::{EngineInfo, Privilege};
use crate::error::{Code, Error, FREE_DISK, Result, counted};
use crate::host::check::Check;

/// inotify instances that a node uses: systemd, the kubelet and containerd, measured with room to spare.
const INOTIFY_PER_NODE: usize = 8;
/// Free bytes on the engine's disk below which a cluster cannot start.
const MIN_DISK: u64 = 512 * 1024 * 1024;
/// The bit of `CAP_SYS_RESOURCE` in a capability set.
const SYS_RESOURCE: u64 = 1 << 24;

/// The privilege that the engine can grant. If this process lacks a capability that `--privileged` needs, then most likely
/// the engine beside it lacks it too.
pub fn privilege(local: bool) -> Privilege {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let set = bounding.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    if local && set.is_some_and(|set| set & SYS_RESOURCE == 0) {
        Privilege::AllButSysResource
    } else {
        Privilege::Privileged
    }
}

/// Checks whether this host, on which the engine runs, can run the cluster.
pub fn checks(info: &EngineInfo, cluster: &ClusterConfig) -> Vec<Check> {
    vec![
        Check::new("IPv6", ipv6(cluster)),
        Check::new("inotify instances", inotify(cluster.nodes.len())),
        Check::new("disk space", disk(Path::new(&info.data_root))),
        Check::new("ports", ports(cluster)),
    ]
}

fn ipv6(cluster: &ClusterConfig) -> Result<()> {
    let family = cluster.networking.ip_family;
    // If the kernel has IPv6, the loopback has an address; if not, the file does not exist.
    let present = std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|text| !text.is_empty());
    if family == IpFamily::Ipv4 || present {
        return Ok(());
    }
    Err(Error::new(Code::EngineUnsupported, "this host cannot run a cluster with IPv6")
        .because("IPv6 is disabled in its kernel")
        .hint("`sudo sysctl net.ipv6.conf.all.disable_ipv6=0`; or set `networking.ipFamily: ipv4`"))
}

fn inotify(nodes: usize) -> Result<()> {
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse::<usize>().ok();
    read("max_user_instances").map_or(Ok(()), |limit| enough_inotify(nodes, inotify_in_use(), limit))
}

/// Whether the limit allows this many more nodes.
fn enough_inotify(nodes: usize, used: usize, limit: usize) -> Result<()> {
    let needed = nodes * INOTIFY_PER_NODE;
    if used + needed <= limit {
        return Ok(());
    }
    let wanted = (used + needed).max(512).next_power_of_two();
    Err(Error::new(
        Code::InotifyLimit,
        format!("{} more would need about {needed} inotify instances", counted(nodes, "node")),
    )
    .because(format!("the kernel allows {limit} per user, and {used} are in use"))
    .hint(format!("`sudo sysctl fs.inotify.max_user_instances={wanted}` (in /etc/sysctl.d it survives a reboot)")))
}

/// inotify instances of root's processes, as far as this user can see them.
fn inotify_in_use() -> usize {
    use std::os::unix::fs::MetadataExt;
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let root = processes.filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == 0));
    let files = root.filter_map(|process| std::fs::read_dir(process.path().join("fd")).ok()).flatten().flatten();
    files
        .filter(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:inotify"))
        .count()
}

fn disk(data_root: &Path) -> Result<()> {
    let Ok(stat) = rustix::fs::statvfs(data_root) else { return Ok(()) };
    enough_disk(data_root, stat.f_bavail * stat.f_frsize)
}

fn enough_disk(data_root: &Path, free: u64) -> Result<()> {
    if free >= MIN_DISK {
        return Ok(());
    }
    Err(Error::new(Code::DiskFull, format!("the engine's disk at {} is full", data_root.display()))
        .because(format!("{} MiB are free, and a cluster needs {} MiB", free >> 20, MIN_DISK >> 20))
        .hint(FREE_DISK))
}

/// Whether the ports that the configuration names are free; those that coracle chooses are replaced if they are taken.
fn ports(cluster: &ClusterConfig) -> Result<()> {
    let networking = &cluster.networking;
    let mut wanted = vec![(SocketAddr::new(networking.api_server_address, networking.api_server_port), Protocol::Tcp)];
    let mappings = cluster.nodes.iter().flat_map(|node| &node.extra_port_mappings);
    wanted
        .extend(mappings.map(|mapping| (SocketAddr::new(mapping.listen_address, mapping.host_port), mapping.protocol)));
    for (address, protocol) in wanted.into_iter().filter(|(address, _)| address.port() != 0) {
        let taken = match protocol {
            Protocol::Tcp => TcpListener::bind(address).err(),
            Protocol::Udp => UdpSocket::bind(address).err(),
            Protocol::Sctp => None,
        };
        if let Some(source) = taken.filter(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
            return Err(Error::new(Code::PortTaken, format!("port {} on {} is taken", address.port(), address.ip()))
                .with_cause(&source)
                .hint(format!(
                    "`ss -lnp 'sport = :{}'` shows which program uses it; or set another port in the configuration",
                    address.port()
                )));
        }
    }
    Ok(())
}

/// A free TCP port at an address of this host.
pub fn free_port(address: IpAddr) -> Result<u16> {
    TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr()).map(|local| local.port()).map_err(
        |source| {
            Error::new(Code::PortTaken, format!("no port is free at {address}"))
                .with_cause(&source)
                .hint("set `networking.apiServerPort`")
        },
    )
}

/// Networks to which this host has routes: a VPN's subnet must not become a cluster's.
pub fn routes() -> Vec<IpNet> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let (v4, v6) = (read("route"), read("ipv6_route"));
    v4.lines().skip(1).filter_map(route).chain(v6.lines().filter_map(route_v6)).collect()
}

fn route(line: &str) -> Option<IpNet> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address =
        |text: &str| u32::from_str_radix(text, 16).ok().map(|number| std::net::Ipv4Addr::from(number.swap_bytes()));
    let net = ipnet::Ipv4Net::with_netmask(address(fields.get(1)?)?, address(fields.get(7)?)?).ok()?;
    Some(IpNet::V4(net.trunc()))
}

fn route_v6(line: &str) -> Option<IpNet> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = u128::from_str_radix(fields.first()?, 16).ok()?;
    let prefix = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    ipnet::Ipv6Net::new(address.into(), prefix).ok().map(IpNet::V6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterName, ExtraPortMapping, Node, Role};

    #[test]
    fn a_taken_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut cluster = ClusterConfig::new(ClusterName::default());
        let mut node = Node::new(Role::Worker);
        let listen_address = IpAddr::from([127, 0, 0, 1]);
        node.extra_port_mappings.push(ExtraPortMapping {
            container_port: 80,
            host_port: port,
            listen_address,
            protocol: Protocol::Tcp,
        });
        cluster.nodes.push(node);
        let error = ports(&cluster).unwrap_err();
        assert_eq!(error.code(), Code::PortTaken);
        assert!(error.message().contains(&port.to_string()));
        drop(listener);
        assert!(ports(&cluster).is_ok());
    }

    #[test]
    fn too_few_inotify_instances_are_reported_with_the_command_that_helps() {
        assert!(enough_inotify(3, 104, 128).is_ok());
        let error = enough_inotify(3, 105, 128).unwrap_err();
        assert_eq!(error.code(), Code::InotifyLimit);
        assert!(error.cause().unwrap().contains("allows 128 per user, and 105 are in use"));
        assert!(error.hints()[0].contains("sysctl fs.inotify.max_user_instances=512"));
        let many = enough_inotify(3, 510, 512).unwrap_err();
        assert!(many.hints()[0].contains("max_user_instances=1024"), "{many}");
    }

    #[test]
    fn a_full_disk_is_reported_before_anything_is_made() {
        assert!(enough_disk(Path::new("/data"), MIN_DISK).is_ok());
        let error = enough_disk(Path::new("/data"), MIN_DISK - 1).unwrap_err();
        assert_eq!(error.code(), Code::DiskFull);
        assert!(error.message().contains("/data") && error.hints()[0].contains("docker system df"));
    }

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let line = "eth0\t0000FEA9\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0";
        assert_eq!(route(line).unwrap().to_string(), "169.254.0.0/16");
        let line = "fdc0ac1e000000010000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001 br-1";
        assert_eq!(route_v6(line).unwrap().to_string(), "fdc0:ac1e:0:1::/64");
    }
}
