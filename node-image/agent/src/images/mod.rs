//! Images on their way out of the engine's store (`coracle-agent images read`, in a helper container) and into a node
//! (`coracle-agent images receive`, in the node).
//!
//! Layers are unpacked while they come, into directories that containerd does not know of. When everything was sent and
//! found to be good they are moved into containerd's store, and the images get their names. Whatever ends a run before
//! that, what it made goes, and the store is as it was.

mod adopt;
mod attributes;
mod containerd;
mod content;
mod entries;
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
        _ => Err(trouble::failed("`images` knows `read` and `receive`")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Whoever does not listen any more needs no answer.
            let _ = receive::answer(&Answer::Failed(failure.into()));
            ExitCode::FAILURE
        }
    }
}
