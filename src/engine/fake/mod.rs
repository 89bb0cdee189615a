//! An engine in memory, for tests: it remembers each call, behaves like Docker where that matters, and fails on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::engine::fake::files::{OnConverse, stream};
use crate::engine::fake::state::{Held, Holdings, matches, refused};
use crate::engine::spec::{
    Container, ContainerSpec, EngineInfo, ExecOutput, Image, Inspected, Labels, Login, Mount, Network, NetworkSpec,
    State, Volume,
};
use crate::engine::{ByteStream, Conversation, Engine, Progress};
use crate::error::{Code, Error, Result};

mod files;
mod inside;
mod others;
mod state;

#[cfg(test)]
pub(crate) use state::info;

/// Answers a command: container, command, all of its input.
type OnExec = Box<dyn Fn(&str, &[&str], Vec<u8>) -> ExecOutput + Send + Sync>;
/// Answers a download: container, path; the tar, or `None` if there is no such path.
type OnDownload = Box<dyn Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync>;
/// Answers a save: the references; the tar.
type OnSave = Box<dyn Fn(&[String]) -> Vec<u8> + Send + Sync>;

/// What goes wrong, and at which call (counted from 1).
#[derive(Debug, Clone, Copy)]
enum Trouble {
    None,
    /// The call does nothing and fails.
    Fails(usize),
    /// The call does its work, and the caller gets an error.
    AnswerLost(usize),
}

/// The engine in memory.
pub(crate) struct FakeEngine {
    state: Mutex<Holdings>,
    trouble: Trouble,
    on_exec: OnExec,
    on_converse: OnConverse,
    on_download: Option<OnDownload>,
    on_save: OnSave,
    taken_ports: Vec<u16>,
}

impl FakeEngine {
    /// An engine that has these images and nothing else.
    pub(crate) fn new(images: &[&str]) -> Self {
        let image = |name: &&str| Image {
            id: format!("sha256:{:064x}", name.len()),
            labels: Labels::new(),
            layers: Vec::new(),
            tags: vec![(*name).to_owned()],
            environment: Vec::new(),
            size: 1000,
            ..Image::default()
        };
        let state = Holdings { images: images.iter().map(image).collect(), ..Holdings::default() };
        Self {
            state: Mutex::new(state),
            trouble: Trouble::None,
            on_exec: Box::new(|_, _, _| ExecOutput::default()),
            on_converse: files::nobody(),
            on_download: None,
            on_save: Box::new(|_| Vec::new()),
            taken_ports: Vec::new(),
        }
    }

    /// The `n`-th call (from 1) fails without doing anything.
    pub(crate) fn failing_at(mut self, n: usize) -> Self {
        self.trouble = Trouble::Fails(n);
        self
    }

    /// The `n`-th call (from 1) does its work, but the caller gets an error.
    pub(crate) fn losing_answer_at(mut self, n: usize) -> Self {
        self.trouble = Trouble::AnswerLost(n);
        self
    }

    /// A port of the host that another program uses.
    pub(crate) fn with_taken_port(mut self, port: u16) -> Self {
        self.taken_ports.push(port);
        self
    }

    /// Answers commands; without it each succeeds without output.
    pub(crate) fn on_exec(
        mut self,
        answer: impl Fn(&str, &[&str], Vec<u8>) -> ExecOutput + Send + Sync + 'static,
    ) -> Self {
        self.on_exec = Box::new(answer);
        self
    }

    /// Answers interactive commands, each on a thread of its own; without it each ends at once.
    pub(crate) fn on_converse(
        mut self,
        answer: impl Fn(&str, &[String], &mut dyn BufRead, &mut dyn Write) + Send + Sync + 'static,
    ) -> Self {
        self.on_converse = Arc::new(answer);
        self
    }

    /// Answers downloads; where it has no answer, a download returns what was uploaded.
    pub(crate) fn on_download(
        mut self,
        answer: impl Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        self.on_download = Some(Box::new(answer));
        self
    }

    /// Answers `save_images`.
    pub(crate) fn on_save(mut self, answer: impl Fn(&[String]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.on_save = Box::new(answer);
        self
    }

    /// All calls so far, in order: `create_network name`, `start_container name`, …
    pub(crate) fn transcript(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Everything that exists: `container NAME`, `network NAME`, `volume NAME`.
    pub(crate) fn left(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let containers = state.containers.iter().map(|held| format!("container {}", held.spec.name));
        let networks = state.networks.iter().map(|network| format!("network {}", network.name));
        let volumes = state.volumes.iter().map(|volume| format!("volume {}", volume.name));
        containers.chain(networks).chain(volumes).collect()
    }

    /// What was uploaded into a container, by path.
    pub(crate) fn files(&self, container: &str) -> BTreeMap<String, Vec<u8>> {
        self.state.lock().unwrap().find(container).map(|held| held.files.clone()).unwrap_or_default()
    }

    /// Notes a call, and does its work unless this is the one that fails.
    fn call<T>(&self, what: String, work: impl FnOnce(&mut Holdings) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(what);
        let number = state.calls.len();
        let failure = |said: &str| Error::new(Code::EngineFailed, format!("call {number} {said}"));
        match self.trouble {
            Trouble::Fails(n) if n == number => Err(failure("failed, as the test wants")),
            Trouble::AnswerLost(n) if n == number => {
                work(&mut state)?;
                Err(failure("lost its answer, as the test wants"))
            }
            _ => work(&mut state),
        }
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn info(&self) -> Result<EngineInfo> {
        self.call("info".to_owned(), |_| Ok(state::info()))
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let latest = format!("{reference}:latest");
        self.call(format!("image {reference}"), |state| {
            let named = |image: &&Image| {
                image.id == reference || image.tags.iter().any(|tag| tag == reference || *tag == latest)
            };
            Ok(state.images.iter().find(named).cloned())
        })
    }

    async fn images(&self) -> Result<Vec<Image>> {
        self.call("images".to_owned(), |state| Ok(state.images.clone()))
    }

    async fn pull_image(&self, reference: &str, login: Option<&Login>, _progress: Progress<'_>) -> Result<()> {
        let by = login.map(|login| format!(" as {}", login.user)).unwrap_or_default();
        self.call(format!("pull_image {reference}{by}"), |_| {
            Err(Error::new(Code::EngineFailed, format!("cannot pull image `{reference}`"))
                .because("there is no registry"))
        })
    }

    async fn load_images(&self, tar: ByteStream) -> Result<()> {
        let chunks: Vec<Bytes> =
            tar.try_collect().await.map_err(|source| refused("cannot read the tar").with_cause(&source))?;
        let tar = chunks.concat();
        let tags = crate::engine::fake::files::tags_of_archive(&tar)
            .ok_or_else(|| refused("the archive has no manifest.json"))?;
        self.call(format!("load_images {}", tags.join(" ")), |state| {
            let id = format!("sha256:{}", state.id());
            let size = tar.len() as u64;
            state.images.push(Image {
                id,
                labels: Labels::new(),
                layers: Vec::new(),
                tags,
                environment: Vec::new(),
                size,
                ..Image::default()
            });
            Ok(())
        })
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.call(format!("remove_image {reference}"), |state| {
            state.images.retain(|image| image.id != reference && !image.tags.iter().any(|tag| tag == reference));
            Ok(())
        })
    }

    async fn save_images(&self, references: &[String]) -> Result<ByteStream> {
        self.call(format!("save_images {}", references.join(" ")), |_| Ok(stream(&(self.on_save)(references))))
    }

    async fn networks(&self) -> Result<Vec<Network>> {
        self.call("networks".to_owned(), |state| Ok(state.networks.clone()))
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        self.call(format!("create_network {}", spec.name), |state| {
            let wanted = spec.subnets();
            let overlaps = |net: &ipnet::IpNet| wanted.iter().any(|other| net.contains(other) || other.contains(net));
            if state.networks.iter().flat_map(|network| &network.subnets).any(overlaps) {
                return Err(Error::new(Code::SubnetClash, format!("cannot create network `{}`", spec.name))
                    .because("Pool overlaps with other one on this address space"));
            }
            let id = state.id();
            let (name, labels) = (spec.name.clone(), spec.labels.clone());
            state.made.push(format!("network {name}"));
            state.networks.push(Network { id: id.clone(), name, subnets: wanted, mtu: spec.mtu, labels });
            Ok(id)
        })
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        self.call(format!("remove_network {id}"), |state| {
            let Some(network) = state.network(id).cloned() else { return Ok(()) };
            let uses = |held: &Held| {
                held.connected.contains(&network.name)
                    || held.spec.network.as_ref().is_some_and(|name| *name == network.id || *name == network.name)
            };
            if state.containers.iter().any(|held| held.state == State::Running && uses(held)) {
                return Err(refused(format!("network {} has active endpoints", network.name)));
            }
            state.networks.retain(|other| other.id != network.id);
            Ok(())
        })
    }

    async fn connect_network(&self, network: &str, container: &str, _: &str, _: &[IpAddr]) -> Result<()> {
        self.call(format!("connect_network {network} {container}"), |state| {
            let name = state.network(network).map(|network| network.name.clone());
            let name = name.ok_or_else(|| refused(format!("network {network} not found")))?;
            let held = state.get_mut(container)?;
            held.connected.insert(name);
            Ok(())
        })
    }

    async fn disconnect_network(&self, network: &str, container: &str) -> Result<()> {
        self.call(format!("disconnect_network {network} {container}"), |state| {
            let Some(name) = state.network(network).map(|network| network.name.clone()) else { return Ok(()) };
            state.get_mut(container)?.connected.remove(&name);
            Ok(())
        })
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String> {
        self.call(format!("create_container {}", spec.name), |state| state.create_container(spec))
    }

    async fn upload(&self, container: &str, tar: Bytes) -> Result<()> {
        self.call(format!("upload {container}"), |state| {
            let files = files::unpack(&tar)?;
            state.get_mut(container)?.files.extend(files);
            Ok(())
        })
    }

    async fn download(&self, container: &str, path: &str) -> Result<Option<ByteStream>> {
        self.call(format!("download {container} {path}"), |state| {
            let files = &state.get_mut(container)?.files;
            let answer = self.on_download.as_ref().and_then(|answer| answer(container, path));
            let found = answer.or_else(|| files::pack(files, path));
            Ok(found.as_deref().map(stream))
        })
    }

    async fn start_container(&self, container: &str) -> Result<()> {
        self.call(format!("start_container {container}"), |state| state.start(container, &self.taken_ports))
    }

    async fn stop_container(&self, container: &str, _seconds: i32) -> Result<()> {
        self.call(format!("stop_container {container}"), |state| {
            state.set(container, &[State::Running, State::Paused], State::Exited);
            Ok(())
        })
    }

    async fn pause_container(&self, container: &str) -> Result<()> {
        self.call(format!("pause_container {container}"), |state| {
            state.set(container, &[State::Running], State::Paused);
            Ok(())
        })
    }

    async fn unpause_container(&self, container: &str) -> Result<()> {
        self.call(format!("unpause_container {container}"), |state| {
            state.set(container, &[State::Paused], State::Running);
            Ok(())
        })
    }

    async fn remove_container(&self, container: &str) -> Result<()> {
        self.call(format!("remove_container {container}"), |state| {
            state.remove_container(container);
            Ok(())
        })
    }

    async fn containers(&self, labels: &[String]) -> Result<Vec<Container>> {
        self.call(format!("containers {}", labels.join(" ")), |state| {
            let found = state.containers.iter().filter(|held| matches(&held.spec.labels, labels));
            Ok(found.map(|held| held.container(&state.networks)).collect())
        })
    }

    async fn volumes(&self, labels: &[String]) -> Result<Vec<Volume>> {
        self.call(format!("volumes {}", labels.join(" ")), |state| {
            Ok(state.volumes.iter().filter(|volume| matches(&volume.labels, labels)).cloned().collect())
        })
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.call(format!("remove_volume {name}"), |state| {
            let uses = |mount: &Mount| matches!(mount, Mount::Volume { name: used, .. } if used == name);
            if state.containers.iter().any(|held| held.spec.mounts.iter().any(uses)) {
                return Err(refused(format!("remove {name}: volume is in use")));
            }
            state.volumes.retain(|volume| volume.name != name);
            Ok(())
        })
    }

    async fn exec(&self, container: &str, command: &[&str], input: Option<ByteStream>) -> Result<ExecOutput> {
        self.call(format!("exec {container} {}", command.join(" ")), |state| state.running(container))?;
        let mut given = Vec::new();
        if let Some(mut input) = input {
            while let Some(chunk) =
                input.try_next().await.map_err(|source| refused("the input broke off").with_cause(&source))?
            {
                given.extend_from_slice(&chunk);
            }
        }
        Ok((self.on_exec)(container, command, given))
    }

    async fn converse(&self, container: &str, command: &[&str]) -> Result<Conversation> {
        self.call(format!("converse {container} {}", command.join(" ")), |state| state.running(container))?;
        Ok(files::conversation(container, command, &self.on_converse))
    }

    async fn attach(&self, container: &str) -> Result<Conversation> {
        let command = self.call(format!("attach {container}"), |state| {
            state.get_mut(container).map(|held| held.spec.command.clone().unwrap_or_default())
        })?;
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        Ok(files::conversation(container, &command, &self.on_converse))
    }

    async fn logs(&self, container: &str, _tail: Option<u32>) -> Result<Vec<u8>> {
        self.call(format!("logs {container}"), |state| {
            state.get_mut(container).map(|held| held.id.clone().into_bytes())
        })
    }

    async fn inspect(&self, container: &str) -> Result<Option<Inspected>> {
        self.call(format!("inspect {container}"), |state| Ok(state.find(container).map(Held::inspected)))
    }
    async fn last_exit(&self, container: &str) -> Result<Option<i64>> {
        self.call(format!("last_exit {container}"), |state| {
            Ok(state.find(container).and_then(|held| held.ends.last().copied()))
        })
    }
}
