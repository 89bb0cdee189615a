//! `coracle image build`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::load::{LoadOptions, Origin, load};
use crate::cluster;
use crate::engine::address::Environment;
use crate::error::Result;
use crate::image::{self, Reference};
use crate::ui::Format;

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Directory with the sources
    #[arg(value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
    /// Name of the image
    #[arg(long, short, required = true, value_name = "NAME")]
    tag: Vec<String>,
    /// Dockerfile [default: `Dockerfile` in the directory]
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Set a build argument of the Dockerfile
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    arguments: Vec<String>,
    /// Build only up to this stage of the Dockerfile
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    #[command(flatten)]
    load: LoadOptions,
    /// More options for `docker build`, after `--`
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

impl Run for Build {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let tags: Vec<Reference> = self.tag.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        // What is wrong with the cluster is reported before minutes are spent.
        let (engine, address) = context.connect(&Environment::from_process()).await?;
        let cluster = cluster::get(&*engine, &self.load.cluster()?).await?;
        self.load.select(&cluster)?;
        let names: Vec<String> = tags.iter().map(Reference::familiar).collect();
        let plan = image::Build {
            directory: self.directory,
            file: self.file,
            tags,
            arguments: self.arguments,
            target: self.target,
            options: self.options,
            quiet: context.ui.options().quiet,
        };
        context.ui.note(format!("Building {}", names.join(", ")));
        image::build(&plan, &address, context.ui.stream()).await?;
        load(context, Origin::Engine(names), &self.load).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.load.format()
    }
}
