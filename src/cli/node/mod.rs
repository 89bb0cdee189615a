//! `coracle node`.

use crate::cli::command::commands;

mod add;
mod list;
mod remove;
mod start;
mod stop;

commands! {
    pub(crate) enum Node {
        /// Add nodes to a running cluster
        Add(add::Add),
        /// List the nodes of a cluster, with their state, version and age
        #[command(visible_alias = "ls")]
        List(list::List),
        /// Remove nodes from a running cluster, after their pods have left
        #[command(visible_alias = "rm")]
        Remove(remove::Remove),
        /// Stop nodes; they stay stopped until they are started
        Stop(stop::Stop),
        /// Start nodes and wait until they are usable
        Start(start::Start),
        /// Stop nodes, start them and wait until they are usable
        Restart(start::Restart),
    }
}
