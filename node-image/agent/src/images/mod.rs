//! Images on their way out of the engine's store (`coracle-agent images read`, in a helper container), into a node
//! (`coracle-agent images receive`, in the node), and from there into other nodes (`coracle-agent images link`, in another helper).
//!
//! Layers are unpacked while they arrive, into directories unknown to containerd. Once everything was sent and verified,
//! they are moved into containerd's store, and the images get their names. If a run ends before that, everything that it
//! created is removed, and the store is unchanged.

mod adopt;
mod attributes;
mod containerd;
mod content;
mod entries;
mod link;
mod pax;
mod proto;
mod read;
mod receive;
mod record;
mod sparse;
#[cfg(test)]
mod sparse_tests;
mod staging;
mod store;
mod trouble;
mod unpack;
#[cfg(test)]
mod unpack_tests;

use std::process::ExitCode;

use coracle_shared::wire::Answer;

/// Runs `images WORD`.
pub(crate) fn main(word: Option<&str>) -> ExitCode {
    let result = match word {
        Some("receive") => receive::main(),
        Some("read") => return read::main(),
        Some("link") => link::main(),
        _ => Err(trouble::failed("the commands of `images` are `link`, `read` and `receive`")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A command that no longer listens needs no answer.
            let _ = receive::answer(&Answer::Failed(failure.into()));
            ExitCode::FAILURE
        }
    }
}
