//! The agent of one node of a coracle cluster. It sets routes to the other nodes' pods, masquerades what leaves the cluster,
//! handles addresses of services of the type `LoadBalancer` and network policies, and writes the CNI configuration if there
//! is none. Called by a container runtime, the same program is the CNI plugin by which a pod waits for its policies; called
//! by the user's command, it is one end of the way of images into nodes, or it forwards a port of the host into the cluster.
//!
//! Each concern is a module with pure rendering or comparing, and a small part that touches the kernel. `reconcile` calls
//! them when the nodes change, when a route of the agent disappears, and at intervals.

mod api;
mod balancer;
mod cni;
mod config;
mod forward;
mod images;
mod kernel;
mod log;
mod masquerade;
mod moment;
mod nft;
mod nodes;
mod object;
mod plugin;
mod policy;
mod reconcile;
mod registration;
mod routes;

use std::process::ExitCode;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use api::Api;
use config::Config;
use kernel::Kernel;
use nodes::NodeObject;
use reconcile::Reconciler;

fn main() -> ExitCode {
    if let Ok(command) = std::env::var("CNI_COMMAND") {
        return plugin::main(&command);
    }
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("images") => return images::main(arguments.next().as_deref()),
        Some("forward") => return forward::main(arguments.next().as_deref()),
        _ => {}
    }
    // One thread, and another one with a small stack for looking up names: an agent on each node must need little memory.
    let runtime =
        Builder::new_current_thread().enable_all().max_blocking_threads(1).thread_stack_size(256 * 1024).build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => Err(format!("cannot start: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs until a signal; what is set then stays, so that pods keep their network while the agent restarts.
async fn run() -> Result<(), String> {
    let config = Config::from_env(|name| std::env::var(name).ok())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let (kernel, connection, removals) = Kernel::open().map_err(|error| format!("cannot open netlink: {error}"))?;
    let api = Api::new(&config.endpoints);
    let (sender, nodes) = watch::channel(None);
    let balancer = balancer::run(&config, &api, kernel.clone(), nodes.clone());
    let registration = registration::run(&config, &api, nodes.clone());
    let reconciler = Reconciler::new(&config, kernel);
    log::line(format_args!("coracle-agent {} on node {}", env!("CARGO_PKG_VERSION"), config.node_name));
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = connection => Err("netlink closed".to_owned()),
        never = reconciler.run(nodes, removals) => match never {},
        never = balancer => match never {},
        never = registration => match never {},
        never = api.watch::<NodeObject>(&sender) => match never {},
        never = policy::run(&api, &config) => match never {},
    }
}
