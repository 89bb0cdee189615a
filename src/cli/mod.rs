//! The command line: what was typed becomes calls of the library.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::cluster::found::Cluster;
use crate::engine::SharedEngine;
use crate::engine::address::Address;
use crate::engine::address::Environment;
use crate::engine::finishing::interrupted;
use crate::error::{Code, Error, Result};
use crate::ui::{Format, Ui, UiOptions};

mod addon;
mod build;
mod create;
mod delete;
mod export;
mod get;
mod image;
mod input;
mod kubectl;
mod load;
mod options;
mod output;
mod registry;
mod restart;
mod tunnel;
mod url;

pub use options::{Global, OutputFormat};

/// A real Kubernetes cluster in containers of the local Docker engine, in seconds
#[derive(Debug, Parser)]
#[command(name = "coracle", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a cluster
    #[command(subcommand, arg_required_else_help = true)]
    Create(create::Create),
    /// Delete clusters with everything that belongs to them
    #[command(subcommand, arg_required_else_help = true)]
    Delete(delete::Delete),
    /// List clusters and nodes, or print a kubeconfig
    #[command(subcommand, arg_required_else_help = true)]
    Get(get::Get),
    /// Say how a cluster does; exit with 0 only when all is well
    Status(get::StatusArguments),
    /// Load images into the nodes
    #[command(subcommand, arg_required_else_help = true)]
    Load(load::Load),
    /// List, build, pull, tag and remove images of the nodes
    #[command(subcommand, arg_required_else_help = true)]
    Image(image::Image),
    /// Export a kubeconfig or logs
    #[command(subcommand, arg_required_else_help = true)]
    Export(export::Export),
    /// List, enable and disable add-ons of a cluster
    #[command(subcommand, arg_required_else_help = true)]
    Addon(addon::Addon),
    /// Create, list and delete registries on this host that clusters pull from
    #[command(subcommand, arg_required_else_help = true)]
    Registry(registry::RegistryCommand),
    /// Print where a Service is reachable from this host
    Url(url::UrlArguments),
    /// Make Services answer on this host while it runs
    Tunnel(tunnel::TunnelArguments),
    /// Run kubectl of the cluster's version against it
    Kubectl(kubectl::KubectlArguments),
    /// Build the image of the nodes, and those of add-ons
    #[command(subcommand, arg_required_else_help = true)]
    Build(build::Build),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version {
        /// Print only the number
        #[arg(long, short)]
        short: bool,
    },
}

impl Command {
    /// It makes things that it removes when it is interrupted; the others just end.
    fn cleans_up(&self) -> bool {
        match self {
            Self::Create(_) | Self::Load(_) | Self::Build(_) | Self::Tunnel(_) => true,
            Self::Addon(addon) => addon.cleans_up(),
            Self::Registry(registry) => registry.cleans_up(),
            Self::Image(image) => image.cleans_up(),
            _ => false,
        }
    }
}

/// What every command works with.
pub(crate) struct Context {
    ui: Ui,
    /// Cancelled by Ctrl-C, SIGTERM and SIGHUP.
    stop: CancellationToken,
}

impl Context {
    /// Connects to the engine; also says whether it runs on this host.
    async fn engine(&self) -> Result<(SharedEngine, bool)> {
        let (engine, address) = self.connect(&Environment::from_process()).await?;
        Ok((engine, address.is_local()))
    }

    /// Connects to the engine that is meant; also says where it is.
    async fn connect(&self, environment: &Environment) -> Result<(SharedEngine, Address)> {
        tokio::select! {
            connected = crate::engine::connect::connect(environment) => connected,
            // An engine that hangs does not keep the command.
            () = self.stop.cancelled() => Err(interrupted()),
        }
    }

    /// Says which nodes are left out.
    fn warn_of_stopped(&self, cluster: &Cluster) {
        for node in cluster.nodes.iter().filter(|node| !node.is_running()) {
            self.ui.warn(format!("node {} is left out, because it does not run", node.name));
        }
    }
}

/// Runs the command line and returns the exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no mistakes; clap prints each to the right stream.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Code::UsageInvalid.exit_code() } else { 0 });
        }
    };
    let ui = ui(&arguments);
    let stop = CancellationToken::new();
    let cleans_up = arguments.command.cleans_up();
    tokio::spawn(signals(stop.clone(), ui.clone(), cleans_up));
    let context = Context { ui: ui.clone(), stop: stop.clone() };
    let result = tokio::select! {
        result = dispatch(&context, arguments.command) => result,
        () = stop.cancelled(), if !cleans_up => Err(interrupted()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            ui.error(&error);
            ExitCode::from(error.code().exit_code())
        }
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<ExitCode> {
    let done = match command {
        Command::Create(create) => create::run(context, create).await,
        Command::Status(arguments) => return get::status(context, arguments).await,
        Command::Delete(delete) => delete::run(context, delete).await,
        Command::Get(get) => get::run(context, get).await,
        Command::Load(load) => load::run(context, load).await,
        Command::Image(image) => image::run(context, image).await,
        Command::Export(export) => export::run(context, export).await,
        Command::Addon(addon) => addon::run(context, addon).await,
        Command::Registry(command) => registry::run(context, command).await,
        Command::Url(arguments) => url::run(context, arguments).await,
        Command::Tunnel(arguments) => tunnel::run(context, arguments).await,
        Command::Build(build) => build::run(context, build).await,
        Command::Kubectl(arguments) => kubectl::run(context, arguments).await,
        Command::Completion { shell } => completion(context, shell),
        Command::Version { short } => version(context, short),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn completion(context: &Context, shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "coracle", &mut script);
    context.ui.data(&String::from_utf8_lossy(&script))
}

fn version(context: &Context, short: bool) -> Result<()> {
    let number = env!("CARGO_PKG_VERSION");
    let text = if short { format!("{number}\n") } else { format!("coracle {number}\n") };
    context.ui.data(&text)
}

fn ui(arguments: &Arguments) -> Ui {
    let json = match &arguments.command {
        Command::Create(create) => create.is_json(),
        Command::Load(load) => load.is_json(),
        Command::Image(image) => image.is_json(),
        Command::Build(build) => build.is_json(),
        Command::Registry(registry) => registry.is_json(),
        _ => false,
    };
    let format = if json { Format::Json } else { Format::Plain };
    let global = &arguments.global;
    Ui::new(UiOptions { quiet: global.quiet, verbose: global.verbose, format, ..UiOptions::from_env() })
}

/// The first signal stops the command, which then cleans up; the second one ends it at once.
async fn signals(stop: CancellationToken, ui: Ui, cleans_up: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
        return;
    };
    for count in 0.. {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
            _ = hangup.recv() => {}
        }
        if count == 0 && !cleans_up {
            stop.cancel();
        } else if count == 0 {
            ui.note("Stopping and cleaning up; once more ends it at once");
            stop.cancel();
        } else {
            ui.error(
                &Error::new(Code::Interrupted, "ended without cleaning up")
                    .hint("`coracle delete cluster --name NAME` removes what is left"),
            );
            #[expect(clippy::exit, reason = "the user asked twice")]
            std::process::exit(i32::from(Code::Interrupted.exit_code()));
        }
    }
}
