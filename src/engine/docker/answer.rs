//! Translates the engine's answers into our types. Pure.

use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::models::{ContainerInspectResponse, ContainerSummary, SystemInfo};
use futures_util::{Stream, StreamExt, TryStreamExt};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::engine::conversation::Said;
use crate::engine::spec::{
    CgroupVersion, Container, EngineInfo, Grants, Inspected, OsType, PortBinding, Protocol, State,
};

/// The output of a command as it comes.
pub(super) fn pieces(
    stream: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send + 'static,
) -> Pin<Box<dyn Stream<Item = std::io::Result<Said>> + Send>> {
    let pieces = stream.map_ok(|part| match part {
        LogOutput::StdErr { message } => Said::Error(message),
        other => Said::Output(other.into_bytes()),
    });
    pieces.map_err(std::io::Error::other).boxed()
}

/// What the engine says of itself and of its host.
pub(super) fn engine_info(info: SystemInfo) -> EngineInfo {
    let security = info.security_options.unwrap_or_default();
    let has = |name: &str| security.iter().any(|option| option.contains(name));
    let v2 = info.cgroup_version.is_some_and(|version| version.to_string() == "2");
    let cdi = info.discovered_devices.into_iter().flatten().filter(|device| device.source.as_deref() == Some("cdi"));
    EngineInfo {
        version: info.server_version.unwrap_or_default(),
        os_type: info.os_type.and_then(|name| name.parse().ok()).unwrap_or(OsType::Unknown),
        architecture: info.architecture.unwrap_or_default(),
        storage_driver: info.driver.unwrap_or_default(),
        cgroup: if v2 { CgroupVersion::V2 } else { CgroupVersion::V1 },
        rootless: has("name=rootless"),
        userns_remap: has("name=userns"),
        operating_system: info.operating_system.unwrap_or_default(),
        data_root: info.docker_root_dir.unwrap_or_default(),
        proxy: (
            info.http_proxy.unwrap_or_default(),
            info.https_proxy.unwrap_or_default(),
            info.no_proxy.unwrap_or_default(),
        ),
        cpus: info.ncpu.unwrap_or_default(),
        memory: info.mem_total.unwrap_or_default(),
        ahead: info.system_time.as_deref().and_then(ahead),
        grants: Grants {
            memory: info.memory_limit.unwrap_or_default(),
            cpus: info.cpu_cfs_quota.unwrap_or_default(),
            cdi: info.cdi_spec_dirs,
            cdi_devices: cdi.filter_map(|device| device.id).collect(),
        },
    }
}

/// How many seconds a time of the engine is ahead of this host's clock.
fn ahead(time: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    Some((time - OffsetDateTime::now_utc()).whole_seconds())
}

/// A container in detail.
pub(super) fn inspected(details: ContainerInspectResponse) -> Inspected {
    let description = serde_json::to_value(&details).unwrap_or_default();
    let state = details.state.unwrap_or_default();
    let host = details.host_config.unwrap_or_default();
    Inspected {
        id: details.id.unwrap_or_default(),
        name: details.name.map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default(),
        // Without a state, nothing says that it ended.
        running: state.running.unwrap_or(true),
        exit_code: state.exit_code.unwrap_or_default(),
        restart_count: details.restart_count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
        image: details.image.unwrap_or_default(),
        labels: details.config.and_then(|config| config.labels).unwrap_or_default().into_iter().collect(),
        started_at: state.started_at.unwrap_or_default(),
        network_mode: host.network_mode.unwrap_or_default(),
        ports: host.port_bindings.unwrap_or_default().iter().flat_map(bindings).collect(),
        description,
    }
}

/// The host's ports that lead to a port of a container.
fn bindings((key, hosts): (&String, &Option<Vec<bollard::models::PortBinding>>)) -> Vec<PortBinding> {
    let Some((port, protocol)) = key.split_once('/') else { return Vec::new() };
    let (Ok(container_port), Ok(protocol)) = (port.parse(), protocol.parse()) else { return Vec::new() };
    let binding = |host: &bollard::models::PortBinding| {
        let address = host.host_ip.as_deref().filter(|address| !address.is_empty()).unwrap_or("0.0.0.0");
        let (host_address, host_port) = (address.parse().ok()?, host.host_port.as_deref()?.parse().ok()?);
        Some(PortBinding { host_address, host_port, container_port, protocol })
    };
    hosts.iter().flatten().filter_map(binding).collect()
}

/// A container as a list of them shows it.
pub(super) fn container_of(summary: ContainerSummary) -> Container {
    let networks = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let assigned = |settings: &bollard::models::EndpointSettings| {
        let ipam = settings.ipam_config.clone().unwrap_or_default();
        let now = [settings.ip_address.clone(), settings.global_ipv6_address.clone()];
        let fixed = [ipam.ipv4_address, ipam.ipv6_address];
        let parse = |text: Option<String>| text.and_then(|text| text.parse().ok());
        now.into_iter().zip(fixed).filter_map(|(now, fixed)| parse(now).or_else(|| parse(fixed))).collect::<Vec<_>>()
    };
    let names = summary.names.unwrap_or_default();
    Container {
        id: summary.id.unwrap_or_default(),
        name: names.first().map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default(),
        image: summary.image.unwrap_or_default(),
        state: summary.state.and_then(|state| state.to_string().parse().ok()).unwrap_or(State::Unknown),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        addresses: networks.values().flat_map(assigned).collect(),
        network_ids: networks.values().filter_map(|settings| settings.network_id.clone()).collect(),
        networks: networks.into_keys().collect(),
        volumes: summary.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.name).collect(),
        ports: summary.ports.unwrap_or_default().into_iter().filter_map(port_of).collect(),
        created: summary.created.unwrap_or_default(),
    }
}

fn port_of(port: bollard::models::PortSummary) -> Option<PortBinding> {
    Some(PortBinding {
        host_address: port.ip?.parse().ok()?,
        host_port: port.public_port?,
        container_port: port.private_port,
        protocol: port.typ.and_then(|name| name.to_string().parse().ok()).unwrap_or(Protocol::Tcp),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_container_still_has_the_ports_that_it_was_made_with() {
        let answer = serde_json::json!({
            "Id": "0123", "Name": "/dev-control-plane",
            "State": {"Running": false, "StartedAt": "2026-11-28T21:11:38.447874525Z"},
            "HostConfig": {"NetworkMode": "coracle-dev", "PortBindings": {
                "6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40000"}], "53/udp": [{"HostIp": "", "HostPort": "53"}], "80/tcp": null,
            }},
        });
        let mut found = inspected(serde_json::from_value(answer).unwrap());
        found.ports.sort_by_key(|port| port.host_port);
        let ports: Vec<_> =
            found.ports.iter().map(|port| (port.host_address.to_string(), port.container_port)).collect();
        assert_eq!(ports, [("0.0.0.0".to_owned(), 53), ("127.0.0.1".to_owned(), 6443)]);
        assert_eq!((found.ports[0].protocol, found.running), (Protocol::Udp, false));
        assert_eq!((found.name.as_str(), found.network_mode.as_str()), ("dev-control-plane", "coracle-dev"));
        assert!(found.started_at.starts_with("2026-11-28T21:11:38"));
    }
}
