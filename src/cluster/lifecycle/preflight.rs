//! What can be known to fail before anything is made.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::config::{ClusterConfig, ClusterName};
use crate::engine::spec::{Container, EngineInfo, Network, OsType, Volume};
use crate::error::{Code, Error, Result, counted};
use crate::host::check::Check;

/// Checks whether nodes can run on the engine.
pub fn engine(info: &EngineInfo, local: bool, cluster: &ClusterConfig) -> Vec<Check> {
    let check = |name, fails: bool, cause: &str, hint: &str| {
        let error = || Error::new(Code::EngineUnsupported, "this engine cannot run nodes").because(cause).hint(hint);
        Check::new(name, if fails { Err(error()) } else { Ok(()) })
    };
    let podman = [&info.operating_system, &info.version].iter().any(|text| text.to_lowercase().contains("podman"));
    let known = ["x86_64", "amd64", "aarch64", "arm64"].contains(&info.architecture.as_str());
    let elsewhere = !local && cluster.networking.api_server_address.is_loopback();
    vec![
        check(
            "Linux containers",
            info.os_type != OsType::Linux,
            "it runs Windows containers",
            "switch Docker Desktop to Linux containers",
        ),
        check(
            "root rights",
            info.rootless,
            "it is rootless, which coracle does not support yet",
            "use an engine that runs as root",
        ),
        check("Docker", podman, "it is Podman, which coracle does not support yet", "use a Docker engine"),
        check(
            "architecture",
            !known,
            &format!("its architecture is {}", info.architecture),
            "use an engine on amd64 or arm64",
        ),
        check(
            "API server address",
            elsewhere,
            "it is on another host, where the API server would listen on that host's 127.0.0.1 only",
            "set `networking.apiServerAddress` to an address of that host that you can reach",
        ),
    ]
}

/// Checks whether the name is free: no container and no volume belongs to a cluster of this name.
pub fn name(name: &ClusterName, containers: &[Container], volumes: &[Volume]) -> Vec<Check> {
    vec![Check::new("name", unused(name, containers)), Check::new("old volumes", no_volumes(name, volumes))]
}

fn unused(name: &ClusterName, containers: &[Container]) -> Result<()> {
    if containers.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::ClusterExists, format!("cluster `{name}` already exists"))
        .hint(format!("use it: `kubectl --context {}`; or choose another `--name`", name.context()))
        .hint(format!("or delete it: `coracle delete cluster --name {name}`")))
}

/// Refuses to start nodes on the data of a cluster whose containers are gone: it would come back to life.
fn no_volumes(name: &ClusterName, volumes: &[Volume]) -> Result<()> {
    let Some(volume) = volumes.first() else { return Ok(()) };
    Err(Error::new(Code::ClusterExists, format!("volumes of an earlier cluster `{name}` exist"))
        .because(format!("`{}` holds its data, but its containers are gone", volume.name))
        .hint(format!("delete them: `coracle delete cluster --name {name}`; or choose another `--name`")))
}

/// Checks that the volumes of a new cluster do not exist: the engine would mount the volume of someone else without a word.
pub fn foreign_volumes(wanted: &BTreeSet<String>, volumes: &[Volume]) -> Result<()> {
    let found: Vec<&str> =
        volumes.iter().map(|volume| volume.name.as_str()).filter(|name| wanted.contains(*name)).collect();
    let Some(first) = found.first() else { return Ok(()) };
    Err(Error::new(Code::ClusterExists, format!("volume `{first}` exists and does not belong to coracle"))
        .because("a node would mount it, and write into it")
        .hint(format!(
            "choose another `--name`, or delete {} with all contents: `docker volume rm {}`",
            counted(found.len(), "volume"),
            found.join(" ")
        )))
}

/// Checks that no network of the engine overlaps a wanted subnet.
pub fn subnet(wanted: IpNet, networks: &[Network]) -> Result<()> {
    let overlaps = |other: &IpNet| wanted.contains(other) || other.contains(&wanted);
    let Some(network) = networks.iter().find(|network| network.subnets.iter().any(overlaps)) else { return Ok(()) };
    Err(Error::new(Code::SubnetClash, format!("subnet {wanted} is in use"))
        .because(format!("the engine's network `{}` uses it", network.name))
        .hint(format!("set another `networking.nodeSubnet`, or remove that one: `docker network rm {}`", network.name)))
}
