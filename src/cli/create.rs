//! `coracle create`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::timeout;

use crate::cli::command::{Run, commands};
use crate::cli::context::Context;
use crate::cli::input::{self, Source};
use crate::cli::options::{KubeconfigOption, PositionalName, duration, parse_name};
use crate::cli::registry::warn_of_left_out;
use crate::cli::{as_kind, summary, usage};
use crate::cluster::lifecycle::create::{self, Created, Options};
use crate::cluster::lifecycle::together;
use crate::config::upstream::Written;
use crate::config::{self, ClusterConfig, ClusterName, Durability, Overrides};
use crate::engine::SharedEngine;
use crate::engine::address::Environment;
use crate::engine::helper::unique_id;
use crate::error::{Code, Error, Result};
use crate::host::{credentials, kubectl, proxy};
use crate::kubeconfig::Location;
use crate::plan::Plan;
use crate::ui::Format;

/// How long the API server may take to answer where the cluster is not awaited.
const API_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long the engine is asked for what else is wrong with a configuration that has mistakes.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3);

commands! {
    pub(crate) enum Create {
        /// Create a cluster and wait until it is usable
        Cluster(Box<CreateCluster>),
    }
}

/// What a cluster is.
#[derive(Debug, Args)]
pub(crate) struct ClusterOptions {
    /// Configuration file, or `-` for standard input
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Generate the name from this prefix and a random suffix, and print it
    #[arg(long, value_name = "PREFIX")]
    generate_name: Option<String>,
    #[command(flatten)]
    flags: ClusterFlags,
}

/// What the command line says of a cluster, in place of its configuration.
#[derive(Debug, Default, Args)]
pub(crate) struct ClusterFlags {
    /// Image to use for the nodes
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Number of worker nodes; overrides the configuration
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Number of control plane nodes; overrides the configuration
    #[arg(long, value_name = "N")]
    control_planes: Option<usize>,
    /// What etcd promises: `safe`, or `ephemeral` for a faster cluster that may lose data when the power fails
    #[arg(long, value_name = "KIND", value_parser = durability)]
    durability: Option<Durability>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct CreateCluster {
    #[command(flatten)]
    name: PositionalName,
    #[command(flatten)]
    cluster: ClusterOptions,
    #[command(flatten)]
    kubeconfig: KubeconfigOption,
    /// How long to wait until the cluster is usable, such as `90s` or `5m`; `0s` does not wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    wait: Duration,
    /// How long the cluster lives, such as `2h`; then its nodes stop, and the next coracle command deletes it
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Stop the nodes when the API has not been used for this long, such as `30m`; `coracle start` starts them again
    #[arg(long, value_name = "DURATION")]
    idle_stop: Option<String>,
    /// Make the cluster look like a kind cluster to scripts and tools: context `kind-NAME`, kind's labels and network
    #[arg(long)]
    as_kind: bool,
    /// Keep the nodes if the cluster cannot be created
    #[arg(long)]
    retain: bool,
    /// Write the logs of the nodes to this directory if the cluster cannot be created [default: a directory in the cache]
    #[arg(long, value_name = "DIR")]
    logs_on_failure: Option<PathBuf>,
    /// Print a summary of what would be created, and create nothing; with `-o yaml`, every container and file
    #[arg(long)]
    dry_run: bool,
    /// Print how long each step took, and what it waited for
    #[arg(long)]
    timings: bool,
    /// Print events and the result as JSON; `yaml` is for `--dry-run`
    #[arg(long, short, value_name = "FORMAT", value_parser = ["json", "yaml"])]
    output: Option<String>,
}

impl Run for CreateCluster {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let is_yaml = self.output.as_deref() == Some("yaml");
        if is_yaml && !self.dry_run {
            return Err(Error::new(Code::UsageInvalid, "`--output yaml` is for `--dry-run`")
                .hint("add `--dry-run`, or use `--output json`"));
        }
        let generated = self.cluster.generated_name(self.name.is_typed())?;
        let given = self.name.given()?.map(str::to_owned);
        let overrides = Overrides {
            name: generated.clone().or(given),
            ttl: self.ttl.clone(),
            idle_stop: self.idle_stop.clone(),
            kind_network: self.as_kind.then(as_kind::network),
            ..Overrides::default()
        };
        let (cluster, written) = self.cluster.read(context, overrides).await?;
        if !self.as_kind {
            warn_of_kind(context, &self, &cluster)?;
        }
        let (engine, options) = prepare(context, &cluster, self.kubeconfig.location()?).await?;
        let options = Options {
            // The API server must answer all the same: what makes nodes a cluster is written to it.
            wait: if self.wait.is_zero() { API_TIMEOUT } else { self.wait },
            is_awaited: !self.wait.is_zero(),
            retain: self.retain,
            logs: self.logs_on_failure.clone(),
            written,
            ..options
        };
        if self.dry_run {
            let plan = create::dry_run(&engine, cluster, &options, &context.ui).await?;
            return show(context, &plan, is_yaml);
        }
        context.ui.note(format!("Creating cluster `{}`", cluster.name));
        let work = Box::pin(create::create(&engine, cluster, &options, &context.ui, &context.stop));
        let created = context.clean_up_after(work).await;
        if self.timings {
            context.ui.print_timings();
        }
        let created = created?;
        if let Some(name) = generated.filter(|_| self.output.is_none()) {
            context.ui.data(&name)?;
        }
        finish(context, &created, options.is_awaited);
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self) -> bool {
        !self.dry_run
    }

    fn format(&self) -> Format {
        if self.output.as_deref() == Some("json") { Format::Json } else { Format::Plain }
    }
}

/// Warns of what kind reads from the environment and coracle does not.
fn warn_of_kind(context: &Context, arguments: &CreateCluster, cluster: &ClusterConfig) -> Result<()> {
    // Without a file, the command line is looked at for every command.
    let in_file = arguments.cluster.config.is_some() && arguments.name.given()?.is_none();
    let is_default = in_file && cluster.name.as_str() == ClusterName::DEFAULT;
    if let Some(warning) = usage::other_name(usage::kind_name().as_deref()).filter(|_| is_default) {
        context.ui.warn(warning);
    }
    for (name, usual) in [("KIND_EXPERIMENTAL_PROVIDER", "docker"), ("KIND_EXPERIMENTAL_DOCKER_NETWORK", "")] {
        if let Some(value) = std::env::var(name).ok().filter(|value| !value.is_empty() && value != usual) {
            context.ui.warn(format!("{name} is `{value}`, but coracle does not read it"));
        }
    }
    Ok(())
}

/// What etcd promises, by its word.
fn durability(word: &str) -> std::result::Result<Durability, String> {
    let known = Durability::WORDS.iter().find(|(known, _)| *known == word);
    let words: Vec<&str> = Durability::WORDS.iter().map(|(word, _)| *word).collect();
    known.map(|(_, durability)| *durability).ok_or_else(|| format!("it is one of `{}`", words.join("`, `")))
}

/// Prints a plan: a summary, or all of it.
fn show(context: &Context, plan: &Plan, is_yaml: bool) -> Result<ExitCode> {
    if is_yaml {
        context.ui.data(&crate::yaml::to_string(&plan.describe())?)?;
    } else if context.ui.options().format == Format::Json {
        context.ui.result(&json!({"plan": plan.describe()}));
    } else {
        context.ui.data(&summary::of(plan))?;
        context.ui.hint("`--output yaml` prints every container and file");
    }
    Ok(ExitCode::SUCCESS)
}

/// Connects to the engine, and asks this host for what the options of a create need of it; warns of what is odd.
pub(crate) async fn prepare(
    context: &Context,
    cluster: &ClusterConfig,
    kubeconfig: Location,
) -> Result<(SharedEngine, Options)> {
    for warning in config::warnings(cluster) {
        context.ui.warn(warning);
    }
    let environment = Environment::from_process();
    let (engine, address) = context.connect(&environment).await?;
    let local = engine.place().is_host();
    let (proxy, proxy_file) = proxy::settings(&environment, &address);
    if let Some(file) = proxy_file {
        context.ui.note(format!("The nodes get the proxy settings in {}", file.display()));
    }
    let logins = credentials::of_registries(environment.docker_config.as_deref(), &cluster.registries).await?;
    warn_of_left_out(context, &cluster.registries, &logins);
    let options = Options {
        wait: API_TIMEOUT,
        is_awaited: true,
        retain: false,
        logs: None,
        cache: kubectl::cache().ok(),
        kubeconfig,
        proxy,
        local,
        docker_config: environment.docker_config.clone(),
        written: None,
        logins,
    };
    Ok((engine, options))
}

/// A name that no other cluster has: this and a random end.
pub(crate) fn name_from(prefix: &str) -> String {
    let id = unique_id();
    format!("{prefix}-{}", &id[id.len().saturating_sub(6)..])
}

/// The configuration in a file, as `create cluster --config` reads it.
pub(crate) async fn configuration(file: &Path, name: Option<&str>) -> Result<ClusterConfig> {
    let overrides = Overrides { name: name.map(str::to_owned), ..Overrides::default() };
    read(None, Some(file), &ClusterFlags::default(), overrides).await.map(|(cluster, _)| cluster)
}

impl ClusterOptions {
    /// The name of `--generate-name`, with another end each time. It is a mistake beside a name.
    pub(crate) fn generated_name(&self, is_named: bool) -> Result<Option<String>> {
        let Some(prefix) = &self.generate_name else { return Ok(None) };
        if is_named {
            return Err(Error::new(Code::UsageInvalid, "`--generate-name` cannot be combined with a name")
                .hint("omit one of them: `--generate-name ci` generates a name such as `ci-4f7a1c`"));
        }
        Ok(Some(parse_name(&name_from(prefix.trim_end_matches('-')))?.to_string()))
    }

    /// Reads the configuration, with what the command line says.
    pub(crate) async fn read(
        &self,
        context: &Context,
        overrides: Overrides,
    ) -> Result<(ClusterConfig, Option<Written>)> {
        read(Some(context), self.config.as_deref(), &self.flags, overrides).await
    }
}

/// Reads a configuration, or takes the default cluster if there is no file, with what the command line says. With a
/// context, an error also has what this host, the images and the files of the configuration have wrong.
pub(crate) async fn read(
    context: Option<&Context>,
    file: Option<&Path>,
    flags: &ClusterFlags,
    overrides: Overrides,
) -> Result<(ClusterConfig, Option<Written>)> {
    let overrides = Overrides {
        image: flags.image.clone(),
        workers: flags.workers,
        control_planes: flags.control_planes,
        durability: flags.durability,
        ..overrides
    };
    let Some(path) = file else {
        let overrides = Overrides { base_directory: std::env::current_dir().ok(), ..overrides };
        return Ok((config::load("", "", &overrides)?, None));
    };
    let Source { written, base_directory } = input::configuration(path).await?;
    let (cluster, problems) =
        config::load_partly(&written.text, &written.file, &Overrides { base_directory, ..overrides });
    if problems.is_empty() {
        return Ok((cluster, Some(written)));
    }
    let error = config::invalid(&written.file, problems);
    let Some(context) = context else { return Err(error) };
    let more = async {
        let Ok((engine, _)) = context.engine().await else { return error.clone() };
        together::with_the_rest(&*engine, &cluster, &written, engine.place().is_host(), error.clone()).await
    };
    // Without an engine, the mistakes in the text are told all the same.
    Err(timeout(ENGINE_TIMEOUT, more).await.unwrap_or_else(|_| error.clone()))
}

fn finish(context: &Context, created: &Created, is_awaited: bool) {
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
    let state = if is_awaited { "is ready" } else { "is starting" };
    ui.note(format!("Kubernetes {} {state}; kubectl's context is `{}`", created.version, created.context));
    ui.hint("try `kubectl get nodes`, or `coracle kubectl get nodes` if kubectl is not installed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_can_be_names() {
        assert_ne!(name_from("run"), name_from("run"));
        assert!(parse_name(&name_from("run")).is_ok());
    }
}
