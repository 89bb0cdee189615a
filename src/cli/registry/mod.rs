//! `coracle registry`.

use crate::cli::command::commands;

mod create;
mod delete;
mod list;
mod login;
mod prune;

pub(crate) use login::warn_of_left_out;

commands! {
    pub(crate) enum Registry {
        /// Create a registry on this host that clusters pull from
        Create(create::Create),
        /// Delete a registry and disconnect clusters from it
        Delete(delete::Delete),
        /// List registries and the clusters that use them
        #[command(visible_alias = "ls")]
        List(list::List),
        /// Remove untagged images from a registry
        Prune(prune::Prune),
        /// Give the nodes of a cluster this host's credentials for registries
        Login(login::Login),
    }
}
