//! What the settings of a node make of its container, its services and its kubelet. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::config::node_syntax::ULIMITS;
use crate::config::{NodeSettings, UNLIMITED, Ulimit, is_cdi};
use crate::engine::spec::Limit;
use crate::plan::files::FileTree;

/// Gives containerd, and with it every pod, the limits of the node's own processes.
const ULIMITS_DROP_IN: &str = "/etc/systemd/system/containerd.service.d/50-ulimits.conf";
/// Passes the node's variables to units, which do not inherit the environment of the container.
const ENVIRONMENT_DROP_IN: &str = "/etc/systemd/system/service.d/20-environment.conf";
/// Memory at which the kubelet evicts pods, before the kernel ends whatever process it chooses: upstream's default.
const EVICTION_MEMORY: &str = "100Mi";

/// The variables of the node's container.
pub(super) fn environment(settings: &NodeSettings) -> Vec<String> {
    settings.env.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The names in the node's `/etc/hosts`.
pub(super) fn extra_hosts(settings: &NodeSettings) -> impl Iterator<Item = (String, IpAddr)> {
    settings.host_aliases.iter().flat_map(|alias| alias.hostnames.iter().map(|name| (name.clone(), alias.ip)))
}

/// The limits of the node's processes: its own over those that all nodes have.
pub(super) fn limits(settings: &NodeSettings, of_all: &BTreeMap<String, i64>) -> BTreeMap<String, Limit> {
    let of_all = of_all.iter().map(|(name, both)| (name.clone(), Limit::from(*both)));
    let own = settings.ulimits.iter();
    of_all.chain(own.map(|(name, Ulimit { soft, hard })| (name.clone(), Limit { soft: *soft, hard: *hard }))).collect()
}

/// The devices of the host with a path: those of all nodes, and the node's own.
pub(super) fn devices(settings: &NodeSettings, of_all: &[String]) -> Vec<String> {
    let own = settings.devices.iter().filter(|device| !is_cdi(device) && !of_all.contains(device));
    of_all.iter().chain(own).cloned().collect()
}

/// The files of the node's services.
pub(super) fn files(files: &mut FileTree, settings: &NodeSettings) {
    if !settings.ulimits.is_empty() {
        files.text(ULIMITS_DROP_IN, ulimits(&settings.ulimits));
    }
    if !settings.env.is_empty() {
        let names: Vec<&str> = settings.env.keys().map(String::as_str).collect();
        files.text(ENVIRONMENT_DROP_IN, format!("[Service]\nPassEnvironment={}\n", names.join(" ")));
    }
}

fn ulimits(limits: &BTreeMap<String, Ulimit>) -> String {
    let spell = |value: i64| if value == UNLIMITED { "infinity".to_owned() } else { value.to_string() };
    let mut text = "[Service]\n".to_owned();
    for (name, word) in ULIMITS {
        if let Some(limit) = limits.get(*name) {
            let _ = writeln!(text, "Limit{word}={}:{}", spell(limit.soft), spell(limit.hard));
        }
    }
    text
}

/// What the kubelet must know about limits of its container. It counts processors in whole numbers, and what is left of the
/// last one is not for pods.
pub(super) fn kubelet(config: &mut Value, settings: &NodeSettings) {
    if settings.memory.is_some() {
        config["evictionHard"]["memory.available"] = json!(EVICTION_MEMORY);
    }
    if let Some(cpus) = settings.cpus.filter(|cpus| cpus.0 != cpus.whole() * 1000) {
        config["systemReserved"] = json!({"cpu": format!("{}m", cpus.whole() * 1000 - cpus.0)});
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cpus, Memory};

    #[test]
    fn a_node_has_its_own_limits_over_those_of_all_nodes() {
        let mut settings = NodeSettings::default();
        settings.ulimits.insert("nofile".to_owned(), Ulimit { soft: 2048, hard: 4096 });
        settings.ulimits.insert("memlock".to_owned(), Ulimit { soft: UNLIMITED, hard: UNLIMITED });
        let of_all = BTreeMap::from([("nofile".to_owned(), 1_048_576), ("nproc".to_owned(), -1)]);
        let limits = limits(&settings, &of_all);
        assert_eq!(limits["nofile"], Limit { soft: 2048, hard: 4096 });
        assert_eq!((limits["nproc"], limits["memlock"]), (Limit::from(-1), Limit::from(-1)));
        let text = ulimits(&settings.ulimits);
        assert_eq!(text, "[Service]\nLimitMEMLOCK=infinity:infinity\nLimitNOFILE=2048:4096\n");
    }

    #[test]
    fn a_part_of_a_processor_is_reserved() {
        let mut settings =
            NodeSettings { cpus: Some(Cpus(1500)), memory: Some(Memory(1 << 31)), ..NodeSettings::default() };
        let mut config = json!({"evictionHard": {"nodefs.available": "0%"}});
        kubelet(&mut config, &settings);
        assert_eq!(config["systemReserved"]["cpu"], "500m");
        assert_eq!(config["evictionHard"], json!({"nodefs.available": "0%", "memory.available": "100Mi"}));
        settings.cpus = Some(Cpus(2000));
        let mut config = json!({});
        kubelet(&mut config, &settings);
        assert_eq!(config.get("systemReserved"), None);
    }
}
