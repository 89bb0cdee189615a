//! `coracle node`.

use crate::cli::command::commands;

mod start;
mod stop;

commands! {
    pub(crate) enum Node {
        /// Stop nodes; they stay stopped until they are started
        Stop(stop::Stop),
        /// Start nodes and wait until they are usable
        Start(start::Start),
        /// Stop nodes, start them and wait until they are usable
        Restart(start::Restart),
    }
}
