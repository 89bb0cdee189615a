//! `coracle image load`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::load::{LoadOptions, Origin, load};
use crate::error::{Code, Error, Result};
use crate::ui::Format;

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Images, by name or ID, or an archive; `-` for an archive on standard input
    #[arg(required = true, value_name = "IMAGE", add = complete::images())]
    images: Vec<String>,
    #[command(flatten)]
    options: LoadOptions,
}

impl Run for Load {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        // No image's name begins like a path.
        let is_archive = |text: &String| text == "-" || text.starts_with(['.', '/']) || Path::new(text).is_file();
        let (archives, names): (Vec<String>, Vec<String>) = self.images.into_iter().partition(is_archive);
        let origin = match (&archives[..], names.is_empty()) {
            ([], _) => Origin::Engine(names),
            ([archive], true) => Origin::Archive(PathBuf::from(archive)),
            _ => return Err(Error::new(Code::UsageInvalid, "load either one archive or images of the engine")),
        };
        load(context, origin, &self.options).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.options.format()
    }
}
