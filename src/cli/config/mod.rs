//! `coracle config`: configuration files, without a cluster.

use crate::cli::command::commands;

mod convert;
mod init;
mod schema;
mod validate;
mod view;

commands! {
    pub(crate) enum Config {
        /// Write a new configuration file, asking for its contents on a terminal
        Init(init::Init),
        /// Check configuration files and print every problem
        Validate(validate::Validate),
        /// Print a configuration with all defaults
        View(view::View),
        /// Convert a configuration of kind, k3d or minikube to coracle's format
        Convert(convert::Convert),
        /// Print the JSON Schema of configuration files, for editors
        Schema(schema::Schema),
    }
}
