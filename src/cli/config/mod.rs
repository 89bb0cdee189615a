//! `coracle config`: configuration files, without a cluster.

use crate::cli::command::commands;

mod convert;
mod init;
mod schema;
mod validate;
mod view;

commands! {
    pub(crate) enum Config {
        /// Write a first configuration file; asks on a terminal
        Init(init::Init),
        /// Print every problem of configuration files, and create nothing
        Validate(validate::Validate),
        /// Print a configuration with all defaults
        View(view::View),
        /// Print a file of kind or k3d in coracle's own format
        Convert(convert::Convert),
        /// Print the JSON Schema of configuration files, for editors
        Schema(schema::Schema),
    }
}
