//! The command line: what was typed becomes calls of the library.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::command::{Run, commands};
use crate::cli::context::Context;
use crate::cli::options::Global;
use crate::error::{Code, Error};
use crate::kubeconfig;
use crate::ui::{Format, Ui, UiOptions};

mod addon;
mod age;
mod as_kind;
mod build;
mod ci;
mod clusters;
mod command;
mod complete;
mod completion;
mod config;
mod context;
mod cp;
mod create;
mod delete;
mod doctor;
mod events;
mod expired;
mod export;
mod extend;
mod gc;
mod get;
mod image;
mod input;
mod kind_link;
mod kubectl;
mod load;
mod logs;
mod man;
mod namespace;
mod node;
mod options;
mod output;
mod pause;
mod port;
mod registry;
mod restart;
mod run;
mod shell;
mod start;
mod status;
mod stop;
mod summary;
mod top;
mod tunnel;
mod url;
mod usage;
mod variables;
mod version;
mod watch;

/// A real Kubernetes cluster in containers of the local Docker engine, in seconds
#[derive(Debug, Parser)]
#[command(name = "coracle", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

commands! {
    enum Command {
        /// Create a cluster
        #[command(subcommand, arg_required_else_help = true)]
        Create(create::Create),
        /// Run a command with a cluster of its own, which is deleted afterwards
        Run(Box<run::Run>),
        /// Delete clusters and everything that belongs to them
        #[command(subcommand, arg_required_else_help = true)]
        Delete(delete::Delete),
        /// Write, check, show and convert configuration files
        #[command(subcommand, arg_required_else_help = true)]
        Config(config::Config),
        /// List clusters, nodes and ports, or print a kubeconfig or a configuration
        #[command(subcommand, arg_required_else_help = true)]
        Get(get::Get),
        /// Extend the lifetime of a cluster that was created with `--ttl`
        Extend(extend::Extend),
        /// Show the health of a cluster; exit 0 only if it is healthy
        Status(status::Status),
        /// Stop a cluster; it keeps all its data, addresses and ports
        Stop(stop::Stop),
        /// Start a stopped cluster and wait until it is usable
        Start(start::Start),
        /// Stop a cluster, start it and wait until it is usable
        Restart(restart::Restart),
        /// Freeze a cluster, which keeps its memory and uses no CPU
        Pause(pause::Pause),
        /// Resume a paused cluster
        Unpause(pause::Unpause),
        /// Add, remove, list, stop, start and restart nodes
        #[command(subcommand, arg_required_else_help = true)]
        Node(node::Node),
        /// Print the log of a node, or of a unit, pod or container on it
        Logs(logs::Logs),
        /// Open a shell in a node, or run a command there
        Shell(shell::Shell),
        /// Copy files between this host and a node
        Cp(cp::Cp),
        /// Print the events of a cluster in chronological order
        Events(events::Events),
        /// Show how much CPU and memory the nodes of a cluster use
        Top(top::Top),
        /// Load images into the nodes
        #[command(subcommand, arg_required_else_help = true)]
        Load(load::Load),
        /// List, load, build, pull, tag and remove images in the nodes
        #[command(subcommand, arg_required_else_help = true)]
        Image(image::Image),
        /// Export a kubeconfig or logs
        #[command(subcommand, arg_required_else_help = true)]
        Export(export::Export),
        /// List, enable and disable add-ons of a cluster
        #[command(subcommand, arg_required_else_help = true)]
        Addon(addon::Addon),
        /// Create, list, prune and delete registries on this host, and log nodes in to others
        #[command(subcommand, arg_required_else_help = true)]
        Registry(registry::Registry),
        /// Print the URLs at which a Service is reachable from this host
        Url(url::Url),
        /// Add, remove and list ports of this host that lead into a running cluster
        #[command(subcommand, arg_required_else_help = true)]
        Port(port::Port),
        /// Make Services reachable from this host while the command runs
        Tunnel(tunnel::Tunnel),
        /// Run the cluster's version of kubectl against the cluster
        Kubectl(kubectl::Kubectl),
        /// Check this host, the engine and the kubeconfig for problems that keep clusters from working
        Doctor(doctor::Doctor),
        /// Remove leftovers of killed commands, and clusters that have expired
        Gc(gc::Gc),
        /// Build the node image and the images of add-ons
        #[command(subcommand, arg_required_else_help = true)]
        Build(build::Build),
        /// Create or remove a link that makes coracle available as `kind`, for scripts and tools that use kind
        KindLink(kind_link::KindLink),
        /// Print a completion script for a shell
        Completion(completion::Completion),
        /// Print or write the manual pages
        Man(man::Man),
        /// Print the version
        Version(version::Version),
    }
}

/// How long the end of the process waits for a kubeconfig that is just being written.
const LAST_CHANGE: Duration = Duration::from_secs(5);

/// Answers a shell that asks what can follow, and ends the process; does nothing otherwise.
///
/// It must come first: nothing else may be written, and no other thread may run.
pub fn complete() {
    complete::answer(Arguments::command);
}

/// Runs the command line and returns the exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let typed = usage::without_noun(kubectl::separated(usage::with_verbosity(arguments)));
    if as_kind::is_called(&typed) {
        return as_kind::exit_code(run_as_kind(typed).await);
    }
    run_typed(typed, usage::kind_name().as_deref()).await
}

/// The same for a command line of kind.
async fn run_as_kind(typed: Vec<OsString>) -> ExitCode {
    if let Some(answer) = as_kind::answer(&typed) {
        return match Ui::new(UiOptions::from_env()).data(&answer) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let given = |name: Option<String>| name.filter(|name| !name.is_empty());
    let named = given(usage::kind_name()).or_else(|| given(std::env::var(usage::NAME).ok()));
    run_typed(as_kind::translated(typed, named.as_deref()), None).await
}

/// Runs what was typed. `unread` is the name in kind's variable, which is told where it is not read.
async fn run_typed(typed: Vec<OsString>, unread: Option<&str>) -> ExitCode {
    let mut grammar = Arguments::command();
    let parsed = grammar.try_get_matches_from_mut(&typed).and_then(|matches| {
        let arguments = Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut grammar))?;
        Ok((arguments, usage::ignored_name(&matches, &grammar, unread), usage::wants_json(&matches)))
    });
    let (arguments, ignored, wants_json) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage::refuse(error, &typed, &grammar),
    };
    let Arguments { global, command } = arguments;
    let ui = Ui::new(UiOptions {
        quiet: global.quiet,
        verbose: global.verbose,
        format: command.format(),
        ..UiOptions::from_env()
    });
    let unread = variables::warnings(std::env::vars_os().map(|(name, _)| name));
    for warning in ignored.into_iter().chain(unread) {
        ui.warn(warning);
    }
    let mut context = Context { sweeps: command.sweeps(), ..Context::new(ui.clone(), Arguments::command) };
    if as_kind::is_called(&typed) {
        context.nothing = as_kind::nothing(&typed);
        context.program = as_kind::NAME;
    }
    let terminated = Arc::new(AtomicBool::new(false));
    tokio::spawn(signals(context.stop.clone(), context.cleaning.clone(), ui.clone(), terminated.clone()));
    // Commands that only look write no events, but a program that reads JSON wants to know why there is nothing to read.
    let only_looks = wants_json && command.format() == Format::Plain;
    let result = context.run(Box::pin(command.run(&context))).await;
    let code = result.unwrap_or_else(|error| ended(&ui, &typed, only_looks, &by_signal(error, &terminated)));
    kubeconfig::settle(LAST_CHANGE);
    code
}

/// Tells why a command failed, and returns its exit code.
fn ended(ui: &Ui, typed: &[OsString], only_looks: bool, error: &Error) -> ExitCode {
    if as_kind::is_called(typed) && as_kind::forgives(typed, error) {
        ui.note(as_kind::nothing(typed).unwrap_or_else(|| error.to_string()));
        return ExitCode::SUCCESS;
    }
    if only_looks {
        ui.error_as_data(error);
    } else {
        ui.error(error);
    }
    ExitCode::from(error.code().exit_code())
}

/// The error of a command that a signal ended, by which signal it was: shells and runners of jobs tell SIGTERM from Ctrl-C.
fn by_signal(error: Error, terminated: &AtomicBool) -> Error {
    if error.code() == Code::Interrupted && terminated.load(Ordering::SeqCst) {
        return error.with_code(Code::Terminated);
    }
    error
}

/// The first signal stops the command, which cleans up if it made something; the second one ends the process.
async fn signals(stop: CancellationToken, cleaning: TaskTracker, ui: Ui, terminated: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
        return;
    };
    for count in 0.. {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => terminated.store(true, Ordering::SeqCst),
            _ = hangup.recv() => {}
        }
        if count == 0 {
            if !cleaning.is_empty() {
                ui.note("Stopping and cleaning up; press Ctrl-C again to quit immediately");
            }
            stop.cancel();
        } else {
            let error = Error::new(Code::Interrupted, "quit without cleaning up")
                .hint("`coracle delete cluster --name NAME` removes what is left of a new cluster, `coracle node remove NODE` of a new node");
            let error = by_signal(error, &terminated);
            ui.error(&error);
            kubeconfig::settle(LAST_CHANGE);
            #[expect(clippy::exit, reason = "the user asked twice")]
            std::process::exit(i32::from(error.code().exit_code()));
        }
    }
}
