//! `coracle registry create`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, RegistryNameOption, parse_name};
use crate::cluster::found::Cluster;
use crate::cluster::registry;
use crate::cluster::{self, run};
use crate::engine::SharedEngine;
use crate::engine::finishing::run_to_end;
use crate::error::{Code, Result, counted};
use crate::plan::beside::registry::DEFAULT_PORT;
use crate::plan::facts::Registry;
use crate::ui::{Format, Step};

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    name: RegistryNameOption,
    /// Port on this host [default: 5001]
    #[arg(long, short, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Clusters to connect (comma-separated) [default: all whose configuration does not exclude it]
    #[arg(long, value_name = "CLUSTER", value_delimiter = ',')]
    cluster: Vec<String>,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Create {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let name = self.name.get()?;
        let (engine, local) = context.engine().await?;
        let clusters = clusters(&engine, &name, &self.cluster).await?;
        // Without `--port`, an existing registry keeps its port.
        let existing = registry::find(&*engine, &name).await?.map(|found| found.registry.port);
        let port = self.port.or(existing).unwrap_or(DEFAULT_PORT);
        let registry = Registry { name, port };
        let id = run::new_id();
        let work = async |engine: SharedEngine| {
            let run = run::Run::new(&engine, &context.ui, &*id, Duration::ZERO);
            let new = registry::ensure(&run, &registry, local).await?;
            if local {
                registry::wait(&*engine, &registry).await?;
            }
            let connecting = || context.ui.step(format!("Connecting {}", counted(clusters.len(), "cluster")));
            let step = (!clusters.is_empty()).then(connecting);
            let outcomes = registry::attach_all(&run, &registry, &clusters).await;
            step.into_iter().for_each(Step::finish);
            Ok((new, outcomes))
        };
        let made = async {
            let result = run_to_end(&engine, &context.stop, work).await;
            if result.as_ref().is_err_and(|error| error.code() == Code::Interrupted) {
                registry::abandon(&engine, &registry.name, &id).await?;
            }
            result
        };
        let (new, outcomes) = context.clean_up_after(made).await?;
        let connected = registry::report(outcomes, &registry, &context.ui);
        let host = registry.host();
        let also = if connected.is_empty() {
            String::new()
        } else {
            format!(", from here and from {}", counted(connected.len(), "cluster"))
        };
        context.ui.note(format!("Registry `{}` is reachable at {host}{also}", registry.name));
        context
            .ui
            .hint(format!("`docker tag app {host}/app`, `docker push {host}/app`, and `image: {host}/app` in a pod"));
        context.ui.result(&json!({
            "name": registry.name, "host": host, "port": port, "clusters": connected, "unchanged": !new,
        }));
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

/// The named clusters, or without names those whose configuration is for the registry.
async fn clusters(engine: &SharedEngine, registry: &str, names: &[String]) -> Result<Vec<Cluster>> {
    if names.is_empty() {
        return registry::users(&**engine, registry).await;
    }
    let mut clusters = Vec::new();
    for name in names {
        clusters.push(cluster::get(&**engine, &parse_name(name)?).await?);
    }
    Ok(clusters)
}
