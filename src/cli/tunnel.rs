//! `coracle tunnel`.

use clap::Args;

use crate::cli::Context;
use crate::cli::options::{NameOption, NamespaceOption};
use crate::cluster;
use crate::cluster::reach::tunnel;
use crate::engine::finishing::interrupted;
use crate::error::Result;

#[derive(Debug, Args)]
pub(crate) struct TunnelArguments {
    /// Names of the Services; all that have an address by default
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceOption,
    #[command(flatten)]
    name: NameOption,
}

pub(crate) async fn run(context: &Context, arguments: TunnelArguments) -> Result<()> {
    let (engine, _) = context.engine().await?;
    let name = arguments.name.get()?;
    let cluster = cluster::find(&*engine, &name).await?;
    let namespace = arguments.namespace.get(&name);
    let forwards = tokio::select! {
        forwards = tunnel::forwards(&engine, &cluster, &namespace, &arguments.services) => forwards?,
        () = context.stop.cancelled() => return Err(interrupted()),
    };
    let step = context.ui.step("Opening the tunnel");
    // Not interrupted: a container that is half made could not be removed.
    let mut result = tunnel::open(&engine, &cluster, &forwards, &step).await;
    if result.is_ok() {
        step.finish();
        let lines = forwards.iter().map(|forward| format!("{}\t{}\n", forward.service, forward.url()));
        result = context.ui.data(&lines.collect::<String>());
    }
    if result.is_ok() {
        context.ui.note("The tunnel is open until Ctrl-C; `coracle url SERVICE` prints the same URLs");
        context.stop.cancelled().await;
    }
    tunnel::close(&engine, &cluster.name).await?;
    result
}
