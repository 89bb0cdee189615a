//! `coracle registry`.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Context;
use crate::cli::options::{JsonOption, OutputFormat, parse_name};
use crate::cli::output::{Table, size, structured};
use crate::cluster;
use crate::cluster::found::Cluster;
use crate::cluster::registry::{self, Found, Pruned};
use crate::config::{self, ClusterName, LocalRegistry, registry_host, registry_name};
use crate::engine::SharedEngine;
use crate::engine::address::Environment;
use crate::engine::finishing::run_to_end;
use crate::engine::spec::State;
use crate::error::{Code, Error, Result};
use crate::host::credentials;
use crate::plan::beside::registry::DEFAULT_PORT;
use crate::plan::facts::Registry;
use crate::ui::Step;

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Create a registry on this host that clusters pull from
    Create(CreateArguments),
    /// Delete a registry, and what clusters know of it
    Delete(DeleteArguments),
    /// List registries and the clusters that use them
    #[command(visible_alias = "ls")]
    List(ListArguments),
    /// Remove images from a registry that no tag leads to any more
    Prune(PruneArguments),
    /// Give the nodes of a cluster this host's credentials for registries
    Login(LoginArguments),
}

#[derive(Debug, Args)]
pub(crate) struct NameArgument {
    /// Name of the registry, its container and its volume
    #[arg(long, short, value_name = "NAME", default_value = LocalRegistry::DEFAULT)]
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    #[command(flatten)]
    name: NameArgument,
    /// Its port on this host; 5001 if not given
    #[arg(long, short, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Connect these clusters; if none is named, all whose configuration does not say otherwise
    #[arg(long, value_name = "CLUSTER", value_delimiter = ',')]
    cluster: Vec<String>,
    #[command(flatten)]
    output: JsonOption,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    #[command(flatten)]
    name: NameArgument,
    /// Also delete the volume with its images
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    output: JsonOption,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// How to print
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<OutputFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    #[command(flatten)]
    name: NameArgument,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: JsonOption,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// Registries, such as `ghcr.io`; those of the cluster's last logins if none is named
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
    /// The cluster
    #[arg(long, env = "CORACLE_CLUSTER_NAME", value_name = "CLUSTER", default_value = ClusterName::DEFAULT)]
    cluster: String,
    #[command(flatten)]
    output: JsonOption,
}

impl RegistryCommand {
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Self::Create(arguments) => arguments.output.is_json(),
            Self::Delete(arguments) => arguments.output.is_json(),
            Self::List(_) => false,
            Self::Prune(arguments) => arguments.output.is_json(),
            Self::Login(arguments) => arguments.output.is_json(),
        }
    }

    /// It makes things in the engine that it brings to an end when it is interrupted.
    pub(crate) fn cleans_up(&self) -> bool {
        matches!(self, Self::Create(_))
    }
}

pub(crate) async fn run(context: &Context, command: RegistryCommand) -> Result<()> {
    match command {
        RegistryCommand::Create(arguments) => create(context, &arguments).await,
        RegistryCommand::Delete(arguments) => delete(context, &arguments).await,
        RegistryCommand::List(arguments) => list(context, &arguments).await,
        RegistryCommand::Prune(arguments) => prune(context, &arguments).await,
        RegistryCommand::Login(arguments) => login(context, &arguments).await,
    }
}

impl NameArgument {
    fn get(&self) -> Result<String> {
        registry_name(&self.name)
            .map_err(|cause| Error::new(Code::UsageInvalid, "this is not the name of a registry").because(cause))
    }
}

/// The clusters that are named, or those whose configuration is for the registry when none is.
async fn clusters(engine: &SharedEngine, registry: &str, names: &[String]) -> Result<Vec<Cluster>> {
    if names.is_empty() {
        return registry::users(&**engine, registry).await;
    }
    let mut clusters = Vec::new();
    for name in names {
        clusters.push(cluster::find(&**engine, &parse_name(name)?).await?);
    }
    Ok(clusters)
}

async fn create(context: &Context, arguments: &CreateArguments) -> Result<()> {
    let name = arguments.name.get()?;
    let (engine, local) = context.engine().await?;
    let clusters = clusters(&engine, &name, &arguments.cluster).await?;
    // Without a port one that is there is right as it is.
    let there = registry::find(&*engine, &name).await?.map(|found| found.registry.port);
    let port = arguments.port.or(there).unwrap_or(DEFAULT_PORT);
    let registry = Registry { name, port };
    let work = async |engine: SharedEngine| {
        let new = registry::ensure(&*engine, &registry, local, &context.ui).await?;
        if local {
            registry::wait(&*engine, &registry).await?;
        }
        let step = (!clusters.is_empty()).then(|| context.ui.step(format!("Connecting {}", counted(clusters.len()))));
        let told = registry::attach_all(&*engine, &registry, &clusters).await;
        step.into_iter().for_each(Step::finish);
        Ok((new, told))
    };
    let (new, told) = run_to_end(&engine, &context.stop, work).await?;
    let connected = registry::report(told, &registry, &context.ui);
    let host = registry.host();
    let places =
        if connected.is_empty() { String::new() } else { format!(", here and in {}", counted(connected.len())) };
    context.ui.note(format!("Registry `{}` is at {host}{places}", registry.name));
    context.ui.hint(format!("`docker tag app {host}/app`, `docker push {host}/app`, and `image: {host}/app` in a pod"));
    context.ui.result(&json!({
        "name": registry.name, "host": host, "port": port, "clusters": connected, "unchanged": !new,
    }));
    Ok(())
}

fn counted(clusters: usize) -> String {
    format!("{clusters} cluster{}", if clusters == 1 { "" } else { "s" })
}

async fn delete(context: &Context, arguments: &DeleteArguments) -> Result<()> {
    let name = arguments.name.get()?;
    let (engine, _) = context.engine().await?;
    let step = context.ui.step(format!("Deleting registry `{name}`"));
    let removed = registry::remove(&engine, &name, arguments.volumes).await?;
    step.finish();
    for (cluster, why) in &removed.untold {
        context.ui.warn(format!("cluster `{cluster}` still names the registry: {why}"));
    }
    if !removed.told.is_empty() {
        let clusters = removed.told.join(", ");
        context.ui.note(format!("It is gone from {clusters} too: what runs goes on, and nothing is pulled from it"));
    }
    if !removed.container && !removed.volume {
        context.ui.note(format!("There was no registry `{name}`"));
    }
    if removed.kept {
        context.ui.note(format!("Its images are kept in the volume `{name}`, for the next one of this name"));
        if let Some(port) = removed.port {
            let again = format!("`coracle registry create --name {name} --port {port}`");
            context.ui.hint(format!("{again} brings it back as it was"));
        }
        context.ui.hint(format!("`coracle registry delete --name {name} --volumes` deletes them"));
    }
    let images = if removed.volume { "deleted" } else { "kept" };
    context.ui.result(&json!({
        "name": name, "deleted": removed.container, "images": (removed.volume || removed.kept).then_some(images),
        "clusters": removed.told, "untold": removed.untold.iter().map(|(cluster, _)| cluster).collect::<Vec<_>>(),
    }));
    Ok(())
}

async fn prune(context: &Context, arguments: &PruneArguments) -> Result<()> {
    let name = arguments.name.get()?;
    let (engine, _) = context.engine().await?;
    let step = context.ui.step(format!("Pruning registry `{name}`"));
    let pruned = registry::prune(&*engine, &name, arguments.dry_run).await?;
    step.finish();
    context.ui.note(told(&pruned, arguments.dry_run));
    let Pruned { blobs, images, freed } = pruned;
    context
        .ui
        .result(&json!({"name": name, "images": images, "blobs": blobs, "freed": freed, "dryRun": arguments.dry_run}));
    Ok(())
}

/// What was removed, or would be, for people.
fn told(Pruned { blobs, images, freed }: &Pruned, dry_run: bool) -> String {
    if *blobs == 0 && *images == 0 {
        return "There is nothing to remove: a tag leads to everything".to_owned();
    }
    let counted = |count: &u64, what: &str| format!("{count} {what}{}", if *count == 1 { "" } else { "s" });
    let what = format!("{} without a tag, {} in all", counted(images, "image"), counted(blobs, "blob"));
    let size = size(*freed);
    if dry_run { format!("Would remove {what}, and free {size}") } else { format!("Removed {what}: {size} are free") }
}

async fn list(context: &Context, arguments: &ListArguments) -> Result<()> {
    let (engine, _) = context.engine().await?;
    let found = registry::list(&*engine).await?;
    let text = match arguments.output {
        Some(format @ (OutputFormat::Json | OutputFormat::Yaml)) => structured(format, &json!(found))?,
        Some(OutputFormat::Name) => found.iter().flat_map(|found| [found.registry.name.as_str(), "\n"]).collect(),
        _ if found.is_empty() => {
            context.ui.note("There is no registry");
            context.ui.hint("`coracle registry create` makes one");
            return Ok(());
        }
        _ => table(&found).to_string(),
    };
    context.ui.data(&text)?;
    for one in found.iter().filter(|one| one.state != State::Running && arguments.output.is_none()) {
        let name = &one.registry.name;
        let again = if one.state == State::Paused { "docker unpause" } else { "coracle registry create --name" };
        context.ui.hint(format!("`{again} {name}` starts it again"));
    }
    Ok(())
}

async fn login(context: &Context, arguments: &LoginArguments) -> Result<()> {
    let environment = Environment::from_process();
    let mut hosts = arguments.hosts.clone();
    for host in &hosts {
        registry_host(host).map_err(|cause| Error::new(Code::UsageInvalid, "this is not a registry").because(cause))?;
    }
    let (engine, _) = context.connect(&environment).await?;
    let cluster = cluster::find(&*engine, &parse_name(&arguments.cluster)?).await?;
    if hosts.is_empty() {
        hosts.extend(registry::known_hosts(&*engine, &cluster).await?);
    }
    if hosts.is_empty() {
        return Err(Error::new(
            Code::UsageInvalid,
            format!("cluster `{}` had no login that could be renewed", cluster.name),
        )
        .hint("name a registry: `coracle registry login HOST`"));
    }
    // One with a mirror may have its credentials from there.
    let configured = registry::configured(&*engine, &cluster).await?;
    let entry = |host: &String| {
        let known = configured.iter().find(|registry| registry.host == *host).cloned();
        config::Registry { login: true, ..known.unwrap_or_else(|| config::Registry::new(host)) }
    };
    let wanted: Vec<config::Registry> = hosts.iter().map(entry).collect();
    let logins = credentials::of_registries(environment.docker_config.as_deref(), &wanted).await?;
    let step = context.ui.step(format!("Giving the nodes credentials for {}", hosts.join(", ")));
    let restarted = registry::log_in(&*engine, &cluster, &logins).await?;
    step.finish();
    context.warn_of_stopped(&cluster);
    if restarted > 0 {
        context.ui.note("The kubelets started again to learn of it; pods went on");
    }
    context.ui.note("They are in the nodes' memory only: after a node restarted, run `coracle registry login`");
    let running = cluster.nodes.iter().filter(|node| node.is_running());
    let nodes: Vec<&str> = running.map(|node| node.name.as_str()).collect();
    context
        .ui
        .result(&json!({"cluster": cluster.name, "hosts": hosts, "nodes": nodes, "kubeletsRestarted": restarted}));
    Ok(())
}

fn table(found: &[Found]) -> Table {
    let mut table = Table::new(&["NAME", "HOST", "STATE", "CLUSTERS"]);
    for one in found {
        table.row(vec![one.registry.name.clone(), one.host.clone(), one.state.to_string(), one.clusters.join(", ")]);
    }
    table
}
