//! Translates our specifications into the engine's request bodies. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::auth::DockerCredentials;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum, Ipam,
    IpamConfig, Mount as EngineMount, MountBindOptions, MountBindOptionsPropagationEnum, MountType, MountVolumeOptions,
    NetworkConnectRequest, NetworkCreateRequest, NetworkingConfig, PortBinding as EnginePort, PortMap, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::models::{DeviceMapping, DeviceRequest, HostConfigLogConfig, ResourcesUlimits};

use crate::engine::spec::{
    AddressPool, ContainerSpec, Limit, Login, Mount, NO_NETWORK, NetworkSpec, Privilege, Propagation,
};

/// The option of a network with its largest packet.
pub(super) const MTU: &str = "com.docker.network.driver.mtu";

/// The body of a create-container request.
pub(super) fn container(spec: &ContainerSpec) -> ContainerCreateBody {
    let exposed = spec.ports.iter().map(|port| format!("{}/{}", port.container_port, port.protocol)).collect();
    ContainerCreateBody {
        hostname: Some(spec.hostname.clone()),
        image: Some(spec.image.clone()),
        entrypoint: spec.entrypoint.clone(),
        cmd: spec.command.clone(),
        stop_signal: spec.stop_signal.map(str::to_owned),
        env: Some(spec.environment.clone()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        exposed_ports: Some(exposed),
        // With a terminal, systemd writes its boot messages to where the engine keeps them.
        tty: Some(!spec.attached),
        open_stdin: Some(spec.attached),
        stdin_once: Some(spec.attached),
        attach_stdin: Some(spec.attached),
        attach_stdout: Some(spec.attached),
        host_config: Some(host_config(spec)),
        networking_config: spec
            .network
            .as_ref()
            .filter(|network| *network != NO_NETWORK)
            .map(|network| networking(spec, network)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let mut config = HostConfig {
        network_mode: spec.network.clone(),
        mounts: Some(spec.mounts.iter().map(mount).collect()),
        tmpfs: Some(spec.tmpfs.iter().map(|path| (path.clone(), String::new())).collect()),
        port_bindings: Some(port_map(spec)),
        restart_policy: spec.restart.then(|| restart_policy(spec.ends)),
        // A dot is the root domain: nothing is searched.
        dns_search: spec
            .dns_search
            .clone()
            .map(|domains| if domains.is_empty() { vec![".".to_owned()] } else { domains }),
        extra_hosts: Some(spec.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        sysctls: Some(spec.sysctls.clone().into_iter().collect()),
        ulimits: Some(spec.limits.iter().map(|(name, limit)| ulimit(name, *limit)).collect()),
        // The usual size, whatever the engine's configuration has; pods get their own.
        shm_size: Some(64 << 20),
        cgroupns_mode: spec.private_cgroup_namespace.then_some(HostConfigCgroupnsModeEnum::PRIVATE),
        userns_mode: spec.host_user_namespace.then(|| "host".to_owned()),
        devices: Some(spec.devices.iter().map(|path| device(path)).collect()),
        // A node runs its own init; `"init": true` in the engine's configuration would start another one before it.
        init: Some(false),
        // The node's console must stay readable for `create` whatever log driver the engine prefers.
        log_config: Some(if spec.attached {
            HostConfigLogConfig { typ: Some("none".to_owned()), config: None }
        } else {
            HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([("max-size".to_owned(), "10m".to_owned())])),
            }
        }),
        auto_remove: Some(spec.attached),
        ..HostConfig::default()
    };
    resources(spec, &mut config);
    match spec.privilege {
        Privilege::None => {}
        Privilege::Files => only(&["DAC_READ_SEARCH"], &mut config),
        // The overlay's own attributes need SYS_ADMIN.
        Privilege::Links => only(&["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP", "SYS_ADMIN"], &mut config),
        Privilege::Network => config.cap_add = Some(vec!["NET_ADMIN".to_owned()]),
        Privilege::Privileged => {
            config.privileged = Some(true);
            config.security_opt = Some(unconfined());
        }
        Privilege::AllButSysResource => all_but_sys_resource(&mut config),
    }
    config
}

/// These capabilities and no others, for the engine's own files.
fn only(capabilities: &[&str], config: &mut HostConfig) {
    config.cap_drop = Some(vec!["ALL".to_owned()]);
    config.cap_add = Some(capabilities.iter().map(|name| (*name).to_owned()).collect());
    // SELinux denies containers the engine's own files.
    config.security_opt = Some(vec!["no-new-privileges".to_owned(), "label=disable".to_owned()]);
}

/// Nothing that the engine's configuration (`no-new-privileges`, `seccomp-profile`) restricts reaches pods.
fn unconfined() -> Vec<String> {
    let options = ["seccomp=unconfined", "apparmor=unconfined", "label=disable", "no-new-privileges=false"];
    options.map(str::to_owned).to_vec()
}

fn ulimit(name: &str, limit: Limit) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

/// Limits of memory and processor time. Without swap the limit is what a node has, as its kubelet reports it.
fn resources(spec: &ContainerSpec, config: &mut HostConfig) {
    config.memory = spec.memory.and_then(|bytes| i64::try_from(bytes).ok());
    config.memory_swap = config.memory;
    config.nano_cpus = spec.milli_cpus.and_then(|milli| i64::try_from(milli * 1_000_000).ok());
    config.device_requests = (!spec.cdi_devices.is_empty()).then(|| {
        vec![DeviceRequest {
            driver: Some("cdi".to_owned()),
            device_ids: Some(spec.cdi_devices.clone()),
            ..DeviceRequest::default()
        }]
    });
}

/// What `--privileged` grants, spelled out, without the one capability that some hosts cannot grant.
fn all_but_sys_resource(config: &mut HostConfig) {
    config.cap_add = Some(vec!["ALL".to_owned()]);
    config.cap_drop = Some(vec!["SYS_RESOURCE".to_owned()]);
    config.security_opt = Some(unconfined());
    config.masked_paths = Some(Vec::new());
    config.readonly_paths = Some(Vec::new());
    config.device_cgroup_rules = Some(vec!["a *:* rwm".to_owned()]);
    config.devices.get_or_insert_with(Vec::new).push(device("/dev/kmsg"));
}

fn device(path: &str) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(path.to_owned()),
        path_in_container: Some(path.to_owned()),
        cgroup_permissions: Some("rwm".to_owned()),
    }
}

/// When the engine starts a container again: always, unless someone stopped it, or only after a failure.
fn restart_policy(ends: bool) -> RestartPolicy {
    let name = if ends { RestartPolicyNameEnum::ON_FAILURE } else { RestartPolicyNameEnum::UNLESS_STOPPED };
    RestartPolicy { name: Some(name), maximum_retry_count: None }
}

fn mount(mount: &Mount) -> EngineMount {
    match mount {
        Mount::Volume { name, target, labels } => EngineMount {
            typ: Some(MountType::VOLUME),
            source: Some(name.clone()),
            target: Some(target.clone()),
            volume_options: Some(MountVolumeOptions {
                labels: Some(labels.clone().into_iter().collect()),
                ..MountVolumeOptions::default()
            }),
            ..EngineMount::default()
        },
        Mount::Directory { source, target, read_only } => EngineMount {
            typ: Some(MountType::BIND),
            source: Some(source.clone()),
            target: Some(target.clone()),
            read_only: Some(*read_only),
            bind_options: Some(MountBindOptions { non_recursive: Some(true), ..MountBindOptions::default() }),
            ..EngineMount::default()
        },
        Mount::Bind { source, target, read_only, propagation } => EngineMount {
            typ: Some(MountType::BIND),
            source: Some(source.clone()),
            target: Some(target.clone()),
            read_only: Some(*read_only),
            bind_options: propagation.map(|propagation| MountBindOptions {
                propagation: Some(match propagation {
                    Propagation::Shared => MountBindOptionsPropagationEnum::RSHARED,
                    Propagation::Slave => MountBindOptionsPropagationEnum::RSLAVE,
                }),
                ..MountBindOptions::default()
            }),
            ..EngineMount::default()
        },
    }
}

fn port_map(spec: &ContainerSpec) -> PortMap {
    let mut map = PortMap::new();
    for port in &spec.ports {
        let key = format!("{}/{}", port.container_port, port.protocol);
        map.entry(key).or_default().get_or_insert_with(Vec::new).push(EnginePort {
            host_ip: Some(port.host_address.to_string()),
            host_port: Some(port.host_port.to_string()),
        });
    }
    map
}

/// The reference of one image; without a tag the engine would pull all of a repository.
pub(super) fn one_image(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

/// Credentials, as the engine passes them on to a registry.
pub(super) fn login(login: &Login) -> DockerCredentials {
    DockerCredentials {
        username: Some(login.user.clone()),
        password: Some(login.password.clone()),
        serveraddress: Some(login.server.clone()),
        ..DockerCredentials::default()
    }
}

/// The body of a request that connects a container to a network.
pub(super) fn connection(container: &str, alias: &str, addresses: &[IpAddr]) -> NetworkConnectRequest {
    let of = |v4: bool| addresses.iter().find(|address| address.is_ipv4() == v4).map(ToString::to_string);
    let settings = EndpointSettings {
        aliases: Some(vec![alias.to_owned()]),
        ipam_config: (!addresses.is_empty()).then(|| EndpointIpamConfig {
            ipv4_address: of(true),
            ipv6_address: of(false),
            link_local_ips: None,
        }),
        ..EndpointSettings::default()
    };
    NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(settings) }
}

fn networking(spec: &ContainerSpec, network: &str) -> NetworkingConfig {
    let address = |v4: bool| spec.addresses.iter().find(|address| address.is_ipv4() == v4).map(ToString::to_string);
    let settings = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: address(true),
            ipv6_address: address(false),
            link_local_ips: None,
        }),
        ..EndpointSettings::default()
    };
    NetworkingConfig { endpoints_config: Some(HashMap::from([(network.to_owned(), settings)])) }
}

/// The body of a create-network request.
pub(super) fn network(spec: &NetworkSpec) -> NetworkCreateRequest {
    // Spelled out, because the engine's configuration may have other defaults for new networks.
    let mut options = HashMap::from(
        ["enable_ip_masquerade", "enable_icc"]
            .map(|name| (format!("com.docker.network.bridge.{name}"), "true".to_owned())),
    );
    if let Some(mtu) = spec.mtu {
        options.insert(MTU.to_owned(), mtu.to_string());
    }
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam {
            driver: Some("default".to_owned()),
            config: Some(spec.pools.iter().map(pool).collect()),
            options: None,
        }),
        enable_ipv6: Some(spec.pools.iter().any(|pool| pool.gateway.is_ipv6())),
        options: Some(options),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ..NetworkCreateRequest::default()
    }
}

fn pool(pool: &AddressPool) -> IpamConfig {
    IpamConfig {
        subnet: Some(pool.subnet.to_string()),
        ip_range: Some(pool.dynamic_range.to_string()),
        gateway: Some(pool.gateway.to_string()),
        auxiliary_addresses: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn one_image_is_pulled_and_not_a_whole_repository() {
        for (reference, one) in [
            ("localhost:5001/many", "localhost:5001/many:latest"),
            ("many", "many:latest"),
            ("localhost:5001/many:v1", "localhost:5001/many:v1"),
            ("a/many@sha256:1234", "a/many@sha256:1234"),
        ] {
            assert_eq!(one_image(reference), one);
        }
    }

    #[test]
    fn a_limit_of_memory_leaves_no_swap_and_devices_are_asked_for_by_name() {
        let mut spec = ContainerSpec::new("node", "image");
        assert_eq!(host_config(&spec).device_requests, None);
        spec.memory = Some(2 << 30);
        spec.milli_cpus = Some(1500);
        spec.cdi_devices = vec!["vendor.com/class=all".to_owned()];
        let config = host_config(&spec);
        assert_eq!((config.memory, config.memory_swap), (Some(2 << 30), Some(2 << 30)));
        assert_eq!(config.nano_cpus, Some(1_500_000_000));
        let request = &config.device_requests.unwrap()[0];
        assert_eq!((request.driver.as_deref(), request.device_ids.as_ref()), (Some("cdi"), Some(&spec.cdi_devices)));
    }

    #[test]
    fn what_the_engine_has_as_defaults_does_not_reach_nodes() {
        let mut spec = ContainerSpec::new("node", "image");
        spec.privilege = Privilege::Privileged;
        spec.limits.insert("nofile".to_owned(), 1_048_576.into());
        for privilege in [Privilege::Privileged, Privilege::AllButSysResource] {
            spec.privilege = privilege;
            let config = host_config(&spec);
            assert!(config.security_opt.unwrap().contains(&"no-new-privileges=false".to_owned()));
            assert_eq!(config.ulimits.unwrap()[0].hard, Some(1_048_576));
            assert_eq!((config.shm_size, config.init), (Some(64 << 20), Some(false)));
        }
        let network = NetworkSpec { name: "n".to_owned(), pools: Vec::new(), mtu: Some(1400), labels: BTreeMap::new() };
        let options = self::network(&network).options.unwrap();
        assert_eq!(options.get("com.docker.network.bridge.enable_icc").map(String::as_str), Some("true"));
        assert_eq!(options.get(MTU).map(String::as_str), Some("1400"));
    }
}
