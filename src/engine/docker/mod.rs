//! The Docker engine, over its HTTP API. Only this directory uses bollard.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use bollard::body_full;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::NetworkDisconnectRequest;
use bollard::query_parameters as query;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::{Instant, sleep};

use crate::engine::address::Address;
use crate::engine::docker::answer::{container_of, inspected, pieces};
use crate::engine::docker::failure::{absent_is_fine, absent_is_none, failed};
use crate::engine::spec::{
    Container, ContainerSpec, EngineInfo, ExecOutput, Image, Inspected, Login, Network, NetworkSpec, Volume,
};
use crate::engine::{ByteStream, Conversation, Engine, Inside, Progress};
use crate::error::{Code, Error, Result};

mod answer;
mod connect;
mod events;
mod failure;
pub(in crate::engine) mod guarded;
mod inside;
mod raw;
mod republish;
mod translate;

/// How long an ordinary request may take, seconds.
const REQUEST_TIMEOUT: u64 = 120;
/// How long a transfer of images or archives may take.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a container may be on its way out because of another command, and the pause between two looks.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(60);
const REMOVAL_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes of a command's output that are read at once. Image layers are read this way.
const OUTPUT_BUFFER: usize = 256 << 10;

/// Where a host has the modules of its kernel, and what the engine says if it has none.
const MODULES: &str = "/lib/modules";
const NO_MODULES: &str = "bind source path does not exist: /lib/modules";

/// A connection to a Docker engine.
pub(super) struct Docker {
    client: bollard::Docker,
    transfer: bollard::Docker,
    address: Address,
}

impl Docker {
    /// Connects and checks that the engine answers.
    pub(super) async fn connect(address: &Address) -> Result<Self> {
        let client = connect::connect(address).await?;
        let transfer = client.clone().with_timeout(TRANSFER_TIMEOUT);
        Ok(Self { client, transfer, address: address.clone() })
    }

    /// Whether the engine answers at all.
    async fn answers(&self) -> bool {
        self.client.ping().await.is_ok()
    }

    /// Starts a command in a container.
    async fn begin(
        &self,
        container: &str,
        command: &[&str],
        stdin: bool,
        what: &str,
    ) -> Result<(String, Conversation)> {
        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            attach_stdin: Some(stdin),
            ..CreateExecOptions::default()
        };
        let exec = self.client.create_exec(container, options).await.map_err(|source| failed(what, &source))?;
        let options = StartExecOptions { output_capacity: Some(OUTPUT_BUFFER), ..StartExecOptions::default() };
        let started = self.client.start_exec(&exec.id, Some(options)).await;
        match started.map_err(|source| failed(what, &source))? {
            StartExecResults::Attached { output, input } => {
                Ok((exec.id, Conversation { input, output: pieces(output) }))
            }
            StartExecResults::Detached => {
                Err(Error::new(Code::EngineFailed, what).because("the engine did not attach its output"))
            }
        }
    }
}

fn bytes_of(size: i64) -> u64 {
    u64::try_from(size).unwrap_or_default()
}

/// The engine's filter for containers and volumes with all these labels.
fn by_labels(labels: &[String]) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), labels.to_vec())])
}

#[async_trait]
impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo> {
        let info =
            self.client.info().await.map_err(|source| failed("cannot read the engine's description", &source))?;
        Ok(answer::engine_info(info))
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let found = self.client.inspect_image(reference).await;
        let Some(image) = absent_is_none(found, &format!("cannot inspect image `{reference}`"))? else {
            return Ok(None);
        };
        let config = image.config.unwrap_or_default();
        Ok(Some(Image {
            id: image.id.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            layers: image.root_fs.and_then(|root| root.layers).unwrap_or_default(),
            tags: image.repo_tags.unwrap_or_default(),
            environment: config.env.unwrap_or_default(),
            size: bytes_of(image.size.unwrap_or_default()),
            platform: (
                image.os.unwrap_or_default(),
                image.architecture.unwrap_or_default(),
                image.variant.unwrap_or_default(),
            ),
        }))
    }

    async fn images(&self) -> Result<Vec<Image>> {
        let options = query::ListImagesOptionsBuilder::default().build();
        let images = self.client.list_images(Some(options)).await;
        let images = images.map_err(|source| failed("cannot list images", &source))?;
        Ok(images
            .into_iter()
            .map(|image| Image {
                id: image.id,
                labels: image.labels.into_iter().collect(),
                layers: Vec::new(),
                tags: image.repo_tags,
                environment: Vec::new(),
                size: bytes_of(image.size),
                ..Image::default()
            })
            .collect())
    }

    async fn pull_image(&self, reference: &str, login: Option<&Login>, progress: Progress<'_>) -> Result<()> {
        let what = format!("cannot pull image `{reference}`");
        let options = query::CreateImageOptionsBuilder::default().from_image(&translate::one_image(reference)).build();
        let mut layers: HashMap<String, (u64, u64)> = HashMap::new();
        let mut stream = self.transfer.create_image(Some(options), None, login.map(translate::login));
        while let Some(update) = stream.try_next().await.map_err(|source| failed(&what, &source))? {
            let (Some(layer), Some(detail)) = (update.id, update.progress_detail) else { continue };
            let number = |value: Option<i64>| u64::try_from(value.unwrap_or_default()).unwrap_or_default();
            layers.insert(layer, (number(detail.current), number(detail.total)));
            progress(layers.values().map(|layer| layer.0).sum(), layers.values().map(|layer| layer.1).sum());
        }
        Ok(())
    }

    async fn load_images(&self, tar: ByteStream) -> Result<()> {
        let options = query::ImportImageOptionsBuilder::default().quiet(true).build();
        let mut stream = self.transfer.import_image(options, bollard::body_try_stream(tar), None).boxed();
        while stream.try_next().await.map_err(|source| failed("cannot load images into the engine", &source))?.is_some()
        {
        }
        Ok(())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let options = query::RemoveImageOptionsBuilder::default().force(true).build();
        let removed = self.client.remove_image(reference, Some(options), None).await.map(drop);
        absent_is_fine(removed, &format!("cannot remove image `{reference}`"))
    }

    async fn save_images(&self, references: &[String]) -> Result<ByteStream> {
        let names: Vec<&str> = references.iter().map(String::as_str).collect();
        let stream = self.transfer.export_images(&names).map_err(std::io::Error::other).boxed();
        Ok(stream)
    }

    async fn networks(&self) -> Result<Vec<Network>> {
        let networks = self.client.list_networks(None::<query::ListNetworksOptions>).await;
        let networks = networks.map_err(|source| failed("cannot list networks", &source))?;
        let subnets = |ipam: Option<bollard::models::Ipam>| {
            let configs = ipam.and_then(|ipam| ipam.config).unwrap_or_default();
            configs.into_iter().filter_map(|config| config.subnet?.parse().ok()).collect()
        };
        let mtu = |options: Option<HashMap<String, String>>| options?.get(translate::MTU)?.parse().ok();
        Ok(networks
            .into_iter()
            .map(|network| Network {
                id: network.id.unwrap_or_default(),
                name: network.name.unwrap_or_default(),
                subnets: subnets(network.ipam),
                mtu: mtu(network.options).filter(|mtu| *mtu != 0 && *mtu != 1500),
                labels: network.labels.unwrap_or_default().into_iter().collect(),
            })
            .collect())
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        let created = self.client.create_network(translate::network(spec)).await;
        created.map(|network| network.id).map_err(|source| failure::network(spec, &source))
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        absent_is_fine(self.client.remove_network(id).await, &format!("cannot remove network `{id}`"))
    }

    async fn connect_network(&self, network: &str, container: &str, alias: &str, addresses: &[IpAddr]) -> Result<()> {
        let connected = self.client.connect_network(network, translate::connection(container, alias, addresses)).await;
        match connected {
            Err(source) if failure::is_connected(&source) => Ok(()),
            other => {
                other.map_err(|source| failed(&format!("cannot connect `{container}` to network `{network}`"), &source))
            }
        }
    }

    async fn disconnect_network(&self, network: &str, container: &str) -> Result<()> {
        let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        let done = self.client.disconnect_network(network, request).await;
        match done {
            Err(source) if failure::is_not_connected(&source) => Ok(()),
            other => absent_is_fine(other, &format!("cannot disconnect `{container}` from network `{network}`")),
        }
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String> {
        let options = query::CreateContainerOptionsBuilder::default().name(&spec.name).build();
        let mut body = translate::container(spec);
        if let Some(name) = &spec.image_name
            && self.client.inspect_image(name).await.is_ok_and(|image| image.id.as_ref() == Some(&spec.image))
        {
            body.image = Some(name.clone());
        }
        let mut created = self.client.create_container(Some(options.clone()), body.clone()).await;
        if created.as_ref().is_err_and(|source| source.to_string().contains("invalid CapDrop")) {
            // Engines since 23 know which capabilities there are, and refuse to drop one that does not exist.
            body.host_config.get_or_insert_default().cap_drop = None;
            created = self.client.create_container(Some(options.clone()), body.clone()).await;
        }
        if created.as_ref().is_err_and(|source| source.to_string().contains(NO_MODULES)) {
            // Small kernels come without modules, and whether those of another host do is known only by trying.
            let mounts = &mut body.host_config.get_or_insert_default().mounts;
            mounts.get_or_insert_default().retain(|mount| mount.source.as_deref() != Some(MODULES));
            created = self.client.create_container(Some(options), body).await;
        }
        created.map(|container| container.id).map_err(|source| failure::create(spec, &source))
    }

    async fn upload(&self, container: &str, tar: Bytes) -> Result<()> {
        let options = query::UploadToContainerOptionsBuilder::default().path("/").build();
        let sent = self.transfer.upload_to_container(container, Some(options), body_full(tar)).await;
        sent.map_err(|source| failed(&format!("cannot write files into container `{container}`"), &source))
    }

    async fn download(&self, container: &str, path: &str) -> Result<Option<ByteStream>> {
        let options = query::DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut stream = self.transfer.download_from_container(container, Some(options)).boxed();
        let first = stream.next().await.transpose();
        let first = absent_is_none(first, &format!("cannot read `{path}` in container `{container}`"))?.flatten();
        let rest = stream.map_err(std::io::Error::other);
        Ok(first.map(|chunk| futures_util::stream::once(async move { Ok(chunk) }).chain(rest).boxed()))
    }

    async fn start_container(&self, container: &str) -> Result<()> {
        let started = self.client.start_container(container, None::<query::StartContainerOptions>).await;
        match started {
            // Someone else was faster.
            Err(source) if failure::status(&source) == Some(304) => Ok(()),
            other => other.map_err(|source| failure::start(container, &source)),
        }
    }

    async fn pause_container(&self, container: &str) -> Result<()> {
        match self.client.pause_container(container).await {
            Err(source) if failure::is_paused(&source) => Ok(()),
            other => other.map_err(|source| failure::not_paused(container, &source)),
        }
    }

    async fn unpause_container(&self, container: &str) -> Result<()> {
        match self.client.unpause_container(container).await {
            Err(source) if failure::is_not_paused(&source) => Ok(()),
            other => other.map_err(|source| failed(&format!("cannot unpause container `{container}`"), &source)),
        }
    }

    async fn stop_container(&self, container: &str, seconds: i32) -> Result<()> {
        let options = query::StopContainerOptionsBuilder::default().t(seconds).build();
        let stopped = self.client.stop_container(container, Some(options)).await;
        absent_is_fine(stopped, &format!("cannot stop container `{container}`"))
    }

    async fn remove_container(&self, container: &str) -> Result<()> {
        let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let deadline = Instant::now() + REMOVAL_TIMEOUT;
        loop {
            match self.client.remove_container(container, Some(options.clone())).await {
                Err(source) if failure::is_being_removed(&source) && Instant::now() < deadline => {
                    sleep(REMOVAL_INTERVAL).await;
                }
                removed => return absent_is_fine(removed, &format!("cannot remove container `{container}`")),
            }
        }
    }

    async fn containers(&self, labels: &[String]) -> Result<Vec<Container>> {
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&by_labels(labels)).build();
        let listed = self.client.list_containers(Some(options)).await;
        let listed = listed.map_err(|source| failed("cannot list containers", &source))?;
        Ok(listed.into_iter().map(container_of).collect())
    }

    async fn volumes(&self, labels: &[String]) -> Result<Vec<Volume>> {
        let options = query::ListVolumesOptionsBuilder::default().filters(&by_labels(labels)).build();
        let listed = self.client.list_volumes(Some(options)).await;
        let listed = listed.map_err(|source| failed("cannot list volumes", &source))?;
        let volumes = listed.volumes.unwrap_or_default();
        Ok(volumes
            .into_iter()
            .map(|volume| Volume { name: volume.name, labels: volume.labels.into_iter().collect() })
            .collect())
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        let options = query::RemoveVolumeOptionsBuilder::default().force(true).build();
        let removed = self.client.remove_volume(name, Some(options)).await;
        absent_is_fine(removed, &format!("cannot remove volume `{name}`"))
    }

    async fn exec(&self, container: &str, command: &[&str], input: Option<ByteStream>) -> Result<ExecOutput> {
        let what = format!("cannot run `{}` in container `{container}`", command.join(" "));
        let (id, conversation) = self.begin(container, command, input.is_some(), &what).await?;
        let mut output = conversation.hold(input).await.map_err(|source| failed(&what, &source.into()))?;
        // Its end is noticed later than the end of its output.
        output.exit_code = Inside::exit_code(self, &id).await?;
        failure::exec(&what, output)
    }

    async fn converse(&self, container: &str, command: &[&str]) -> Result<Conversation> {
        let what = format!("cannot run `{}` in container `{container}`", command.join(" "));
        self.begin(container, command, true, &what).await.map(|(_, conversation)| conversation)
    }

    async fn attach(&self, container: &str) -> Result<Conversation> {
        let options = query::AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).build();
        let attached = self.client.attach_container(container, Some(options)).await;
        let ends = attached.map_err(|source| failed(&format!("cannot attach to container `{container}`"), &source))?;
        Ok(Conversation { input: ends.input, output: pieces(ends.output) })
    }

    async fn logs(&self, container: &str, tail: Option<u32>) -> Result<Vec<u8>> {
        let tail = tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = query::LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&tail).build();
        let mut stream = self.transfer.logs(container, Some(options));
        let mut text = Vec::new();
        let what = format!("cannot read the output of container `{container}`");
        while let Some(part) = stream.try_next().await.map_err(|source| failed(&what, &source))? {
            text.extend_from_slice(&part.into_bytes());
        }
        Ok(text)
    }

    async fn inspect(&self, container: &str) -> Result<Option<Inspected>> {
        let found = self.client.inspect_container(container, None::<query::InspectContainerOptions>).await;
        let found = absent_is_none(found, &format!("cannot inspect container `{container}`"))?;
        Ok(found.map(inspected))
    }

    async fn last_exit(&self, container: &str) -> Result<Option<i64>> {
        events::last_exit(&self.client, container).await
    }
}

#[cfg(test)]
mod removal_tests;
