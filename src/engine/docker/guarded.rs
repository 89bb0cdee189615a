//! An engine whose every call ends: one that hangs, or that the network has swallowed, is noticed while a call waits for it.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{sleep, timeout};

use crate::engine::docker::{Docker, failure};
use crate::engine::inside::{Inside, OutputOptions, PathInfo, Sample, Session, SessionSpec, TerminalSize};
use crate::engine::place::Place;
use crate::engine::spec::{
    Container, ContainerSpec, EngineInfo, ExecOutput, Image, Inspected, Labels, Login, Network, NetworkSpec,
    PortBinding, Volume,
};
use crate::engine::{ByteStream, Conversation, Engine, Progress};
use crate::error::{Error, Result};

/// How long an engine may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until a call has waited so long, nothing is asked.
    pub(crate) quiet: Duration,
    /// Then the engine must answer a ping within so long, again and again.
    pub(crate) silence: Duration,
}

impl Patience {
    /// A pull may take an hour and is not the sign of a broken engine; a ping that is not answered is. It is much more than
    /// the slowest machine needs for one, and little for a person who waits.
    pub(crate) const USUAL: Self = Self { quiet: Duration::from_secs(5), silence: Duration::from_secs(20) };
}

/// A decorator that gives up on calls to an engine that does not answer pings.
pub(in crate::engine) struct Guarded {
    engine: Arc<Docker>,
    patience: Patience,
    place: Place,
}

impl Guarded {
    pub(in crate::engine) fn new(engine: Docker, patience: Patience) -> Self {
        Self { engine: Arc::new(engine), patience, place: Place::Host }
    }

    /// The same engine, seen from this place.
    pub(in crate::engine) fn seen_from(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Does a call, unless the engine falls silent meanwhile.
    async fn guard<T>(&self, what: &str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        tokio::select! {
            biased;
            result = call => result,
            () = silence(&self.engine, self.patience) => Err(failure::silent(what)),
        }
    }

    /// A stream that ends with an error when the engine falls silent between two of its pieces.
    fn guard_stream<T: Send + 'static>(&self, stream: Pieces<T>) -> Pieces<T> {
        let (engine, patience) = (self.engine.clone(), self.patience);
        let next = move |stream: Option<Pieces<T>>| {
            let engine = engine.clone();
            async move {
                let mut stream = stream?;
                let piece = tokio::select! {
                    biased;
                    piece = stream.next() => piece,
                    () = silence(&engine, patience) => {
                        let error: Error = failure::silent("a transfer has stopped");
                        return Some((Err(std::io::Error::other(error)), None));
                    }
                };
                piece.map(|piece| (piece, Some(stream)))
            }
        };
        futures_util::stream::unfold(Some(stream), next).boxed()
    }

    fn guard_conversation(&self, ends: Conversation) -> Conversation {
        Conversation { input: ends.input, output: self.guard_stream(ends.output) }
    }
}

type Pieces<T> = Pin<Box<dyn Stream<Item = std::io::Result<T>> + Send>>;

/// Ends when the engine has not answered for too long.
async fn silence(engine: &Docker, patience: Patience) {
    loop {
        sleep(patience.quiet).await;
        let answered = async {
            // One that is just being started again refuses connections for a moment.
            while !engine.answers().await {
                sleep(patience.quiet / 10).await;
            }
        };
        if timeout(patience.silence, answered).await.is_err() {
            return;
        }
    }
}

#[async_trait]
impl Engine for Guarded {
    fn place(&self) -> &Place {
        &self.place
    }

    async fn info(&self) -> Result<EngineInfo> {
        self.guard("cannot read the engine's description", self.engine.info()).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.guard(&format!("cannot inspect image `{reference}`"), self.engine.image(reference)).await
    }

    async fn images(&self) -> Result<Vec<Image>> {
        self.guard("cannot list images", self.engine.images()).await
    }

    async fn pull_image(&self, reference: &str, login: Option<&Login>, progress: Progress<'_>) -> Result<()> {
        self.guard(&format!("cannot pull image `{reference}`"), self.engine.pull_image(reference, login, progress))
            .await
    }

    async fn load_images(&self, tar: ByteStream) -> Result<()> {
        self.guard("cannot load images into the engine", self.engine.load_images(tar)).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.guard(&format!("cannot remove image `{reference}`"), self.engine.remove_image(reference)).await
    }

    async fn save_images(&self, references: &[String]) -> Result<ByteStream> {
        Ok(self.guard_stream(self.guard("cannot save images", self.engine.save_images(references)).await?))
    }

    async fn networks(&self) -> Result<Vec<Network>> {
        self.guard("cannot list networks", self.engine.networks()).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        self.guard(&format!("cannot create network `{}`", spec.name), self.engine.create_network(spec)).await
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        self.guard(&format!("cannot remove network `{id}`"), self.engine.remove_network(id)).await
    }

    async fn connect_network(&self, network: &str, container: &str, alias: &str, addresses: &[IpAddr]) -> Result<()> {
        self.guard(
            &format!("cannot connect `{container}` to network `{network}`"),
            self.engine.connect_network(network, container, alias, addresses),
        )
        .await
    }

    async fn disconnect_network(&self, network: &str, container: &str) -> Result<()> {
        self.guard(
            &format!("cannot disconnect `{container}` from network `{network}`"),
            self.engine.disconnect_network(network, container),
        )
        .await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String> {
        self.guard(&format!("cannot create container `{}`", spec.name), self.engine.create_container(spec)).await
    }

    async fn upload(&self, container: &str, tar: Bytes) -> Result<()> {
        self.guard(&format!("cannot write files into container `{container}`"), self.engine.upload(container, tar))
            .await
    }

    async fn download(&self, container: &str, path: &str) -> Result<Option<ByteStream>> {
        Ok(self
            .guard(&format!("cannot read `{path}` in container `{container}`"), self.engine.download(container, path))
            .await?
            .map(|stream| self.guard_stream(stream)))
    }

    async fn start_container(&self, container: &str) -> Result<()> {
        self.guard(&format!("cannot start container `{container}`"), self.engine.start_container(container)).await
    }

    async fn stop_container(&self, container: &str, seconds: i32) -> Result<()> {
        self.guard(&format!("cannot stop container `{container}`"), self.engine.stop_container(container, seconds))
            .await
    }

    async fn pause_container(&self, container: &str) -> Result<()> {
        self.guard(&format!("cannot pause container `{container}`"), self.engine.pause_container(container)).await
    }

    async fn unpause_container(&self, container: &str) -> Result<()> {
        self.guard(&format!("cannot unpause container `{container}`"), self.engine.unpause_container(container)).await
    }

    async fn remove_container(&self, container: &str) -> Result<()> {
        self.guard(&format!("cannot remove container `{container}`"), self.engine.remove_container(container)).await
    }

    async fn containers(&self, labels: &[String]) -> Result<Vec<Container>> {
        self.guard("cannot list containers", self.engine.containers(labels)).await
    }

    async fn volumes(&self, labels: &[String]) -> Result<Vec<Volume>> {
        self.guard("cannot list volumes", self.engine.volumes(labels)).await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.guard(&format!("cannot remove volume `{name}`"), self.engine.remove_volume(name)).await
    }

    async fn exec(&self, container: &str, command: &[&str], input: Option<ByteStream>) -> Result<ExecOutput> {
        self.guard(
            &format!("cannot run `{}` in container `{container}`", command.join(" ")),
            self.engine.exec(container, command, input),
        )
        .await
    }

    async fn converse(&self, container: &str, command: &[&str]) -> Result<Conversation> {
        Ok(self.guard_conversation(
            self.guard(
                &format!("cannot run `{}` in container `{container}`", command.join(" ")),
                self.engine.converse(container, command),
            )
            .await?,
        ))
    }

    async fn attach(&self, container: &str) -> Result<Conversation> {
        Ok(self.guard_conversation(
            self.guard(&format!("cannot attach to container `{container}`"), self.engine.attach(container)).await?,
        ))
    }

    async fn logs(&self, container: &str, tail: Option<u32>) -> Result<Vec<u8>> {
        self.guard(&format!("cannot read the output of container `{container}`"), self.engine.logs(container, tail))
            .await
    }

    async fn inspect(&self, container: &str) -> Result<Option<Inspected>> {
        self.guard(&format!("cannot inspect container `{container}`"), self.engine.inspect(container)).await
    }

    async fn last_exit(&self, container: &str) -> Result<Option<i64>> {
        let what = format!("cannot read the events of container `{container}`");
        self.guard(&what, self.engine.last_exit(container)).await
    }
}

#[async_trait]
impl Inside for Guarded {
    async fn open(&self, container: &str, spec: &SessionSpec) -> Result<Session> {
        let what = format!("cannot run `{}` in container `{container}`", spec.command.join(" "));
        let session = self.guard(&what, self.engine.open(container, spec)).await?;
        Ok(Session { ends: self.guard_conversation(session.ends), ..session })
    }

    async fn resize(&self, session: &str, size: TerminalSize) -> Result<()> {
        self.guard("cannot change the size of the terminal", self.engine.resize(session, size)).await
    }

    async fn exit_code(&self, session: &str) -> Result<i64> {
        self.guard("cannot read the exit code of a command", self.engine.exit_code(session)).await
    }

    async fn find_path(&self, container: &str, path: &str) -> Result<Option<PathInfo>> {
        let what = format!("cannot look at `{path}` in container `{container}`");
        self.guard(&what, self.engine.find_path(container, path)).await
    }

    async fn unpack(&self, container: &str, directory: &str, tar: ByteStream) -> Result<()> {
        let what = format!("cannot write into `{directory}` in container `{container}`");
        self.guard(&what, self.engine.unpack(container, directory, tar)).await
    }

    async fn republish(&self, container: &str, ports: &[PortBinding], labels: &Labels) -> Result<String> {
        let what = format!("cannot recreate container `{container}`");
        self.guard(&what, self.engine.republish(container, ports, labels)).await
    }

    async fn sample(&self, container: &str) -> Result<Sample> {
        self.guard(&format!("cannot read what container `{container}` uses"), self.engine.sample(container)).await
    }

    async fn output(&self, container: &str, options: OutputOptions) -> Result<Conversation> {
        let what = format!("cannot read the output of container `{container}`");
        Ok(self.guard_conversation(self.guard(&what, self.engine.output(container, options)).await?))
    }
}

#[cfg(test)]
#[path = "guarded_tests.rs"]
mod tests;
