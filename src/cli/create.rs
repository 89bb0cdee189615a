//! `coracle create`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use super::options::{KubeconfigOption, NameOption, proxy};
use crate::cluster::create::{self, Created, Options};
use crate::config::{self, Cluster};
use crate::error::{Code, Error, Result};

#[derive(Debug, Subcommand)]
pub(super) enum Create {
    /// Create a cluster and wait until it is usable
    Cluster(Box<CreateCluster>),
}

#[derive(Debug, Args)]
pub(super) struct CreateCluster {
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
    /// Print events and the result as JSON
    #[arg(long, short, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

impl Create {
    pub(super) fn is_json(&self) -> bool {
        let Self::Cluster(arguments) = self;
        arguments.output.is_some()
    }
}

/// `90s`, `5m`, `1h` or a number of seconds.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is not a duration such as `90s` or `5m`"))?;
    match &text[digits.len()..] {
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        unit => Err(format!("`{unit}` is not a unit; use `s`, `m` or `h`")),
    }
}

pub(super) async fn run(context: &Context, create: Create) -> Result<()> {
    let Create::Cluster(arguments) = create;
    let cluster = configuration(&arguments)?;
    for warning in config::warnings(&cluster) {
        context.ui.warn(warning);
    }
    let (engine, local) = context.engine().await?;
    let options = Options {
        wait: arguments.wait,
        retain: arguments.retain,
        kubeconfig: arguments.kubeconfig.location()?,
        proxy: proxy(),
        local,
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

fn configuration(arguments: &CreateCluster) -> Result<Cluster> {
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
    let text = if name == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let mut overrides = overrides;
    if let Some(folder) =
        std::path::absolute(path).ok().and_then(|path| path.parent().map(PathBuf::from)).filter(|_| name != "-")
    {
        overrides.base_directory = Some(folder);
    }
    config::load(&text.map_err(failed)?, &name, &overrides)
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
