//! Command lines of `minikube start`, for `config convert`. What minikube does otherwise than a cluster in containers is left
//! out with a note: the result is for people to look at.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::assembled::{PROXIES, insert, push};
use super::{API_VERSION, KIND};

/// Options that say how the command works, and not what the cluster is; and what a cluster of coracle has anyway.
const VALUES_WITHOUT_EFFECT: &[&str] =
    &["driver", "network-plugin", "output", "v", "vm-driver", "wait", "wait-timeout"];
/// The same without a value.
const SWITCHES_WITHOUT_EFFECT: &[&str] = &[
    "alsologtostderr",
    "auto-update-drivers",
    "cache-images",
    "delete-on-failure",
    "download-only",
    "dry-run",
    "embed-certs",
    "enable-default-cni",
    "force",
    "force-systemd",
    "install-addons",
    "interactive",
    "keep-context",
    "logtostderr",
    "mount",
    "native-ssh",
    "preload",
];
/// Other options that need no value.
const SWITCHES: &[&str] = &[
    "disable-driver-mounts",
    "disable-metrics",
    "disable-optimizations",
    "ha",
    "no-kubernetes",
    "no-vtx-check",
    "rootless",
];
/// Options with one letter.
const SHORT: &[(&str, &str)] = &[("p", "profile"), ("n", "nodes"), ("o", "output")];
/// Add-ons of minikube that coracle has, too.
const ADDONS: &[&str] = &["ingress", "metrics-server"];
/// Add-ons of minikube whose work every cluster of coracle does.
const BUILT_IN: &[&str] = &["default-storageclass", "metallb", "storage-provisioner", "storage-provisioner-rancher"];
/// Components in `--extra-config`, and the fields that have their flags.
const COMPONENTS: &[(&str, &str)] = &[
    ("apiserver", "apiServer"),
    ("controller-manager", "controllerManager"),
    ("scheduler", "scheduler"),
    ("etcd", "etcd"),
];

/// A command line as a configuration of ours.
#[derive(Default)]
pub(super) struct Translated {
    pub(super) document: Map<String, Json>,
    /// What was left out.
    pub(super) notes: Vec<String>,
    nodes: usize,
    planes: usize,
    /// What every node has.
    of_nodes: Map<String, Json>,
    /// What the first node has.
    of_first: Map<String, Json>,
    networking: Map<String, Json>,
    registries: BTreeMap<String, Json>,
}

/// Translates the words of a command line, `minikube start --nodes 3 …`. Fails if it is no such command.
pub(super) fn translate(words: &[String]) -> Result<Translated, String> {
    let mut words = words.iter().map(String::as_str).peekable();
    let program = words.next().unwrap_or_default();
    if program.rsplit(['/', '\\']).next().is_none_or(|name| name.trim_end_matches(".exe") != "minikube") {
        return Err(format!("`{program}` is not minikube"));
    }
    let mut all = Translated { nodes: 1, planes: 1, ..Translated::default() };
    let mut starts = false;
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix('-') else {
            if word != "start" {
                return Err(format!("only `minikube start` is converted, not `minikube {word}`"));
            }
            starts = true;
            continue;
        };
        let option = option.strip_prefix('-').unwrap_or(option);
        let (name, given) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let name = SHORT.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| *long);
        let value = match given {
            Some(value) => value,
            None if SWITCHES_WITHOUT_EFFECT.contains(&name) || SWITCHES.contains(&name) => "true",
            None => words.next_if(|next| !next.starts_with('-')).ok_or(format!("`{word}` has no value"))?,
        };
        all.option(name, value.trim_matches(['\'', '"']));
    }
    if !starts {
        return Err("only `minikube start` is converted".to_owned());
    }
    all.finish();
    Ok(all)
}

impl Translated {
    fn left_out(&mut self, name: &str, reason: &str) {
        self.notes.push(format!("`--{name}` is left out: {reason}"));
    }

    fn network(&mut self, name: &str, value: Json) {
        self.networking.insert(name.to_owned(), value);
    }

    fn option(&mut self, name: &str, value: &str) {
        match (name, value) {
            // What coracle does anyway.
            ("kubernetes-version", "stable" | "latest")
            | ("memory" | "cpus", "max" | "no-limit")
            | ("container-runtime", "containerd" | "") => {}
            ("profile", _) => drop(self.document.insert("name".to_owned(), json!(value))),
            ("nodes", _) => match value.parse() {
                Ok(count) => self.nodes = count,
                Err(_) => self.left_out(name, "it is not a number"),
            },
            ("ha", _) => self.planes = if value == "false" { 1 } else { 3 },
            ("kubernetes-version", _) => {
                let image = format!("coracle/node:v{}", value.trim_start_matches('v'));
                self.document.insert("image".to_owned(), json!(image));
            }
            ("memory", _) => drop(self.of_nodes.insert("memory".to_owned(), json!(quantity(value)))),
            ("cpus", _) => drop(
                self.of_nodes
                    .insert("cpus".to_owned(), value.parse::<u32>().map_or(json!(value), |number| json!(number))),
            ),
            ("feature-gates", _) => self.gates(name, value),
            ("addons", _) => value.split(',').for_each(|addon| self.addon(addon)),
            ("ports", _) => value.split(',').for_each(|port| self.port(name, port)),
            ("mount-string", _) => self.mount(name, value),
            ("extra-config", _) => self.flag(name, value),
            ("docker-env", _) => {
                let (key, value) = value.split_once('=').unwrap_or((value, ""));
                if PROXIES.contains(&key.to_uppercase().as_str()) {
                    self.left_out(name, "nodes get the proxy settings of the environment of `create cluster`");
                } else {
                    insert(&mut self.of_nodes, "env", key, json!(value));
                }
            }
            ("container-runtime", _) => {
                self.left_out(name, "the nodes use containerd, which runs Docker images unchanged");
            }
            _ => self.option_of_network(name, value),
        }
    }

    fn option_of_network(&mut self, name: &str, value: &str) {
        match (name, value) {
            ("cni", "" | "auto" | "bridge" | "kindnet" | "true") | ("dns-domain", "cluster.local") => {}
            ("cni", _) => {
                self.network("disableDefaultCNI", json!(true));
                if value != "false" {
                    self.left_out(name, &format!("install {value} in the new cluster, or name its `manifests` here"));
                }
            }
            ("service-cluster-ip-range", _) => self.network("serviceSubnet", json!(value)),
            ("subnet", _) => {
                let subnet = if value.contains('/') { value.to_owned() } else { format!("{value}/24") };
                self.network("nodeSubnet", json!(subnet));
            }
            ("listen-address", _) => self.network("apiServerAddress", json!(value)),
            ("apiserver-name" | "apiserver-names" | "apiserver-ips", _) => {
                value.split(',').for_each(|item| push(&mut self.networking, "apiServerCertSANs", json!(item)));
            }
            ("apiserver-port", _) => {
                self.left_out(
                    name,
                    "it is the port inside the node; `networking.apiServerPort` is the port on this host",
                );
            }
            ("insecure-registry", _) => value.split(',').for_each(|host| self.insecure(name, host)),
            ("registry-mirror", _) => {
                let mirrors: Vec<&str> = value.split(',').collect();
                self.registries.insert("docker.io".to_owned(), json!({"host": "docker.io", "mirrors": mirrors}));
            }
            (name, _) if VALUES_WITHOUT_EFFECT.contains(&name) || SWITCHES_WITHOUT_EFFECT.contains(&name) => {}
            ("disk-size", _) => self.left_out(name, "nodes use the engine's disk"),
            ("static-ip", _) => {
                self.left_out(name, "nodes keep the addresses that they get, from `networking.nodeSubnet`");
            }
            _ => self.left_out(name, "coracle has nothing like it"),
        }
    }

    fn gates(&mut self, name: &str, value: &str) {
        for gate in value.split(',').filter(|gate| !gate.is_empty()) {
            match gate.split_once('=').map(|(gate, on)| (gate, on.parse::<bool>())) {
                Some((gate, Ok(on))) => insert(&mut self.document, "featureGates", gate, json!(on)),
                _ => self.left_out(name, &format!("`{gate}` is not `GATE=true` or `GATE=false`")),
            }
        }
    }

    fn addon(&mut self, addon: &str) {
        match addon {
            _ if ADDONS.contains(&addon) => push(&mut self.document, "addons", json!(addon)),
            "registry" => drop(self.document.insert("registry".to_owned(), json!(true))),
            _ if BUILT_IN.contains(&addon) => {}
            _ => self.left_out("addons", &format!("coracle has no `{addon}`; name its `manifests` in the file")),
        }
    }

    /// `8080:30080`, `127.0.0.1:8080:30080/udp`, or the port of the node alone.
    fn port(&mut self, name: &str, text: &str) {
        let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let mut from_last = ports.rsplitn(3, ':');
        let (node, host, address) = (from_last.next().unwrap_or_default(), from_last.next(), from_last.next());
        let (Ok(node), Ok(host)) = (node.parse::<u16>(), host.map_or(Ok(0), str::parse::<u16>)) else {
            return self.left_out(name, &format!("`{text}` is not `HOST:NODE` with two numbers"));
        };
        // minikube's ports are Docker's, which listen on all addresses.
        let mut mapping =
            json!({"containerPort": node, "hostPort": host, "listenAddress": address.unwrap_or("0.0.0.0")});
        if protocol != "tcp" {
            mapping["protocol"] = json!(protocol.to_uppercase());
        }
        push(&mut self.of_first, "extraPortMappings", mapping);
    }

    fn mount(&mut self, name: &str, text: &str) {
        // A path of Windows has a colon of its own.
        let Some((host, node)) = text.rsplit_once(':').filter(|(host, node)| !host.is_empty() && node.starts_with('/'))
        else {
            return self.left_out(name, "it is not `HOST:NODE`");
        };
        push(&mut self.of_nodes, "extraMounts", json!({"hostPath": host, "containerPath": node}));
    }

    /// `COMPONENT.FLAG=VALUE`.
    fn flag(&mut self, name: &str, text: &str) {
        let parts = text.split_once('.').and_then(|(component, rest)| Some((component, rest.split_once('=')?)));
        let Some((component, (flag, value))) = parts else {
            return self.left_out(name, &format!("`{text}` is not `COMPONENT.FLAG=VALUE`"));
        };
        match (component, flag) {
            ("kubeadm", "pod-network-cidr") => self.network("podSubnet", json!(value)),
            ("kubelet", _) => insert(&mut self.of_nodes, "kubeletFlags", flag, json!(value)),
            ("kube-proxy" | "proxy", "mode") => self.network("kubeProxyMode", json!(value)),
            _ => match COMPONENTS.iter().find(|(known, _)| *known == component) {
                Some((_, field)) => insert(&mut self.document, field, flag, json!(value)),
                None => self.left_out(name, &format!("coracle has nothing like `{component}.{flag}`")),
            },
        }
    }

    fn insecure(&mut self, name: &str, host: &str) {
        if host.contains('/') {
            return self.left_out(name, &format!("`{host}` is a range of addresses; name each registry"));
        }
        self.registries.insert(host.to_owned(), json!({"host": host, "mirrors": [format!("http://{host}")]}));
    }

    /// Puts everything together, in the order of our files.
    fn finish(&mut self) {
        let others = std::mem::take(&mut self.document);
        let mut set = |name: &str, value: Json| drop(self.document.insert(name.to_owned(), value));
        set("apiVersion", json!(API_VERSION));
        set("kind", json!(KIND));
        let first = ["name", "image"];
        for name in first {
            if let Some(value) = others.get(name) {
                set(name, value.clone());
            }
        }
        let count = self.nodes.max(self.planes).min(super::MAX_CONTROL_PLANES + super::MAX_WORKERS);
        let node = |index: usize| {
            let mut node = Map::new();
            node.insert("role".to_owned(), json!(if index < self.planes { "control-plane" } else { "worker" }));
            node.extend(self.of_nodes.clone());
            node.extend(self.of_first.clone().into_iter().filter(|_| index == 0));
            Json::Object(node)
        };
        set("nodes", (0..count).map(node).collect());
        if !self.networking.is_empty() {
            set("networking", Json::Object(std::mem::take(&mut self.networking)));
        }
        if !self.registries.is_empty() {
            set("registries", std::mem::take(&mut self.registries).into_values().collect());
        }
        self.document.extend(others.into_iter().filter(|(name, _)| !first.contains(&name.as_str())));
    }
}

/// An amount of memory: without a unit it is in MiB, and Docker's units are powers of two.
fn quantity(text: &str) -> String {
    let lower = text.to_lowercase();
    let lower = lower.trim_end_matches('b').trim_end_matches('i');
    let unit = ['k', 'm', 'g', 't'].into_iter().find_map(|unit| Some((lower.strip_suffix(unit)?, unit)));
    match unit {
        Some((number, 'k')) => format!("{number}Ki"),
        Some((number, unit)) => format!("{number}{}i", unit.to_uppercase()),
        None => format!("{lower}Mi"),
    }
}

#[cfg(test)]
#[path = "minikube_tests.rs"]
mod tests;
