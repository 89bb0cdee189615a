//! `coracle port`.

use crate::cli::command::commands;

mod add;
mod list;
mod remove;

pub(crate) use list::List;

commands! {
    pub(crate) enum Port {
        /// Forward ports of this host to node ports or Services
        Add(add::Add),
        /// Remove ports that were added
        #[command(visible_alias = "rm")]
        Remove(remove::Remove),
        /// List the ports of this host that lead into a cluster
        #[command(visible_alias = "ls")]
        List(list::List),
    }
}
