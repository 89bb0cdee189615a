//! The agent's program in a helper container, which works on the engine's own directories.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use coracle_shared::wire::{self, Answer};
use futures_util::{Stream, TryStreamExt};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::io::StreamReader;

use crate::agent;
use crate::engine::helper::{self, Helper};
use crate::engine::spec::{ContainerSpec, Labels, Mount, NO_NETWORK, Privilege};
use crate::engine::{Conversation, Engine, Said, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::plan::labels;

/// The path of the program in the helper.
const PROGRAM: &str = "/usr/local/bin/coracle-reader";
/// Labels of a node that its helper has too, so that the helper is removed with the node.
const KEPT_LABELS: [&str; 3] = [labels::CLUSTER, labels::RUN, labels::EXPIRES];
/// The role that distinguishes a helper from nodes.
const ROLE: &str = labels::ContainerRole::Reader.as_str();

/// The longest first line of a helper, bytes.
const MAX_LINE: u64 = 64 << 10;

/// What a helper reads.
pub(crate) type Input = Pin<Box<dyn AsyncWrite + Send>>;
/// What a helper prints.
pub(crate) type Output = StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

/// Starts a helper, and removes those that other commands have left.
pub(crate) async fn begin(engine: &SharedEngine, spec: ContainerSpec) -> Result<(Helper, Conversation)> {
    let begun = async {
        let helper = Helper::create(engine, spec).await?;
        // The program of this command, whichever the node image has.
        let program =
            agent::tar(PROGRAM).map_err(|source| failed("its program cannot be unpacked").with_cause(&source))?;
        engine.upload(helper.name(), program).await?;
        let ends = engine.attach(helper.name()).await?;
        engine.start_container(helper.name()).await?;
        Ok((helper, ends))
    };
    tokio::join!(begun, helper::sweep(&**engine)).0
}

/// A container that runs `images WORD` with these mounts and privileges, and without a network.
pub(crate) async fn spec(
    engine: &dyn Engine,
    node: &str,
    word: &str,
    mounts: Vec<Mount>,
    privilege: Privilege,
) -> Result<ContainerSpec> {
    let found = engine.inspect(node).await?.ok_or_else(|| failed("the node was removed"))?;
    let label = |key: &str| found.labels.get(key).map(|value| (key.to_owned(), value.clone()));
    let mut labels: Labels = KEPT_LABELS.iter().filter_map(|key| label(key)).collect();
    labels.insert(labels::ROLE.to_owned(), ROLE.to_owned());
    // A `reader`, or a `linker`.
    let name = format!("{node}-{word}er-{}", helper::unique_id());
    Ok(ContainerSpec {
        entrypoint: Some(vec![PROGRAM.to_owned()]),
        command: Some(vec!["images".to_owned(), word.to_owned()]),
        labels,
        network: Some(NO_NETWORK.to_owned()),
        mounts,
        privilege,
        attached: true,
        // The name is longer than a host name may be.
        hostname: "reader".to_owned(),
        ..ContainerSpec::new(name, found.image)
    })
}

/// Asks a helper, and returns its answer, and both ends for what comes after it.
pub(crate) async fn first_answer(ends: Conversation, request: &impl Serialize) -> io::Result<(Answer, Input, Output)> {
    let mut line = Vec::new();
    wire::send(&mut line, request)?;
    let mut input = ends.input;
    input.write_all(&line).await?;
    input.flush().await?;
    let bytes = ends.output.try_filter_map(|said| async move {
        Ok(match said {
            Said::Output(bytes) => Some(bytes),
            Said::Error(_) => None,
        })
    });
    let bytes: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> = Box::pin(bytes);
    let mut output = StreamReader::new(bytes);
    let mut line = Vec::new();
    (&mut output).take(MAX_LINE).read_until(b'\n', &mut line).await?;
    Ok((serde_json::from_slice(&line)?, input, output))
}

fn failed(why: &str) -> Error {
    Error::new(Code::LoadFailed, "the helper cannot be started").because(why)
}
