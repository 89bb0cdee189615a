//! `coracle tunnel`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::options::{NameOption, NamespaceOption};
use crate::cluster;
use crate::cluster::run::new_id;
use crate::cluster::tunnel;
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct Tunnel {
    /// Names of the Services [default: all that have an address]
    #[arg(value_name = "SERVICE", add = complete::services())]
    services: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceOption,
    #[command(flatten)]
    name: NameOption,
}

impl Run for Tunnel {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let name = self.name.get()?;
        let cluster = cluster::get(&*engine, &name).await?;
        let namespace = self.namespace.get(&cluster);
        let forwards = tunnel::forwards(&engine, &cluster, &namespace, &self.services).await?;
        let (id, step) = (new_id(), context.ui.step("Opening the tunnel"));
        let work = async {
            // Not interrupted: a container that is half made could not be removed.
            let mut result = tunnel::open(&engine, &cluster, &forwards, &id, &step).await;
            if result.is_ok() {
                step.finish();
                let lines = forwards.iter().map(|forward| format!("{}\t{}\n", forward.service, forward.url()));
                result = context.ui.data(&lines.collect::<String>());
            }
            if result.is_ok() {
                context.ui.note("The tunnel is open until Ctrl-C; `coracle url SERVICE` prints the same URLs");
                context.stop.cancelled().await;
            }
            tunnel::close(&*engine, &id).await?;
            result
        };
        context.clean_up_after(work).await?;
        Ok(ExitCode::SUCCESS)
    }
}
