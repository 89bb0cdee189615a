//! `coracle registry delete`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, RegistryNameOption};
use crate::cli::output::joined;
use crate::cluster::registry::{self, RegistryRemoval};
use crate::error::Result;
use crate::ui::Format;

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    name: RegistryNameOption,
    /// Also delete the volume with its images
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Delete {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let name = self.name.get()?;
        let (engine, _) = context.engine().await?;
        let removed = if registry::is_absent(&*engine, &name).await? {
            RegistryRemoval::default()
        } else {
            let step = context.ui.step(format!("Deleting registry `{name}`"));
            let removed = registry::delete(&engine, &name, self.volumes).await?;
            step.finish();
            removed
        };
        for (cluster, why) in &removed.connected {
            context.ui.warn(format!("cluster `{cluster}` is still configured for the registry: {why}"));
        }
        if !removed.disconnected.is_empty() {
            let clusters = joined(&removed.disconnected);
            context.ui.note(format!("Disconnected from {clusters}; running pods are unaffected, new pulls will fail"));
        }
        if !removed.container && !removed.volume && !removed.kept {
            context.ui.note(format!("There is no registry `{name}`, so nothing was deleted"));
        }
        if removed.kept {
            context.ui.note(format!("Its images are kept in the volume `{name}`, for the next registry of this name"));
            if let Some(port) = removed.port {
                let again = format!("`coracle registry create --name {name} --port {port}`");
                context.ui.hint(format!("{again} brings it back with its images"));
            }
            context.ui.hint(format!("`coracle registry delete --name {name} --volumes` deletes them"));
        }
        let images = if removed.volume { "deleted" } else { "kept" };
        context.ui.result(&json!({
            "name": name, "deleted": removed.container, "images": (removed.volume || removed.kept).then_some(images),
            "clusters": removed.disconnected, "untold": removed.connected.iter().map(|(cluster, _)| cluster).collect::<Vec<_>>(),
        }));
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
