//! What a command is, and how an enum of commands runs the one that was typed.

use std::process::ExitCode;

use crate::cli::context::Context;
use crate::error::Result;
use crate::ui::Format;

/// What was typed, ready to run.
pub(crate) trait Run {
    /// Runs it, and returns the exit code of a command that did what it is for.
    async fn run(self, context: &Context) -> Result<ExitCode>;

    /// Whether clusters whose time is over are removed first; not by commands that only look, or give them more time.
    fn sweeps(&self) -> bool {
        true
    }

    /// How progress and errors are written; commands with [`JsonOption`](crate::cli::options::JsonOption) let it decide.
    fn format(&self) -> Format {
        Format::Plain
    }
}

/// An enum of subcommands; a line in it is all that a command needs, beside its file.
macro_rules! commands {
    ($visibility:vis enum $name:ident { $($(#[$about:meta])* $command:ident($arguments:ty),)+ }) => {
        #[derive(Debug, clap::Subcommand)]
        $visibility enum $name { $($(#[$about])* $command($arguments),)+ }

        impl $crate::cli::command::Run for $name {
            async fn run(
                self,
                context: &$crate::cli::context::Context,
            ) -> $crate::error::Result<std::process::ExitCode> {
                match self { $(Self::$command(arguments) => arguments.run(context).await,)+ }
            }

            fn sweeps(&self) -> bool {
                match self { $(Self::$command(arguments) => arguments.sweeps(),)+ }
            }

            fn format(&self) -> $crate::ui::Format {
                match self { $(Self::$command(arguments) => arguments.format(),)+ }
            }
        }
    };
}

pub(crate) use commands;
