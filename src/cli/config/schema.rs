//! `coracle config schema`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::error::Result;

/// Made of the reader and of its documentation by `tests/it/schema.rs`, which fails when they say something else.
const SCHEMA: &str = include_str!("../../../configs/cluster.schema.json");

#[derive(Debug, Args)]
pub(crate) struct Schema;

impl Run for Schema {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        context.ui.data(SCHEMA)?;
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self) -> bool {
        false
    }
}
