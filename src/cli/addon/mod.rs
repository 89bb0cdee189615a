//! `coracle addon`.

use crate::cli::command::commands;

mod disable;
mod enable;
mod list;

commands! {
    pub(crate) enum Addon {
        /// List the available add-ons and which of them a cluster has
        List(list::List),
        /// Enable add-ons in a cluster and wait until they are ready
        Enable(enable::Enable),
        /// Remove add-ons from a cluster
        Disable(disable::Disable),
    }
}
