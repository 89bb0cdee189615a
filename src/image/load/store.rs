//! The engine's own layer store, read by a helper container: layers reach the nodes without `docker save`, which writes
//! every layer of an image to disk before the first byte comes out.
//!
//! The store is internal to the engine, so an unknown layout is no error: the caller then uses `docker save`, even in the
//! middle of a layer. Wrong content cannot result, since the nodes check the digest of every layer.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use coracle_shared::paths::{READER_CONTENT, READER_IMAGES, READER_LAYERS};
use coracle_shared::wire::{self, Answer, Chunks, ImageRequest, Message, ReadRequest};
use tokio_util::io::SyncIoBridge;

use crate::engine::helper::Helper;
use crate::engine::spec::{EngineInfo, Mount, Privilege};
use crate::engine::{Conversation, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::image::load::fan_out::{FanOut, Source};
use crate::image::load::program::{self, Input, Output};

/// What the helper does.
pub(crate) const READ: &str = "read";
const SEARCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Set to `save`, it keeps the command from reading the engine's store; `store` is the default.
const CHOICE: &str = "CORACLE_IMAGE_SOURCE";

/// The requested layers and images, on their way out of the engine's store.
pub(crate) struct StoreSource {
    /// How many bytes the layers have, packed as they are.
    pub bytes: u64,
    output: Output,
    /// It stays open while the output is read: when the input ends, the helper ends.
    _input: Input,
    images: BTreeSet<String>,
    _helper: Helper,
}

/// Finds these layers and images in the engine's store. The error is the reason why that is not possible.
pub(crate) async fn open(
    engine: &SharedEngine,
    info: &EngineInfo,
    node: &str,
    images: &[ImageRequest],
    layers: Vec<String>,
) -> Result<StoreSource> {
    if is_save_wanted(std::env::var_os(CHOICE).as_deref())? {
        return Err(unreadable(format!("{CHOICE} is `save`")));
    }
    let mut last = unreadable("its storage driver is not supported");
    for mounts in stores(info)? {
        match begin(engine, node, mounts).await {
            Ok((helper, ends)) => return ask(helper, ends, images, layers).await,
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Fails if the environment asks for a source of images that does not exist.
pub fn check_source() -> Result<()> {
    is_save_wanted(std::env::var_os(CHOICE).as_deref()).map(drop)
}

/// Whether images are read as the engine saves them, instead of from its store. A variable without a value is unset.
pub(crate) fn is_save_wanted(choice: Option<&OsStr>) -> Result<bool> {
    match choice.map(OsStr::to_string_lossy).as_deref() {
        None | Some("" | "store") => Ok(false),
        Some("save") => Ok(true),
        Some(other) => {
            Err(Error::new(Code::UsageInvalid, format!("`{CHOICE}` is `{other}`, which is not an image source"))
                .hint(format!("set it to `store` or `save`, or `unset {CHOICE}`")))
        }
    }
}

fn unreadable(why: impl Into<String>) -> Error {
    Error::new(Code::LoadFailed, "the engine's layer store cannot be read").because(why)
}

/// Where the store may be, according to what the engine reports about itself.
fn stores(info: &EngineInfo) -> Result<Vec<Vec<Mount>>> {
    if info.rootless || info.userns_remap {
        return Err(unreadable("the engine maps users"));
    }
    let root = info.data_root.trim_end_matches('/');
    let directory =
        |source: String, target: &str| Mount::Directory { source, target: target.to_owned(), read_only: true };
    let content = |root: &str| vec![directory(format!("{root}/io.containerd.content.v1.content"), READER_CONTENT)];
    Ok(match info.storage_driver.as_str() {
        "overlay2" => vec![vec![
            directory(format!("{root}/image/overlay2"), READER_IMAGES),
            directory(format!("{root}/overlay2"), READER_LAYERS),
        ]],
        // The driver of containerd: one that the engine runs itself, or the system's.
        "overlayfs" => vec![content(&format!("{root}/containerd/daemon")), content("/var/lib/containerd")],
        _ => Vec::new(),
    })
}

/// Starts a helper that can only read the store.
async fn begin(engine: &SharedEngine, node: &str, mounts: Vec<Mount>) -> Result<(Helper, Conversation)> {
    program::begin(engine, program::spec(&**engine, node, READ, mounts, Privilege::Files).await?).await
}

/// Asks the helper, which answers once it has found everything.
async fn ask(helper: Helper, ends: Conversation, images: &[ImageRequest], layers: Vec<String>) -> Result<StoreSource> {
    let ids = images.iter().map(|image| image.id.clone()).collect();
    let reading = ReadRequest { version: wire::VERSION, images: images.to_vec(), layers };
    let answered = tokio::time::timeout(SEARCH_TIMEOUT, program::first_answer(ends, &reading)).await;
    let silent = |source: &io::Error| unreadable("the helper does not answer").with_cause(source);
    let (answer, input, output) = answered
        .map_err(|_| unreadable(format!("the helper did not answer within {} s", SEARCH_TIMEOUT.as_secs())))?
        .map_err(|source| silent(&source))?;
    match answer {
        Answer::Found(bytes) => Ok(StoreSource { bytes, output, _input: input, images: ids, _helper: helper }),
        Answer::Failed(failure) => Err(unreadable(failure.message)),
        _ => Err(unreadable("the helper has another version")),
    }
}

impl Source for StoreSource {
    fn send(self: Box<Self>, fan_out: &mut FanOut) -> Result<()> {
        // What is named first is dropped last.
        let Self { _helper, images, _input, output, bytes: _ } = *self;
        let mut output = SyncIoBridge::new(output);
        let mut pass = || -> io::Result<()> {
            while let Some(message) = wire::receive::<Message>(&mut output)? {
                match message {
                    Message::Layer(layer) => {
                        let mut chunks = Chunks::new(&mut output);
                        fan_out.layer(&layer, &mut chunks)?;
                        // If no node took the layer, it was not read.
                        io::copy(&mut chunks, &mut io::sink())?;
                    }
                    Message::Image(image) if images.contains(&image.id) => fan_out.image(&image)?,
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
            // The helper may have ended between two of them.
            if fan_out.is_complete() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        };
        pass().map_err(|source| unreadable("reading it failed").with_cause(&source))
    }
}
