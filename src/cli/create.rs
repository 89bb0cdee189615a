//! `coracle create`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::options::{JsonOption, KubeconfigOption, NameOption};
use crate::cli::{Context, input};
use crate::cluster::lifecycle::create::{self, Created, Options};
use crate::config::{self, Cluster};
use crate::engine::address::Environment;
use crate::error::{Code, Error, Result};
use crate::host::{credentials, proxy};

#[derive(Debug, Subcommand)]
pub(crate) enum Create {
    /// Create a cluster and wait until it is usable
    Cluster(Box<CreateCluster>),
}

#[derive(Debug, Args)]
pub(crate) struct CreateCluster {
    #[command(flatten)]
    name: NameOption,
    /// Configuration file, `-` for standard input
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Node image
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Number of worker nodes, instead of those in the configuration
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Number of control plane nodes, instead of those in the configuration
    #[arg(long, value_name = "N")]
    control_planes: Option<usize>,
    #[command(flatten)]
    kubeconfig: KubeconfigOption,
    /// How long to wait until the cluster is usable, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    wait: Duration,
    /// Keep the nodes when it fails
    #[arg(long)]
    retain: bool,
    /// Print what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
    /// Print where the time went
    #[arg(long)]
    timings: bool,
    #[command(flatten)]
    output: JsonOption,
}

impl Create {
    pub(crate) fn is_json(&self) -> bool {
        let Self::Cluster(arguments) = self;
        arguments.output.is_json()
    }
}

/// `90s`, `5m`, `1h30m` or a number of seconds.
pub(crate) fn duration(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as `90s`, `5m` or `1h30m`");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..end].parse().map_err(|_| wrong())?;
        let seconds = match rest[end..].chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            _ => return Err(wrong()),
        };
        total += number.checked_mul(seconds).ok_or_else(wrong)?;
        rest = &rest[end + 1..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

pub(crate) async fn run(context: &Context, create: Create) -> Result<()> {
    let Create::Cluster(arguments) = create;
    let cluster = configuration(context, &arguments).await?;
    for warning in config::warnings(&cluster) {
        context.ui.warn(warning);
    }
    let environment = Environment::from_process();
    let (engine, address) = context.connect(&environment).await?;
    let local = address.is_local();
    let options = Options {
        wait: arguments.wait,
        retain: arguments.retain,
        kubeconfig: arguments.kubeconfig.location()?,
        proxy: proxy::settings(&context.ui, &environment, &address),
        local,
        logins: credentials::of_registries(environment.docker_config.as_deref(), &cluster.registries).await?,
    };
    if arguments.dry_run {
        let plan = create::dry_run(&engine, cluster, &options, &context.ui).await?;
        return context.ui.data(&crate::yaml::to_string(&plan.describe())?);
    }
    context.ui.note(format!("Creating cluster `{}`", cluster.name));
    let created = create::create(&engine, cluster, &options, &context.ui, &context.stop).await?;
    if arguments.timings {
        context.ui.print_timings();
    }
    finish(context, &created);
    Ok(())
}

async fn configuration(context: &Context, arguments: &CreateCluster) -> Result<Cluster> {
    let overrides = config::Overrides {
        name: arguments.name.name.clone(),
        image: arguments.image.clone(),
        workers: arguments.workers,
        control_planes: arguments.control_planes,
        base_directory: std::env::current_dir().ok(),
    };
    let Some(path) = &arguments.config else { return config::load("", "", &overrides) };
    let name = path.display().to_string();
    let failed = |source: std::io::Error| Error::new(Code::FileFailed, format!("cannot read `{name}`")).cause(&source);
    let text =
        if name == "-" { input::read(&context.stop).await? } else { std::fs::read_to_string(path).map_err(failed)? };
    let mut overrides = overrides;
    if let Some(folder) =
        std::path::absolute(path).ok().and_then(|path| path.parent().map(PathBuf::from)).filter(|_| name != "-")
    {
        overrides.base_directory = Some(folder);
    }
    config::load(&text, &name, &overrides)
}

fn finish(context: &Context, created: &Created) {
    let ui = &context.ui;
    ui.result(&json!({
        "context": created.context,
        "server": created.server,
        "kubernetesVersion": created.version,
        "nodes": created.nodes,
        "missing": created.missing,
    }));
    for missing in &created.missing {
        ui.warn(missing);
    }
    ui.note(format!("Kubernetes {} is ready; kubectl's context is `{}`", created.version, created.context));
    ui.hint("try `kubectl get nodes`, or `coracle kubectl get nodes` without kubectl installed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_kind_users_write_them() {
        let seconds = |text: &str| duration(text).map(|duration| duration.as_secs());
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("120s"), Ok(120));
        assert_eq!(seconds("1h2m3s"), Ok(3723));
        assert_eq!(seconds("0s"), Ok(0));
        for wrong in ["", "s", "5x", "m5", "1.5m", "-1s", "5m3", "99999999999999999h"] {
            assert!(duration(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
