//! What can be known to fail before anything is made.

use ipnet::IpNet;

use crate::config::{ClusterConfig, ClusterName, Networking, problem_count};
use crate::engine::place::Place;
use crate::engine::spec::{Container, EngineInfo, Image, Network, OsType, Volume};
use crate::error::{Code, Error, Problem, Result};
use crate::host::check::{self, Check};
use crate::host::checks::Id;
use crate::host::routes::{self, Route};
use crate::image::mismatch;

/// The smallest packet size with which the kernel allows IPv6.
const MIN_MTU_V6: u32 = 1280;

/// Checks whether nodes can run on the engine, and be reached.
pub fn engine(info: &EngineInfo, place: &Place) -> Vec<Check> {
    let check = |id, fails: bool, cause: &str, hint: &str| {
        let error = || Error::new(Code::EngineUnsupported, "this engine cannot run nodes").because(cause).hint(hint);
        Check::unless(id, fails.then(error))
    };
    let known = ["x86_64", "amd64", "aarch64", "arm64"].contains(&info.architecture.as_str());
    let apart = || {
        Error::new(Code::EngineUnsupported, "a cluster would not be reachable from here")
            .because("coracle runs in a container that does not belong to this engine: its 127.0.0.1 is not the engine's, and the engine cannot connect it with the cluster's network")
            .hint("run this container on the same engine, or in the network of the engine's host (`--network host`, `hostNetwork: true`)")
    };
    vec![
        check(
            Id::WindowsContainers,
            info.os_type != OsType::Linux,
            "it runs Windows containers",
            "switch Docker Desktop to Linux containers",
        ),
        check(
            Id::RootlessEngine,
            info.rootless,
            "it is rootless, which coracle does not support yet",
            "use an engine that runs as root",
        ),
        check(
            Id::Architecture,
            !known,
            &format!("its architecture is {}", info.architecture),
            "use an engine on amd64 or arm64",
        ),
        Check::unless(Id::EngineApart, (*place == Place::Apart).then(apart)),
    ]
}

/// Checks whether the name is free: no container and no volume belongs to a cluster of this name.
pub fn name(name: &ClusterName, containers: &[Container], volumes: &[Volume]) -> Vec<Check> {
    vec![Check::new(Id::ClusterExists, unused(name, containers)), Check::new(Id::OldVolumes, no_volumes(name, volumes))]
}

fn unused(name: &ClusterName, containers: &[Container]) -> Result<()> {
    if containers.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::ClusterExists, format!("cluster `{name}` already exists"))
        // A cluster that was kept after a failure has no context.
        .hint(format!("use it: `coracle status --name {name}`, `coracle export kubeconfig --name {name}`"))
        .hint(format!("or choose another `--name`, or delete it: `coracle delete cluster --name {name}`")))
}

/// Refuses to start nodes on the data of a cluster whose containers are gone: it would come back to life.
fn no_volumes(name: &ClusterName, volumes: &[Volume]) -> Result<()> {
    let Some(volume) = volumes.first() else { return Ok(()) };
    Err(Error::new(Code::ClusterExists, format!("volumes of an earlier cluster `{name}` exist"))
        .because(format!("`{}` holds its data, but its containers are gone", volume.name))
        .hint(format!("delete them: `coracle delete cluster --name {name}`; or choose another `--name`")))
}

/// Checks that no network of the engine overlaps a wanted subnet.
pub fn subnet(wanted: IpNet, networks: &[Network]) -> Result<()> {
    let overlaps = |other: &IpNet| wanted.contains(other) || other.contains(&wanted);
    let Some(network) = networks.iter().find(|network| network.subnets.iter().any(overlaps)) else { return Ok(()) };
    // Docker's own network cannot be removed.
    let or = match network.name.as_str() {
        "bridge" => String::new(),
        name => format!(", or remove that one: `docker network rm {name}`"),
    };
    Err(Error::new(Code::SubnetClash, format!("subnet {wanted} is in use"))
        .because(format!("the engine's network `{}` uses it", network.name))
        .hint(format!("set another `networking.nodeSubnet`{or}")))
}

/// Checks that no route of this host leads packets for a wanted subnet elsewhere.
pub fn routed(wanted: IpNet, routes: &[Route]) -> Result<()> {
    let narrow: Vec<Route> = routes.iter().filter(|route| route.excludes(&wanted)).cloned().collect();
    let Some(route) = routes::across(&narrow, &wanted) else { return Ok(()) };
    Err(Error::new(Code::SubnetClash, format!("subnet {wanted} is in use"))
        .because(format!("this host has the route `{route}`"))
        .hint("set another `networking.nodeSubnet`, or omit it; `ip route show table all` lists all routes"))
}

/// The error of a network whose addresses this host reaches by another route.
pub fn astray(wanted: IpNet, route: &Route) -> Error {
    Error::new(Code::SubnetClash, format!("this host cannot reach the cluster's network {wanted}"))
        .because(format!("it uses the route `{route}` instead, as VPN clients set it"))
        .hint(format!("let the VPN leave private addresses alone, or: `sudo ip rule add to {wanted} table main priority 1`; and set `networking.nodeSubnet: {wanted}`"))
}

/// Warnings about routes of this host to networks that pods cannot reach, because the cluster has the same addresses.
pub fn routes(networking: &Networking, routes: &[Route]) -> Vec<Error> {
    let fields = [
        ("podSubnet", &networking.pod_subnet),
        ("serviceSubnet", &networking.service_subnet),
        ("nodeSubnet", &networking.node_subnet),
    ];
    let subnets = fields.iter().flat_map(|(field, subnets)| subnets.iter().map(|subnet| (*field, subnet)));
    let warning = |(field, subnet): (&str, IpNet)| {
        // What excludes the nodes' subnet is an error.
        let route =
            routes::across(routes, &subnet).filter(|route| field != "nodeSubnet" || !route.excludes(&subnet))?;
        Some(check::odd(
            format!(
                "this host has the route `{route}`, and the cluster uses some of these addresses ({subnet}): its pods cannot \
                 reach what is there"
            ),
            format!("to change that, set another `networking.{field}`"),
        ))
    };
    subnets.filter_map(warning).collect()
}

/// Checks that packets of IPv6 fit into the engine's networks.
pub fn ipv6_fits(networking: &Networking, mtu: Option<u32>) -> Result<()> {
    match mtu.filter(|mtu| *mtu < MIN_MTU_V6 && networking.ip_family.has(false)) {
        Some(mtu) => Err(Error::new(Code::EngineUnsupported, "this engine cannot run a cluster with IPv6")
            .because(format!("its networks have an MTU of {mtu}, and IPv6 needs {MIN_MTU_V6}"))
            .hint("raise `mtu` in the engine's configuration, or set `networking.ipFamily: ipv4`")),
        None => Ok(()),
    }
}

/// A warning if packets of the cluster's network are larger than those that this host's interface to the world takes.
pub fn small_uplink(mtu: u32, uplink: Option<(String, u32)>) -> Option<Error> {
    let (device, uplink) = uplink.filter(|(_, uplink)| *uplink < mtu)?;
    Some(check::odd(
        format!(
            "`{device}`, this host's way to other machines, takes packets of {uplink} bytes, and pods may send {mtu}: \
             downloads in pods may hang"
        ),
        format!("if they do, set `\"mtu\": {uplink}` in /etc/docker/daemon.json and restart Docker"),
    ))
}

/// The error of a host where every subnet is taken.
pub fn no_subnet() -> Error {
    Error::new(Code::SubnetClash, "no subnet is free for the cluster's network")
        .because("every private range is used by a network of the engine or by a route of this host")
        .hint("remove unused networks (`docker network prune`), or set `networking.nodeSubnet`")
}

/// Refuses a node image for other processors: its nodes could not boot.
pub fn platform(reference: &str, image: &Image, architecture: &str) -> Result<()> {
    let Some((found, node)) = mismatch(image, architecture) else { return Ok(()) };
    Err(Error::new(
        Code::ImageMissing,
        format!("node image `{reference}` is for {found}, but nodes of this engine are {node}"),
    )
    .hint(format!("pull or build it for {node}: `docker pull --platform {node} {reference}`")))
}

/// The error of a configuration with what this host does not have.
pub fn host(cluster: &ClusterConfig, problems: Vec<Problem>) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let count = problem_count(&problems);
    let what = format!("the configuration of cluster `{}` has {count} on this host", cluster.name);
    Err(Error::new(Code::ConfigInvalid, what).with_problems(problems))
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
