//! `coracle image`.

use crate::cli::command::commands;

mod build;
mod load;
mod ls;
mod prune;
mod pull;
mod rm;
mod selection;
mod tag;

commands! {
    pub(crate) enum Image {
        /// List the images in the nodes
        #[command(visible_alias = "list")]
        Ls(ls::Ls),
        /// Load images from the local engine or from an archive into the nodes
        #[command(visible_alias = "import")]
        Load(load::Load),
        /// Build an image in the local engine and load it into the nodes
        Build(build::Build),
        /// Pull images into the nodes, using the cluster's mirrors and credentials
        Pull(pull::Pull),
        /// Give an image another name in the nodes
        Tag(tag::Tag),
        /// Remove images from the nodes
        #[command(visible_aliases = ["remove", "unload"])]
        Rm(rm::Rm),
        /// Remove unused images from the nodes
        Prune(prune::Prune),
    }
}
