//! `coracle port add`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, NameOption, NamespaceOption};
use crate::cluster::lifecycle::delete::{Scope, delete};
use crate::cluster::port::{self, Opened};
use crate::cluster::{self, run};
use crate::engine::SharedEngine;
use crate::engine::finishing::run_to_end;
use crate::error::{Code, Error, Result, counted};
use crate::ui::Format;

/// What the options of the help cannot show.
const EXAMPLES: &str = "Examples:
  coracle port add 8080:30080                      to port 30080 of the nodes
  coracle port add 8080:svc/hello:80               to port 80 of Service hello
  coracle port add 53:svc/dns:53/udp --namespace shop
  coracle port add 0.0.0.0:8080:30080 '[::1]:8080:30080'
  coracle port add 9000-9003:30000-30003           four ports
  coracle port add :svc/hello:80                   from any free port";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Add {
    /// [ADDRESS:]PORT:NODE-PORT or [ADDRESS:]PORT:svc/[NAMESPACE/]NAME:PORT, each with /tcp or /udp
    #[arg(value_name = "MAPPING", required = true)]
    mappings: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceOption,
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for Add {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, local) = context.engine().await?;
        let name = self.name.get()?;
        let cluster = cluster::get(&*engine, &name).await.map_err(|error| self.about_namespaces(error))?;
        let namespace = self.namespace.get(&cluster);
        let step = context.ui.step(format!("Adding {}", counted(self.mappings.len(), "port")));
        let id = run::new_id();
        let work = async |engine: SharedEngine| {
            let run = run::Run::new(&engine, &context.ui, &*id, Duration::ZERO);
            port::add(&run, &cluster, &self.mappings, &namespace, local).await
        };
        let made = async {
            let result = run_to_end(&engine, &context.stop, work).await;
            if result.is_err()
                && let Err(error) = delete(&engine, &Scope::Run(id.clone())).await
            {
                context.ui.warn(format!("what was made could not be removed: {error}"));
            }
            result
        };
        let opened = context.clean_up_after(made).await?;
        step.finish();
        for port in &opened {
            let host = host(&port.host_address, port.host_port);
            let node = port.node.as_ref().map(|node| format!(", by node {node}")).unwrap_or_default();
            context.ui.note(format!("{host}/{} leads to {}{node}", port.protocol, words(port)));
            if let Some(cause) = &port.cause {
                context.ui.warn(format!("nothing answers at {host} yet: {cause}"));
            }
        }
        context.ui.result(&json!({ "cluster": cluster.name, "ports": opened }));
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

impl Add {
    /// Who knows kubectl may have meant a namespace.
    fn about_namespaces(&self, error: Error) -> Error {
        let is_of_service = self.mappings.iter().any(|mapping| mapping.contains(":svc/"));
        if error.code() == Code::ClusterNotFound && is_of_service && self.name.given().is_some() {
            return error.hint("`-n` names the cluster; the namespace of a Service is `--namespace NAMESPACE`");
        }
        error
    }
}

/// Where a port leads, in words.
fn words(port: &Opened) -> String {
    match port.target.strip_prefix("svc/") {
        Some(service) => format!("Service {service}"),
        None => format!("node port {}", port.target),
    }
}

/// An address with a port.
pub(super) fn host(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}
