//! The forwarder (`coracle-agent forward`, in a container of its own): what arrives at its port goes to a node that works, at
//! the node's own port or to a Service by its name. `coracle-agent forward check` says whether anything answers there.
//!
//! Nothing is polled: which node works and which address the Service has is found out when someone connects.

mod name;
mod target;
mod tcp;
mod udp;
mod way;

use std::process::ExitCode;
use std::rc::Rc;

use coracle_shared::forward::{Forwarding, PATH, Transport};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::log;
use target::Targets;

/// Runs `forward` or `forward check`.
pub(crate) fn main(word: Option<&str>) -> ExitCode {
    let result = Builder::new_current_thread().enable_all().build().map_err(|error| format!("cannot start: {error}"));
    let result = result.and_then(|runtime| match word {
        None => LocalSet::new().block_on(&runtime, run()),
        Some("check") => runtime.block_on(check()),
        Some(_) => Err("the only command of `forward` is `check`".to_owned()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Forwards until a signal.
async fn run() -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let targets = Rc::new(Targets::new(PATH.into())?);
    let forwarding = targets.forwarding();
    log::line(format_args!("{}", started(&forwarding)));
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = serve(&forwarding, targets) => ended,
    }
}

async fn serve(forwarding: &Forwarding, targets: Rc<Targets>) -> Result<(), String> {
    match forwarding.protocol {
        Transport::Tcp => tcp::serve(forwarding.listen, forwarding.target, targets).await,
        Transport::Udp => udp::serve(forwarding.listen, forwarding.target, targets).await,
    }
}

fn started(forwarding: &Forwarding) -> String {
    let nodes: Vec<&str> = forwarding.nodes.iter().map(|node| node.name.as_str()).collect();
    let to = forwarding.service.as_ref().map_or("a node port", |service| service.name.as_str());
    format!("forwards to {to}, by {}", nodes.join(", "))
}

/// Writes the node by which something answers, or why nothing does.
async fn check() -> Result<(), String> {
    let targets = Targets::new(PATH.into())?;
    let forwarding = targets.forwarding();
    let node = match forwarding.protocol {
        Transport::Tcp => targets.connect(forwarding.target).await?.1.node,
        Transport::Udp => targets.living(forwarding.target).await?.first().ok_or("no node answers")?.node.clone(),
    };
    log::line(format_args!("{node}"));
    Ok(())
}
