//! `coracle image build`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::cli::Context;
use crate::cli::load::{self, Load, Target};
use crate::cluster;
use crate::engine::address::Environment;
use crate::error::Result;
use crate::image::{self, Build, Reference};

#[derive(Debug, Args)]
pub(crate) struct BuildImage {
    /// The folder with the sources
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Name of the image
    #[arg(long, short, required = true, value_name = "NAME")]
    tag: Vec<String>,
    /// The Dockerfile, instead of `Dockerfile` in the folder
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Set a variable of the Dockerfile
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// Stop at this stage of the Dockerfile
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    #[command(flatten)]
    pub(crate) into: Target,
    /// More options for `docker build`, after `--`
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

pub(crate) async fn run(context: &Context, arguments: BuildImage) -> Result<()> {
    let BuildImage { folder, tag, file, build_arg, target, into, options } = arguments;
    let tags: Vec<Reference> = tag.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    // What is wrong with the cluster is said before minutes are spent.
    let (engine, address) = context.connect(&Environment::from_process()).await?;
    let cluster = cluster::find(&*engine, &into.cluster()?).await?;
    into.select(&cluster)?;
    let names: Vec<String> = tags.iter().map(Reference::familiar).collect();
    let quiet = context.ui.options().quiet;
    let plan = Build { directory: folder, file, tags, arguments: build_arg, target, options, quiet };
    context.ui.note(format!("Building {}", names.join(", ")));
    tokio::select! {
        built = image::build(&plan, &address, context.ui.stream()) => built?,
        () = context.stop.cancelled() => return Err(crate::engine::finishing::interrupted()),
    }
    load::run(context, Load::docker_images(names, into)).await
}
