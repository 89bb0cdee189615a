//! `coracle registry login`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::command::Run;
use crate::cli::context::Context;
use crate::cli::options::{JsonOption, name_or_default};
use crate::cli::output::joined;
use crate::cluster::{self, registry};
use crate::config::{self, registry_host};
use crate::engine::address::Environment;
use crate::error::{Code, Error, Result};
use crate::host::credentials;
use crate::plan::node::credentials::Login as Credentials;
use crate::ui::Format;

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Registries, such as `ghcr.io` [default: those of the cluster's previous logins]
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
    /// Name of the cluster [default: coracle]
    #[arg(long, env = "CORACLE_CLUSTER_NAME", value_name = "CLUSTER")]
    cluster: Option<String>,
    #[command(flatten)]
    output: JsonOption,
}

/// Warns of the hosts that nodes do not ask, so that they never see the credentials of another one.
pub(crate) fn warn_of_left_out(context: &Context, registries: &[config::Registry], logins: &[Credentials]) {
    for registry in registries {
        let Some(login) = logins.iter().find(|login| login.host == registry.host) else { continue };
        let left_out = credentials::left_out(registry, login);
        if !left_out.is_empty() {
            context.ui.warn(format!(
                "nodes do not ask {} for images of {}: the credentials belong to {}",
                joined(&left_out),
                registry.host,
                joined(&login.hosts.iter().collect::<Vec<_>>())
            ));
        }
    }
}

impl Run for Login {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let environment = Environment::from_process();
        let mut hosts = self.hosts.clone();
        for host in &hosts {
            registry_host(host).map_err(|cause| Error::new(Code::UsageInvalid, "invalid registry").because(cause))?;
        }
        let (engine, _) = context.connect(&environment).await?;
        let cluster = cluster::get(&*engine, &name_or_default(self.cluster.as_deref())?).await?;
        if hosts.is_empty() {
            hosts.extend(registry::known_hosts(&*engine, &cluster).await?);
        }
        if hosts.is_empty() {
            return Err(Error::new(
                Code::UsageInvalid,
                format!("cluster `{}` has no previous login to renew", cluster.name),
            )
            .hint("name a registry: `coracle registry login HOST`"));
        }
        // A registry with a mirror may get its credentials from there.
        let configured = registry::configured(&*engine, &cluster).await?;
        let entry = |host: &String| {
            let known = configured.iter().find(|registry| registry.host == *host).cloned();
            config::Registry { login: true, ..known.unwrap_or_else(|| config::Registry::new(host)) }
        };
        let wanted: Vec<config::Registry> = hosts.iter().map(entry).collect();
        let logins = credentials::of_registries(environment.docker_config.as_deref(), &wanted).await?;
        warn_of_left_out(context, &wanted, &logins);
        let step = context.ui.step(format!("Giving the nodes credentials for {}", hosts.join(", ")));
        let restarted = registry::log_in(&*engine, &cluster, &wanted, &logins).await?;
        step.finish();
        context.warn_of_stopped(&cluster);
        if restarted > 0 {
            context.ui.note("Restarted the kubelets to load the credentials; pods kept running");
        }
        context.ui.note(
            "The credentials are only in the nodes' memory: `coracle start` restores them; after any other restart, run `coracle registry login`",
        );
        let running = cluster.nodes.iter().filter(|node| node.is_running());
        let nodes: Vec<&str> = running.map(|node| node.name.as_str()).collect();
        context
            .ui
            .result(&json!({"cluster": cluster.name, "hosts": hosts, "nodes": nodes, "kubeletsRestarted": restarted}));
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}
