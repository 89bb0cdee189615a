//! The engine's own layer store, read by a helper container: layers reach the nodes without `docker save`, which writes
//! every layer of an image to disk before the first byte comes out.
//!
//! The store is the engine's private matter, so whatever is not as known is no error: the caller then saves, also in
//! the middle of a layer. Wrong content cannot come of it, since the nodes compare every layer with its digest.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::agent;
use crate::engine::spec::{Container, ContainerSpec, EngineInfo, Labels, Mount, NO_NETWORK, Privilege};
use crate::engine::{Conversation, Engine, Said};
use crate::error::{Code, Error, Result};
use crate::image::load::hub::{Feed, Hub};
use crate::image::wire::{self, Answer, Chunks, Order, READER_CONTENT, READER_IMAGES, READER_LAYERS, Reading, Wanted};
use crate::plan::labels;

/// Where the helper has its program.
const PROGRAM: &str = "/usr/local/bin/coracle-reader";
/// How long the helper may take to find everything.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest first line of the helper.
const MAX_LINE: u64 = 64 << 10;
/// How often, and how many times, it is looked whether the engine has removed a helper.
const REMOVED: (Duration, u32) = (Duration::from_millis(20), 100);
/// A helper that does not run this long after it was made belongs to a command that was killed.
const STALE: Duration = Duration::from_secs(30);
/// Labels of a node that its helper has too, so that what removes the one removes the other.
const KEPT_LABELS: [&str; 2] = [labels::CLUSTER, labels::RUN];
/// The role that tells a helper from nodes.
const ROLE: &str = "reader";
/// Set to `save`, it makes the command leave the engine's store alone; for measurements.
const CHOICE: &str = "CORACLE_IMAGE_SOURCE";

/// What begins and ends helpers, to be waited for.
static TASKS: LazyLock<TaskTracker> = LazyLock::new(|| {
    let tasks = TaskTracker::new();
    // It takes tasks nevertheless; only a closed one can be waited for.
    tasks.close();
    tasks
});

/// Waits until every helper is gone, also those of a load that was interrupted.
pub async fn settle() {
    TASKS.wait().await;
}

type Output = StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

/// The layers and images that were asked for, on their way out of the engine's store.
pub(crate) struct StoreFeed {
    output: Output,
    images: BTreeSet<String>,
    _helper: Helper,
    /// As long as this is read, `settle` waits; the helper ends before it.
    _reading: TaskTrackerToken,
}

/// A helper container, which goes away with this.
struct Helper {
    engine: Arc<dyn Engine>,
    name: String,
}

impl Drop for Helper {
    fn drop(&mut self) {
        let (engine, name) = (Arc::clone(&self.engine), self.name.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        TASKS.spawn_on(async move { remove(&*engine, &name).await }, &runtime);
    }
}

async fn remove(engine: &dyn Engine, name: &str) {
    for _ in 0..REMOVED.1 {
        // It ends with its input, and the engine removes what has ended: whoever is first.
        let _ = engine.remove_container(name).await;
        if !matches!(engine.inspect(name).await, Ok(Some(_))) {
            return;
        }
        tokio::time::sleep(REMOVED.0).await;
    }
}

/// Removes helpers of commands that were killed. What cannot be removed goes with the cluster.
async fn sweep(engine: &dyn Engine, labels: &Labels) {
    let alike: Vec<String> = [labels::CLUSTER, labels::ROLE]
        .iter()
        .filter_map(|key| labels.get(*key).map(|value| format!("{key}={value}")))
        .collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    for helper in engine.containers(&alike).await.unwrap_or_default() {
        if is_stale(&helper, now) {
            let _ = engine.remove_container(&helper.name).await;
        }
    }
}

pub(crate) fn is_stale(helper: &Container, now: Duration) -> bool {
    let made = Duration::from_secs(u64::try_from(helper.created).unwrap_or_default());
    helper.labels.get(labels::ROLE).is_some_and(|role| role == ROLE)
        && !helper.is_running()
        && now.saturating_sub(made) > STALE
}

/// Finds these layers and images in the engine's store. An error says why that is not possible.
pub(crate) async fn open(
    engine: &Arc<dyn Engine>,
    info: &EngineInfo,
    node: &str,
    images: &[Wanted],
    layers: Vec<String>,
) -> Result<StoreFeed> {
    if std::env::var(CHOICE).is_ok_and(|choice| choice == "save") {
        return Err(unreadable(format!("{CHOICE} is `save`")));
    }
    let mut last = unreadable("its storage driver is another one");
    for mounts in stores(info)? {
        match begin(engine, node, mounts).await {
            Ok((helper, ends)) => return ask(helper, ends, images, layers).await,
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unreadable(why: impl Into<String>) -> Error {
    Error::new(Code::LoadFailed, "the engine's layer store cannot be read").because(why)
}

/// Where the store may be, by what the engine says about itself.
fn stores(info: &EngineInfo) -> Result<Vec<Vec<Mount>>> {
    if info.rootless || info.userns_remap {
        return Err(unreadable("the engine maps users"));
    }
    let root = info.data_root.trim_end_matches('/');
    let folder = |source: String, target: &str| Mount::Folder { source, target: target.to_owned() };
    let content = |root: &str| vec![folder(format!("{root}/io.containerd.content.v1.content"), READER_CONTENT)];
    Ok(match info.storage_driver.as_str() {
        "overlay2" => vec![vec![
            folder(format!("{root}/image/overlay2"), READER_IMAGES),
            folder(format!("{root}/overlay2"), READER_LAYERS),
        ]],
        // The name of containerd's driver: a containerd that the engine runs itself, or the system's.
        "overlayfs" => vec![content(&format!("{root}/containerd/daemon")), content("/var/lib/containerd")],
        _ => Vec::new(),
    })
}

/// Starts a helper, in a task of its own: each call to the engine has an end, even if nobody waits for it any more.
async fn begin(engine: &Arc<dyn Engine>, node: &str, mounts: Vec<Mount>) -> Result<(Helper, Conversation)> {
    let spec = spec(&**engine, node, mounts).await?;
    let helper = Helper { engine: Arc::clone(engine), name: spec.name.clone() };
    let shared = Arc::clone(engine);
    let (sender, begun) = tokio::sync::oneshot::channel();
    TASKS.spawn(async move {
        let begun = async {
            helper.engine.create_container(&spec).await?;
            // The program of this command, whatever the node image has.
            let program =
                agent::tar(PROGRAM).map_err(|source| unreadable("the helper cannot be made").cause(&source))?;
            helper.engine.upload(&helper.name, program).await?;
            let ends = helper.engine.attach(&helper.name).await?;
            helper.engine.start_container(&helper.name).await?;
            Ok(ends)
        };
        let begun = begun.await.map(|ends| (helper, ends));
        // When nobody waits any more the helper ends here, while this task is still waited for.
        drop(sender.send(begun));
        sweep(&*shared, &spec.labels).await;
    });
    begun.await.map_err(|source| unreadable("the helper was lost").cause(&source))?
}

/// A container that can read the store, and nothing else: no network, no capability but reading.
pub(crate) async fn spec(engine: &dyn Engine, node: &str, mounts: Vec<Mount>) -> Result<ContainerSpec> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let found = engine.inspect(node).await?.ok_or_else(|| unreadable("the node is gone"))?;
    let label = |key: &str| found.labels.get(key).map(|value| (key.to_owned(), value.clone()));
    let mut labels: Labels = KEPT_LABELS.iter().filter_map(|key| label(key)).collect();
    labels.insert(labels::ROLE.to_owned(), ROLE.to_owned());
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(ContainerSpec {
        entrypoint: Some(vec![PROGRAM.to_owned()]),
        command: Some(vec!["images".to_owned(), "read".to_owned()]),
        labels,
        network: Some(NO_NETWORK.to_owned()),
        mounts,
        privilege: Privilege::Files,
        attached: true,
        ..ContainerSpec::new(format!("{node}-reader-{:x}-{number}", std::process::id()), found.image)
    })
}

/// Asks the helper, which answers when it has found everything.
async fn ask(helper: Helper, ends: Conversation, images: &[Wanted], layers: Vec<String>) -> Result<StoreFeed> {
    let ids = images.iter().map(|image| image.id.clone()).collect();
    let reading = Reading { version: wire::VERSION, images: images.to_vec(), layers };
    let answered = tokio::time::timeout(PATIENCE, first_answer(ends, &reading)).await;
    let lost = |source: &io::Error| unreadable("the helper does not answer").cause(source);
    let (answer, output) =
        answered.map_err(|_| unreadable("the helper is too slow"))?.map_err(|source| lost(&source))?;
    match answer {
        Answer::Found(_) => Ok(StoreFeed { output, images: ids, _helper: helper, _reading: TASKS.token() }),
        Answer::Failed(failure) => Err(unreadable(failure.message)),
        _ => Err(unreadable("the helper is of another version")),
    }
}

async fn first_answer(ends: Conversation, reading: &Reading) -> io::Result<(Answer, Output)> {
    let mut line = Vec::new();
    wire::send(&mut line, reading)?;
    let mut input: Pin<Box<dyn AsyncWrite + Send>> = ends.input;
    input.write_all(&line).await?;
    input.flush().await?;
    let said = ends.output.try_filter_map(|said| async move {
        Ok(match said {
            Said::Output(bytes) => Some(bytes),
            Said::Error(_) => None,
        })
    });
    // Its input stays open as long as somebody listens: its end is that of the helper.
    let said = said.map_ok(move |bytes| {
        let _ = &input;
        bytes
    });
    let said: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> = Box::pin(said);
    let mut output = StreamReader::new(said);
    let mut line = Vec::new();
    (&mut output).take(MAX_LINE).read_until(b'\n', &mut line).await?;
    Ok((serde_json::from_slice(&line)?, output))
}

impl Feed for StoreFeed {
    fn feed(self: Box<Self>, hub: &mut Hub) -> Result<()> {
        // What is named first goes away last.
        let Self { _reading, _helper, images, output } = *self;
        let mut output = SyncIoBridge::new(output);
        let mut pass = || -> io::Result<()> {
            while let Some(order) = wire::receive::<Order>(&mut output)? {
                match order {
                    Order::Layer(layer) => {
                        let mut chunks = Chunks::new(&mut output);
                        hub.layer(&layer, &mut chunks)?;
                        // Who takes none of it has not read it.
                        io::copy(&mut chunks, &mut io::sink())?;
                    }
                    Order::Image(image) if images.contains(&image.id) => hub.image(&image)?,
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
            // The helper was ended between two of them.
            if hub.is_complete() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        };
        pass().map_err(|source| unreadable("reading it broke off").cause(&source))
    }
}
