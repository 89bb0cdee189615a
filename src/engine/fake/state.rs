//! The contents of the fake engine, and the rules that it follows.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::spec::{
    CgroupVersion, Container, ContainerSpec, EngineInfo, Grants, Image, Inspected, Labels, Mount, NO_NETWORK, Network,
    OsType, State, Volume,
};
use crate::error::{Code, Error, Reason, Result};

/// What the engine has.
#[derive(Default)]
pub(crate) struct Holdings {
    pub(crate) calls: Vec<String>,
    /// Everything that was ever made.
    pub(crate) made: Vec<String>,
    pub(crate) next_id: u32,
    pub(crate) images: Vec<Image>,
    pub(crate) networks: Vec<Network>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) containers: Vec<Held>,
}

/// A container and what was done to it.
pub(crate) struct Held {
    pub(crate) spec: ContainerSpec,
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Exit codes of its ends after which it was started again.
    pub(crate) ends: Vec<i64>,
    /// Networks that it was connected to after it was created.
    pub(crate) connected: BTreeSet<String>,
}

/// What the engine says of itself.
pub(crate) fn info() -> EngineInfo {
    EngineInfo {
        version: "20.10.24".to_owned(),
        os_type: OsType::Linux,
        architecture: "x86_64".to_owned(),
        storage_driver: "overlay2".to_owned(),
        cgroup: CgroupVersion::V2,
        rootless: false,
        userns_remap: false,
        operating_system: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        data_root: "/var/lib/docker".to_owned(),
        proxy: (String::new(), String::new(), String::new()),
        cpus: 2,
        memory: 8 << 30,
        ahead: Some(0),
        grants: Grants { memory: true, cpus: true, ..Grants::default() },
    }
}

/// An error of the engine.
pub(crate) fn refused(what: impl Into<String>) -> Error {
    Error::new(Code::EngineFailed, what)
}

/// Whether the labels match every filter: `key` or `key=value`.
pub(crate) fn matches(labels: &Labels, wanted: &[String]) -> bool {
    wanted.iter().all(|wanted| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    })
}

impl Holdings {
    pub(crate) fn id(&mut self) -> String {
        self.next_id += 1;
        format!("{:064x}", self.next_id)
    }

    pub(crate) fn find(&self, container: &str) -> Option<&Held> {
        self.containers.iter().find(|held| held.spec.name == container || held.id == container)
    }

    pub(crate) fn get_mut(&mut self, container: &str) -> Result<&mut Held> {
        let found = self.containers.iter_mut().find(|held| held.spec.name == container || held.id == container);
        found.ok_or_else(|| refused(format!("no such container: {container}")))
    }

    pub(crate) fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.id == name || network.name == name)
    }

    pub(crate) fn create_container(&mut self, spec: &ContainerSpec) -> Result<String> {
        if self.find(&spec.name).is_some() {
            return Err(refused(format!("cannot create container `{}`", spec.name)).with_reason(Reason::NameTaken));
        }
        if !self.images.iter().any(|image| image.id == spec.image || image.tags.contains(&spec.image)) {
            return Err(Error::new(Code::ImageMissing, format!("no such image: {}", spec.image)));
        }
        if let Some(network) = spec.network.as_ref().filter(|network| *network != NO_NETWORK) {
            let id = self.network(network).map(|network| network.id.clone());
            let id = id.ok_or_else(|| refused(format!("network {network} not found")))?;
            let same = |held: &&Held| {
                held.spec.network.as_ref().and_then(|name| self.network(name)).is_some_and(|n| n.id == id)
            };
            let taken = self.containers.iter().filter(same).flat_map(|held| &held.spec.addresses);
            if taken.clone().any(|address| spec.addresses.contains(address)) {
                return Err(refused("Address already in use"));
            }
        }
        for mount in &spec.mounts {
            let (name, labels) = match mount {
                Mount::Volume { name, labels, .. } => (name.clone(), labels.clone()),
                Mount::Bind { .. } | Mount::Directory { .. } => continue,
            };
            if !self.volumes.iter().any(|volume| volume.name == name) {
                self.made.push(format!("volume {name}"));
                self.volumes.push(Volume { name, labels });
            }
        }
        let id = self.id();
        let (files, connected) = (BTreeMap::new(), BTreeSet::new());
        let (state, ends) = (State::Created, Vec::new());
        let held = Held { spec: spec.clone(), id: id.clone(), state, files, ends, connected };
        self.containers.push(held);
        self.made.push(format!("container {}", spec.name));
        Ok(id)
    }

    pub(crate) fn start(&mut self, container: &str, taken: &[u16]) -> Result<()> {
        let wanted: Vec<u16> = self.get_mut(container)?.spec.ports.iter().map(|port| port.host_port).collect();
        let running = self.containers.iter().filter(|held| held.state == State::Running && held.spec.name != container);
        let used = running.flat_map(|held| &held.spec.ports).map(|port| port.host_port);
        if let Some(port) = used.chain(taken.iter().copied()).find(|port| wanted.contains(port)) {
            return Err(Error::new(Code::PortTaken, format!("port {port} is already allocated")));
        }
        self.get_mut(container)?.state = State::Running;
        Ok(())
    }

    /// A container in one of these states has another one from now on; one that does not exist has none.
    pub(crate) fn set(&mut self, container: &str, from: &[State], to: State) {
        if let Ok(held) = self.get_mut(container)
            && from.contains(&held.state)
        {
            held.state = to;
        }
    }

    pub(crate) fn remove_container(&mut self, container: &str) {
        self.containers.retain(|held| held.spec.name != container && held.id != container);
    }

    pub(crate) fn running(&self, container: &str) -> Result<()> {
        match self.find(container) {
            None => Err(refused(format!("no such container: {container}"))),
            Some(held) if held.state != State::Running => {
                Err(refused(format!("container {container} is not running")).with_reason(Reason::NotRunning))
            }
            Some(_) => Ok(()),
        }
    }
}

impl Held {
    pub(crate) fn container(&self, networks: &[Network]) -> Container {
        let names: Vec<String> = self.spec.network.iter().chain(&self.connected).cloned().collect();
        let connected = networks.iter().filter(|network| names.contains(&network.name) || names.contains(&network.id));
        Container {
            id: self.id.clone(),
            name: self.spec.name.clone(),
            image: self.spec.image.clone(),
            state: self.state,
            labels: self.spec.labels.clone(),
            addresses: self.spec.addresses.clone(),
            network_ids: connected.map(|network| network.id.clone()).collect(),
            volumes: Vec::new(),
            networks: names,
            ports: if self.state == State::Running { self.spec.ports.clone() } else { Vec::new() },
            created: 1_800_000_000,
        }
    }

    pub(crate) fn inspected(&self) -> Inspected {
        let running = self.state == State::Running;
        let mounts = self.spec.mounts.iter().filter_map(|mount| match mount {
            Mount::Volume { name, target, .. } => Some(serde_json::json!({
                "Type": "volume", "Driver": "local", "Destination": target, "Source": format!("/volumes/{name}/_data"),
            })),
            Mount::Bind { .. } | Mount::Directory { .. } => None,
        });
        let description = serde_json::json!({
            "Id": self.id,
            "Name": format!("/{}", self.spec.name),
            "Image": self.spec.image,
            "State": {"Status": self.state, "Running": running, "ExitCode": 0},
            "Mounts": mounts.collect::<Vec<_>>(),
            "Config": {"Env": self.spec.environment, "Labels": self.spec.labels, "Image": self.spec.image},
        });
        Inspected {
            id: self.id.clone(),
            name: self.spec.name.clone(),
            started_at: String::new(),
            network_mode: self.spec.network.clone().unwrap_or_default(),
            ports: self.spec.ports.clone(),
            running,
            exit_code: 0,
            restart_count: self.ends.len() as u64,
            image: self.spec.image.clone(),
            labels: self.spec.labels.clone(),
            description,
        }
    }
}
