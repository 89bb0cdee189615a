//! Where this process is, as seen from the engine: that decides at which address it reaches what the engine publishes.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use crate::engine::Engine;
use crate::engine::address::Address;
use crate::error::Result;

/// Where this process is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Place {
    /// Beside the engine: the ports that it publishes on 127.0.0.1 are on this process's 127.0.0.1.
    #[default]
    Host,
    /// In a container of the engine, with this ID and name: it reaches the networks that this container is connected to.
    Container { id: String, name: String },
    /// In a container of something else, which the engine can connect with nothing.
    Apart,
    /// On a host that reaches the engine's by this name or address.
    Elsewhere(String),
}

impl Place {
    /// Whether files and ports of this process's host are those of the engine's.
    pub fn is_host(&self) -> bool {
        *self == Self::Host
    }
}

/// What this process knows about itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// IDs that the container may have which it is in, the surest one first.
    ids: Vec<String>,
    /// It is in a container.
    contained: bool,
}

impl Surroundings {
    pub(super) fn of_process() -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let mounts = read("/proc/self/mountinfo");
        // containerd leaves no file, but a pod has variables and a file of names from its kubelet.
        let is_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
            && mounts.lines().any(|line| line.split(' ').nth(4) == Some("/etc/hosts"));
        let contained = is_pod || Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists();
        let mut ids: Vec<String> = mounts.lines().filter_map(of_mount).collect();
        if contained {
            // Docker's usual host name is the beginning of the ID.
            ids.push(read("/etc/hostname").trim().to_owned());
        }
        ids.retain(|id| id.len() >= 12 && id.chars().all(|letter| letter.is_ascii_hexdigit()));
        ids.dedup();
        Self { contained: contained || !ids.is_empty(), ids }
    }
}

/// The ID of a container in the line of a file that its engine has mounted into it. Elsewhere, such as on the engine's own
/// host, directories of containers are mounted too, but not there.
fn of_mount(line: &str) -> Option<String> {
    let mut fields = line.split(' ').skip(3);
    let (root, target) = (fields.next()?, fields.next()?);
    let mut parts = root.rsplit('/').skip(1);
    let (id, parent) = (parts.next()?, parts.next()?);
    let is_own = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].contains(&target) && parent == "containers";
    is_own.then(|| id.to_owned())
}

/// Finds out where this process is. A process that is in no container asks the engine nothing.
pub(super) async fn find(engine: &dyn Engine, address: &Address, own: &Surroundings) -> Result<Place> {
    for id in &own.ids {
        let Some(found) = engine.inspect(id).await? else { continue };
        return Ok(match found.network_mode.strip_prefix("container:") {
            _ if found.network_mode == "host" => Place::Host,
            // Its network is that of another one.
            Some(other) => Place::Container { id: other.to_owned(), name: other.to_owned() },
            None => Place::Container { id: found.id, name: found.name },
        });
    }
    match address {
        Address::Tcp { host, .. } if !address.is_local() => Ok(Place::Elsewhere(host.clone())),
        _ if own.contained && !has_bridge(engine).await? => Ok(Place::Apart),
        _ => Ok(Place::Host),
    }
}

/// Whether the engine's default bridge is in this process's network, or there is no such bridge.
async fn has_bridge(engine: &dyn Engine) -> Result<bool> {
    let networks = engine.networks().await?;
    let bridge = networks.iter().find(|network| network.name == "bridge").and_then(|network| network.subnets.first());
    // Only an address of this host can be bound.
    let is_here = |address: IpAddr| UdpSocket::bind((address, 0)).is_ok();
    Ok(bridge.and_then(|subnet| subnet.hosts().next()).is_none_or(is_here))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::spec::{AddressPool, ContainerSpec, Labels, NetworkSpec};

    #[test]
    fn a_container_finds_its_id_in_its_mounts() {
        let id = "8f0e8a6ff5ce7ab0b5b5b4bb2a3a5d7f6f4b1a0c9d8e7f6a5b4c3d2e1f0a9b8c";
        let line = |root: &str, target: &str| format!("704 683 254:1 {root} {target} rw,relatime - ext4 /dev/vda1 rw");
        assert_eq!(
            of_mount(&line(&format!("/var/lib/docker/containers/{id}/hostname"), "/etc/hostname")).as_deref(),
            Some(id)
        );
        // As it looks on the engine's host, and in a pod.
        assert_eq!(of_mount(&line("/", &format!("/var/lib/docker/containers/{id}/mounts/shm"))), None);
        assert_eq!(of_mount(&line("/var/lib/kubelet/pods/x/etc-hosts", "/etc/hosts")), None);
    }

    async fn with_bridge(subnet: &str) -> FakeEngine {
        let engine = FakeEngine::new(&["app"]);
        let subnet: ipnet::IpNet = subnet.parse().unwrap();
        let gateway = subnet.hosts().next().unwrap();
        let pools = vec![AddressPool { subnet, gateway, dynamic_range: subnet }];
        let bridge = NetworkSpec { name: "bridge".to_owned(), pools, mtu: None, labels: Labels::new() };
        engine.create_network(&bridge).await.unwrap();
        engine
    }

    #[tokio::test]
    async fn a_place_is_known_by_the_container_then_by_the_address_then_by_the_bridge() {
        let socket = Address::Unix("/s".into());
        let far = Address::Tcp { host: "docker".to_owned(), port: 2376, tls: None };
        let near = Address::Tcp { host: "127.0.0.1".to_owned(), port: 2375, tls: None };
        // Documentation addresses are no one's; those of the loopback are everyone's.
        let (away, here) = (with_bridge("198.51.100.0/24").await, with_bridge("127.0.0.0/8").await);
        let host = Surroundings::default();
        for address in [&socket, &near] {
            assert_eq!(find(&away, address, &host).await.unwrap(), Place::Host);
        }
        assert_eq!(find(&away, &far, &host).await.unwrap(), Place::Elsewhere("docker".to_owned()));
        let strange = Surroundings { ids: vec!["0123456789ab".to_owned()], contained: true };
        assert_eq!(find(&away, &socket, &strange).await.unwrap(), Place::Apart);
        assert_eq!(find(&here, &socket, &strange).await.unwrap(), Place::Host);
        assert_eq!(find(&here, &near, &strange).await.unwrap(), Place::Host);
        assert_eq!(find(&here, &far, &strange).await.unwrap(), Place::Elsewhere("docker".to_owned()));
        let id = away.create_container(&ContainerSpec::new("job", "app")).await.unwrap();
        let inside = Surroundings { ids: vec![id.clone()], contained: true };
        // Also behind a proxy of the socket.
        for address in [&socket, &far] {
            assert!(matches!(find(&away, address, &inside).await.unwrap(), Place::Container { .. }));
        }
    }
}
