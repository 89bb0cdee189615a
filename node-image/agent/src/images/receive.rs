//! `coracle-agent images receive`: takes layers and images from standard input into the node's store, all or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::{Builder, Runtime};

use super::adopt::{Place, adopt};
use super::containerd::Containerd;
use super::content::{Chunks, pump};
use super::record::{self, Prepared};
use super::staging::{Staged, Staging, given, write_out};
use super::store::{Records, chain_ids, diff_ids, present};
use super::trouble::{Result, Trouble, damaged, failed};
use super::unpack::{Unpacked, unpack};
use crate::moment;
use coracle_shared::wire::{self, Answer, Image, Layer, Message, Name, Placed, Reason, Request, Stored, VERSION};

/// Chunks of a layer that are read before they are unpacked.
const CHUNKS_AHEAD: usize = 8;
/// The size of a pipe, bytes.
const PIPE: usize = 1 << 20;
/// How long the remains of a killed run are kept.
const LEASE_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long the kubelet's runtime may take to show an image.
const SHOW_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(5);

/// Runs until everything is stored, or fails with nothing stored.
pub(super) fn main() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // A larger pipe is only faster, so an error does not matter.
    let _ = rustix::pipe::fcntl_setpipe_size(io::stdin(), PIPE);
    let mut input = BufReader::with_capacity(PIPE, io::stdin().lock());
    let Some(Message::Request(request)) = wire::receive(&mut input)? else {
        return Err(failed("the first message is not a request"));
    };
    if request.version != VERSION {
        let message = format!("this node supports version {VERSION} of the messages, not {}", request.version);
        return Err(Trouble { reason: Reason::Version, message });
    }
    let containerd = runtime.block_on(Containerd::connect())?;
    let mut receiver = Receiver { runtime, containerd, request, staging: None, work: Work::default() };
    let state = receiver.state()?;
    answer(&state)?;
    match receiver.messages(&mut input) {
        Ok(Some(stored)) => {
            receiver.end(false)?;
            answer(&Answer::Done(stored))?;
            // The command is answered already: the image can be used, and the disk takes its time.
            write_out()
        }
        Ok(None) => receiver.end(true),
        Err(failure) => {
            // The failure that led here is the one to report.
            let _ = receiver.end(true);
            Err(failure)
        }
    }
}

/// Sends an answer to the command.
pub(super) fn answer(answer: &Answer) -> Result<()> {
    let mut output = io::stdout().lock();
    wire::send(&mut output, answer)?;
    Ok(output.flush()?)
}

struct Receiver {
    runtime: Runtime,
    containerd: Containerd,
    request: Request,
    staging: Option<Staging>,
    work: Work,
}

/// Everything that was sent so far.
#[derive(Debug, Default)]
struct Work {
    layers: BTreeMap<String, Staged>,
    images: Vec<Image>,
    names: Vec<Name>,
}

impl Receiver {
    fn state(&mut self) -> Result<Answer> {
        let Self { runtime, containerd, request, .. } = self;
        runtime.block_on(async {
            let records = Records::read(containerd).await?;
            let mut states = Vec::new();
            for wanted in &request.images {
                states.push(records.state(containerd, wanted).await?);
            }
            Ok(Answer::State(states))
        })
    }

    /// Handles all messages; returns what is stored, or `None` if the command goes away.
    fn messages(&mut self, input: &mut impl BufRead) -> Result<Option<Vec<Stored>>> {
        loop {
            match wire::receive(input) {
                Ok(Some(Message::Layer(layer))) => self.layer(&layer, input)?,
                Ok(Some(Message::Linked(layer))) => self.linked(layer)?,
                Ok(Some(Message::Image(image))) => self.work.images.push(image),
                Ok(Some(Message::Name(name))) => self.work.names.push(name),
                Ok(Some(Message::Commit)) => return self.commit().map(Some),
                Ok(Some(Message::Request(_))) => return Err(failed("a second request")),
                Ok(None) => return Ok(None),
                Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(source) => return Err(source.into()),
            }
        }
    }

    /// The directory for everything that is created; if the run ends early, it is removed.
    fn begin(&mut self) -> Result<&mut Staging> {
        if self.staging.is_none() {
            let staging = Staging::open()?;
            let Self { runtime, containerd, request, .. } = self;
            runtime.block_on(async {
                let expiry = moment::written(SystemTime::now() + LEASE_TIMEOUT);
                containerd.begin_lease(format!("coracle-{}", staging.run()), expiry).await?;
                // What exists now must not be removed while the rest arrives.
                for wanted in &request.images {
                    let chains = chain_ids(&wanted.diff_ids);
                    if let Some(top) = present(containerd, &chains).await?.checked_sub(1) {
                        containerd.keep_snapshot(&chains[top]).await?;
                    }
                }
                Ok::<_, Trouble>(())
            })?;
            self.staging = Some(staging);
        }
        self.staging.as_mut().ok_or_else(|| failed("there is no directory for layers"))
    }

    fn end(&mut self, wait: bool) -> Result<()> {
        self.staging = None;
        self.runtime.block_on(self.containerd.end_lease(wait))
    }

    /// Unpacks a layer, and keeps it if its digest is right.
    fn layer(&mut self, layer: &Layer, input: &mut impl BufRead) -> Result<()> {
        let directory = self.begin()?.directory()?;
        let (sink, source) = sync_channel(CHUNKS_AHEAD);
        let (pumped, unpacked) = std::thread::scope(|scope| {
            let worker = scope.spawn(|| unpack(Chunks::new(source), &directory));
            let pumped = pump(&mut wire::Chunks::new(input), layer.packing, &sink);
            drop(sink);
            (pumped, worker.join())
        });
        let unpacked = unpacked.map_err(|_| failed("unpacking a layer failed unexpectedly"))?;
        let (digest, size) = match pumped {
            Ok(pumped) => pumped,
            Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => return Err(source.into()),
            Err(source) if layer.diff_id.is_some() => return Err(damaged(format!("a layer is damaged: {source}"))),
            // It was not announced as a layer.
            Err(_) => return Ok(std::fs::remove_dir_all(directory)?),
        };
        if let Some(diff_id) = layer.diff_id.as_ref().filter(|diff_id| **diff_id != digest) {
            return Err(damaged(format!("layer {diff_id} is damaged: its digest is {digest}")));
        }
        match unpacked {
            Ok(unpacked) => {
                self.work.layers.insert(digest, Staged { directory, unpacked, size });
                Ok(())
            }
            Err(source) if layer.diff_id.is_none() && source.kind() != io::ErrorKind::StorageFull => {
                Ok(std::fs::remove_dir_all(directory)?)
            }
            Err(source) => {
                let failure = Trouble::from(source);
                Err(Trouble { message: format!("cannot unpack layer {digest}: {}", failure.message), ..failure })
            }
        }
    }

    /// Keeps a layer that another node of this machine had, and checked.
    fn linked(&mut self, layer: Placed) -> Result<()> {
        self.begin()?;
        let directory = given(&layer.directory)?;
        // Its directories are complete, because they are those of a layer in a store.
        let unpacked = Unpacked { root: true, ..Unpacked::default() };
        self.work.layers.insert(layer.diff_id, Staged { directory, unpacked, size: layer.size });
        Ok(())
    }

    /// Stores everything and makes it visible.
    fn commit(&mut self) -> Result<Vec<Stored>> {
        self.begin()?;
        let Self { runtime, containerd, staging, work, .. } = self;
        let Some(staging) = staging else { return Ok(Vec::new()) };
        runtime.block_on(async {
            let placed = store_layers(containerd, staging, work).await?;
            let records = Records::read(containerd).await?;
            let mut prepared: Vec<Prepared> = Vec::new();
            for image in &work.images {
                prepared.push(record::write(containerd, image).await?);
            }
            for name in &work.names {
                let found = records.find(&name.id);
                let (target, image) =
                    found.ok_or_else(|| failed(format!("image {} was removed in the meantime; try again", name.id)))?;
                prepared.push(Prepared::there(name, target, image));
            }
            for image in &prepared {
                image.show(containerd).await?;
            }
            wait_until_shown(containerd, &prepared).await?;
            Ok(prepared.into_iter().map(|image| image.stored(&placed)).collect())
        })
    }
}

/// Moves the layers of the images into the store, each one on top of the one below it, and returns where they are.
async fn store_layers(containerd: &mut Containerd, staging: &mut Staging, work: &mut Work) -> Result<Vec<Placed>> {
    let mut placed = Vec::new();
    let mut steps = Vec::new();
    let mut known = BTreeSet::new();
    for image in &work.images {
        let diff_ids = diff_ids(image.config.as_bytes())?;
        let chains = chain_ids(&diff_ids);
        let there = present(containerd, &chains).await?;
        for index in there..chains.len() {
            if known.insert(chains[index].clone()) {
                let parent = index.checked_sub(1).map(|below| chains[below].clone()).unwrap_or_default();
                steps.push((diff_ids[index].clone(), chains[index].clone(), parent));
            }
        }
    }
    for (index, (diff_id, chain, parent)) in steps.iter().enumerate() {
        let again = steps[index + 1..].iter().any(|(other, ..)| other == diff_id);
        let layer = work.layers.get(diff_id);
        let layer = layer.ok_or_else(|| failed(format!("layer {diff_id} was neither present nor sent")))?;
        let directory = if again { staging.copy(&layer.directory)? } else { layer.directory.clone() };
        let key = format!("coracle-{}-{index}", staging.run());
        let place = Place { key: &key, chain, parent };
        let path = adopt(containerd, &place, &directory, &layer.unpacked, layer.size).await?;
        let directory = path.to_string_lossy().into_owned();
        placed.push(Placed { diff_id: diff_id.clone(), directory, size: layer.size });
    }
    Ok(placed)
}

/// Waits until the kubelet's runtime shows the images: it learns of them a little later.
async fn wait_until_shown(containerd: &mut Containerd, images: &[Prepared]) -> Result<()> {
    let deadline = Instant::now() + SHOW_TIMEOUT;
    for image in images {
        for name in &image.names {
            loop {
                let shown = containerd.shown(name).await;
                if shown.as_ref().is_ok_and(|shown| shown.as_ref() == Some(&image.image)) {
                    break;
                }
                if Instant::now() > deadline {
                    let why = shown.err().map(|failure| format!(": {}", failure.message)).unwrap_or_default();
                    return Err(failed(format!("the node's runtime does not show image `{name}`{why}")));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}
