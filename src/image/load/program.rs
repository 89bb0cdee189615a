//! The agent's program in a helper container, which works on the engine's own directories.

use crate::agent;
use crate::engine::helper::{self, Helper};
use crate::engine::spec::{ContainerSpec, Labels, Mount, NO_NETWORK, Privilege};
use crate::engine::{Conversation, Engine, SharedEngine};
use crate::error::{Code, Error, Result};
use crate::plan::labels;

/// The path of the program in the helper.
const PROGRAM: &str = "/usr/local/bin/coracle-reader";
/// Labels of a node that its helper has too, so that the helper is removed with the node.
const KEPT_LABELS: [&str; 3] = [labels::CLUSTER, labels::RUN, labels::EXPIRES];
/// The role that distinguishes a helper from nodes.
const ROLE: &str = labels::ContainerRole::Reader.as_str();

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

fn failed(why: &str) -> Error {
    Error::new(Code::LoadFailed, "the helper cannot be started").because(why)
}
