//! `coracle create`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::command::{Run, commands};
use crate::cli::context::Context;
use crate::cli::input;
use crate::cli::options::{JsonOption, KubeconfigOption, NameOption, duration};
use crate::cluster::lifecycle::create::{self, Created, Options};
use crate::config::{self, ClusterConfig};
use crate::engine::address::Environment;
use crate::error::{Code, Error, Result};
use crate::host::{credentials, proxy};
use crate::ui::Format;

commands! {
    pub(crate) enum Create {
        /// Create a cluster and wait until it is usable
        Cluster(Box<CreateCluster>),
    }
}

#[derive(Debug, Args)]
pub(crate) struct CreateCluster {
    #[command(flatten)]
    name: NameOption,
    /// Configuration file, or `-` for standard input
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Image to use for the nodes
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Number of worker nodes; overrides the configuration
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Number of control plane nodes; overrides the configuration
    #[arg(long, value_name = "N")]
    control_planes: Option<usize>,
    #[command(flatten)]
    kubeconfig: KubeconfigOption,
    /// How long to wait until the cluster is usable, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    wait: Duration,
    /// Keep the nodes if the cluster cannot be created
    #[arg(long)]
    retain: bool,
    /// Write the logs of the nodes to this directory if the cluster cannot be created
    #[arg(long, value_name = "DIR")]
    logs_on_failure: Option<PathBuf>,
    /// Print what would be created, and create nothing
    #[arg(long)]
    dry_run: bool,
    /// Print how long each step took
    #[arg(long)]
    timings: bool,
    #[command(flatten)]
    output: JsonOption,
}

impl Run for CreateCluster {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let cluster = configuration(&self).await?;
        for warning in config::warnings(&cluster) {
            context.ui.warn(warning);
        }
        let environment = Environment::from_process();
        let (engine, address) = context.connect(&environment).await?;
        let local = address.is_local();
        let (proxy, proxy_file) = proxy::settings(&environment, &address);
        if let Some(file) = proxy_file {
            context.ui.note(format!("The nodes get the proxy settings in {}", file.display()));
        }
        let options = Options {
            wait: self.wait,
            retain: self.retain,
            logs: self.logs_on_failure.clone(),
            kubeconfig: self.kubeconfig.location()?,
            proxy,
            local,
            docker_config: environment.docker_config.clone(),
            logins: credentials::of_registries(environment.docker_config.as_deref(), &cluster.registries).await?,
        };
        if self.dry_run {
            let plan = create::dry_run(&engine, cluster, &options, &context.ui).await?;
            context.ui.data(&crate::yaml::to_string(&plan.describe())?)?;
            return Ok(ExitCode::SUCCESS);
        }
        context.ui.note(format!("Creating cluster `{}`", cluster.name));
        let work = Box::pin(create::create(&engine, cluster, &options, &context.ui, &context.stop));
        let created = context.clean_up_after(work).await?;
        if self.timings {
            context.ui.print_timings();
        }
        finish(context, &created);
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> Format {
        self.output.format()
    }
}

async fn configuration(arguments: &CreateCluster) -> Result<ClusterConfig> {
    let overrides = config::Overrides {
        name: arguments.name.given().map(str::to_owned),
        image: arguments.image.clone(),
        workers: arguments.workers,
        control_planes: arguments.control_planes,
        base_directory: std::env::current_dir().ok(),
    };
    let Some(path) = &arguments.config else { return config::load("", "", &overrides) };
    let name = path.display().to_string();
    let failed =
        |source: std::io::Error| Error::new(Code::FileFailed, format!("cannot read `{name}`")).with_cause(&source);
    let text = if name == "-" { input::read().await? } else { std::fs::read_to_string(path).map_err(failed)? };
    let mut overrides = overrides;
    if let Some(directory) =
        std::path::absolute(path).ok().and_then(|path| path.parent().map(PathBuf::from)).filter(|_| name != "-")
    {
        overrides.base_directory = Some(directory);
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
    ui.hint("try `kubectl get nodes`, or `coracle kubectl get nodes` if kubectl is not installed");
}
