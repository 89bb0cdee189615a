//! An engine whose changing calls run to their end, so that what an interrupted command made can be found and removed.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::helper;
use crate::engine::inside::{Inside, OutputOptions, PathInfo, Sample, Session, SessionSpec, TerminalSize};
use crate::engine::place::Place;
use crate::engine::spec::{
    Container, ContainerSpec, EngineInfo, ExecOutput, Image, Inspected, Labels, Login, Network, NetworkSpec,
    PortBinding, Volume,
};
use crate::engine::{ByteStream, Conversation, Engine, Progress, SharedEngine};
use crate::error::{Code, Error, Result};

/// The error of an interrupted command.
pub fn interrupted() -> Error {
    Error::new(Code::Interrupted, "interrupted")
}

tokio::task_local! {
    /// Those of the work that runs in this task.
    static LAST_STEPS: LastSteps;
}

/// The steps of a piece of work that must not be interrupted any more.
#[derive(Debug, Clone, Default)]
pub struct LastSteps(Arc<AtomicUsize>);

/// While it exists, an interruption waits: what is under way can no longer be taken back, and ends soon.
#[derive(Debug)]
pub struct LastStep(LastSteps);

impl LastSteps {
    /// Those of the work that this is called in.
    pub fn current() -> Self {
        LAST_STEPS.try_with(Self::clone).unwrap_or_default()
    }

    /// A last step begins.
    pub fn begin(&self) -> LastStep {
        self.0.fetch_add(1, Ordering::SeqCst);
        LastStep(self.clone())
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Drop for LastStep {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Does `work` with an engine whose changing calls run to their end, also when `stop` ends the work early.
///
/// Nothing is under way any more when this returns: what was made can be looked for and removed.
///
/// # Errors
///
/// That of the work, or [`interrupted`].
pub async fn run_to_end<T, W>(
    engine: &SharedEngine,
    stop: &CancellationToken,
    work: impl FnOnce(SharedEngine) -> W,
) -> Result<T>
where
    W: Future<Output = Result<T>>,
{
    let finishing = Arc::new(Finishing::new(engine.clone()));
    // The work is dropped before its calls are waited for.
    let result = {
        let last = LastSteps::default();
        let work = LAST_STEPS.scope(last.clone(), work(finishing.clone()));
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => result,
            () = stop.cancelled() => if last.any() { work.await } else { Err(interrupted()) },
        }
    };
    finishing.settle().await;
    // Helper containers were dropped with the work, and are being removed.
    helper::settle().await;
    result
}

/// A decorator: reading calls are passed on, and each changing call is a task of its own that no one can drop.
pub struct Finishing {
    engine: SharedEngine,
    calls: TaskTracker,
    settled: AtomicBool,
}

impl Finishing {
    /// No call is under way.
    pub fn new(engine: SharedEngine) -> Self {
        Self { engine, calls: TaskTracker::new(), settled: AtomicBool::new(false) }
    }

    /// Refuses further calls that make something, and waits for those under way.
    pub async fn settle(&self) {
        self.settled.store(true, Ordering::SeqCst);
        self.calls.close();
        self.calls.wait().await;
    }

    /// Runs a call that makes or changes something to its end, unless the command was interrupted before it began.
    async fn change<T, F>(&self, call: impl FnOnce(SharedEngine) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if self.settled.load(Ordering::SeqCst) {
            return Err(interrupted());
        }
        self.finish(call).await
    }

    /// Runs a call to its end. Removing is never refused: it is what the end of a command is for.
    async fn finish<T, F>(&self, call: impl FnOnce(SharedEngine) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let call = call(self.engine.clone());
        let ended = self.calls.spawn(call).await;
        ended.map_err(|source| {
            Error::new(Code::StepFailed, "an engine call ended without a result").with_cause(&source)
        })?
    }
}

#[async_trait]
impl Engine for Finishing {
    fn place(&self) -> &Place {
        self.engine.place()
    }

    async fn info(&self) -> Result<EngineInfo> {
        self.engine.info().await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.engine.image(reference).await
    }

    async fn images(&self) -> Result<Vec<Image>> {
        self.engine.images().await
    }

    // A pull or a load may take minutes, and what has arrived of it is the engine's to keep or to drop: both end at once.
    async fn pull_image(&self, reference: &str, login: Option<&Login>, progress: Progress<'_>) -> Result<()> {
        self.engine.pull_image(reference, login, progress).await
    }

    async fn load_images(&self, tar: ByteStream) -> Result<()> {
        self.engine.load_images(tar).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let reference = reference.to_owned();
        self.finish(|engine| async move { engine.remove_image(&reference).await }).await
    }

    async fn save_images(&self, references: &[String]) -> Result<ByteStream> {
        self.engine.save_images(references).await
    }

    async fn networks(&self) -> Result<Vec<Network>> {
        self.engine.networks().await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        let spec = spec.clone();
        self.change(|engine| async move { engine.create_network(&spec).await }).await
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.finish(|engine| async move { engine.remove_network(&id).await }).await
    }

    async fn connect_network(&self, network: &str, container: &str, alias: &str, addresses: &[IpAddr]) -> Result<()> {
        let ([network, container, alias], addresses) =
            ([network, container, alias].map(str::to_owned), addresses.to_vec());
        self.change(|engine| async move { engine.connect_network(&network, &container, &alias, &addresses).await })
            .await
    }

    async fn disconnect_network(&self, network: &str, container: &str) -> Result<()> {
        let [network, container] = [network, container].map(str::to_owned);
        self.finish(|engine| async move { engine.disconnect_network(&network, &container).await }).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String> {
        let spec = spec.clone();
        self.change(|engine| async move { engine.create_container(&spec).await }).await
    }

    async fn upload(&self, container: &str, tar: Bytes) -> Result<()> {
        let container = container.to_owned();
        self.change(|engine| async move { engine.upload(&container, tar).await }).await
    }

    async fn download(&self, container: &str, path: &str) -> Result<Option<ByteStream>> {
        self.engine.download(container, path).await
    }

    async fn start_container(&self, container: &str) -> Result<()> {
        let container = container.to_owned();
        self.change(|engine| async move { engine.start_container(&container).await }).await
    }

    async fn stop_container(&self, container: &str, seconds: i32) -> Result<()> {
        let container = container.to_owned();
        self.change(|engine| async move { engine.stop_container(&container, seconds).await }).await
    }

    async fn pause_container(&self, container: &str) -> Result<()> {
        let container = container.to_owned();
        self.change(|engine| async move { engine.pause_container(&container).await }).await
    }

    async fn unpause_container(&self, container: &str) -> Result<()> {
        let container = container.to_owned();
        self.change(|engine| async move { engine.unpause_container(&container).await }).await
    }

    async fn remove_container(&self, container: &str) -> Result<()> {
        let container = container.to_owned();
        self.finish(|engine| async move { engine.remove_container(&container).await }).await
    }

    async fn containers(&self, labels: &[String]) -> Result<Vec<Container>> {
        self.engine.containers(labels).await
    }

    async fn volumes(&self, labels: &[String]) -> Result<Vec<Volume>> {
        self.engine.volumes(labels).await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.finish(|engine| async move { engine.remove_volume(&name).await }).await
    }

    // A command in a container is not taken back; what it runs for ends it, or the end of its input does.
    async fn exec(&self, container: &str, command: &[&str], input: Option<ByteStream>) -> Result<ExecOutput> {
        self.engine.exec(container, command, input).await
    }

    async fn converse(&self, container: &str, command: &[&str]) -> Result<Conversation> {
        self.engine.converse(container, command).await
    }

    async fn attach(&self, container: &str) -> Result<Conversation> {
        self.engine.attach(container).await
    }

    async fn logs(&self, container: &str, tail: Option<u32>) -> Result<Vec<u8>> {
        self.engine.logs(container, tail).await
    }

    async fn inspect(&self, container: &str) -> Result<Option<Inspected>> {
        self.engine.inspect(container).await
    }

    async fn last_exit(&self, container: &str) -> Result<Option<i64>> {
        self.engine.last_exit(container).await
    }
}

#[async_trait]
impl Inside for Finishing {
    async fn open(&self, container: &str, spec: &SessionSpec) -> Result<Session> {
        self.engine.open(container, spec).await
    }

    async fn resize(&self, session: &str, size: TerminalSize) -> Result<()> {
        self.engine.resize(session, size).await
    }

    async fn exit_code(&self, session: &str) -> Result<i64> {
        self.engine.exit_code(session).await
    }

    async fn find_path(&self, container: &str, path: &str) -> Result<Option<PathInfo>> {
        self.engine.find_path(container, path).await
    }

    async fn republish(&self, container: &str, ports: &[PortBinding], labels: &Labels) -> Result<String> {
        let (container, ports, labels) = (container.to_owned(), ports.to_vec(), labels.clone());
        self.change(|engine| async move { engine.republish(&container, &ports, &labels).await }).await
    }

    // What a person copies may be large, and half of it is theirs to keep or to remove.
    async fn unpack(&self, container: &str, directory: &str, tar: ByteStream) -> Result<()> {
        self.engine.unpack(container, directory, tar).await
    }

    async fn sample(&self, container: &str) -> Result<Sample> {
        self.engine.sample(container).await
    }

    async fn output(&self, container: &str, options: OutputOptions) -> Result<Conversation> {
        self.engine.output(container, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeEngine;

    #[tokio::test]
    async fn a_call_that_has_begun_ends_although_its_command_is_dropped() {
        let fake = Arc::new(FakeEngine::new(&["app"]));
        let shared: SharedEngine = fake.clone();
        let stop = CancellationToken::new();
        stop.cancel();
        // Polled once: the call has begun when the interruption is seen.
        let work =
            |engine: SharedEngine| async move { engine.create_container(&ContainerSpec::new("t-one", "app")).await };
        for _ in 0..20 {
            let _ = run_to_end(&shared, &stop, work).await;
            let made = shared.containers(&[]).await.unwrap();
            // Either nothing was begun, or it is there to be found: never a container that appears later.
            tokio::task::yield_now().await;
            assert_eq!(shared.containers(&[]).await.unwrap(), made);
        }
    }

    #[tokio::test]
    async fn an_interruption_in_the_last_step_comes_too_late() {
        let shared: SharedEngine = Arc::new(FakeEngine::new(&["app"]));
        let stop = CancellationToken::new();
        let work = async |_: SharedEngine| {
            let _last = LastSteps::current().begin();
            stop.cancel();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            Ok(())
        };
        run_to_end(&shared, &stop, work).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_interrupted_makes_nothing_more_but_may_remove() {
        let fake = Arc::new(FakeEngine::new(&["app"]));
        let finishing = Finishing::new(fake);
        finishing.create_container(&ContainerSpec::new("t-one", "app")).await.unwrap();
        finishing.settle().await;
        let refused = finishing.create_container(&ContainerSpec::new("t-two", "app")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Interrupted);
        finishing.remove_container("t-one").await.unwrap();
        assert!(finishing.containers(&[]).await.unwrap().is_empty());
    }
}
