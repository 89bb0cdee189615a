//! Services of the type `LoadBalancer`: an address for each, and a node that answers for it.
//!
//! All agents know the same services, nodes and heartbeats, and compute the same owner for each address; the owner has it
//! on its link. One agent chooses the addresses and writes them to the statuses, which are the only memory. `allocate`,
//! `ownership` and `peers` are pure; `announcer` and `writer` touch the kernel and the API.

use std::convert::Infallible;
use std::future::pending;

use tokio::sync::watch::{self, Receiver, Sender};

mod allocate;
mod announcer;
mod guard;
mod neighbours;
mod ownership;
mod peers;
mod service;
mod serving;
mod writer;

use crate::api::Api;
use crate::config::Config;
use crate::kernel::Kernel;
use crate::log;
use crate::nodes::Nodes;
use announcer::{Announcer, Sources};
use service::{ServiceObject, Services, SliceObject, Slices};
use writer::Writer;

/// Balances forever, or does nothing if that is switched off.
pub(crate) async fn run(config: &Config, api: &Api<'_>, kernel: Kernel, nodes: Receiver<Option<Nodes>>) -> Infallible {
    let subnets = &config.load_balancer_subnets;
    if subnets.is_empty() {
        return pending().await;
    }
    let text: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    log::line(format_args!("load balancer: addresses of {}", text.join(", ")));
    let (services, services_seen) = watch::channel(None);
    let (slices, slices_seen) = watch::channel(None);
    let (serves, serving) = watch::channel(false);
    let (turn, turn_seen) = watch::channel(false);
    let sources = Sources { nodes, services: services_seen.clone(), slices: slices_seen, serving };
    let announcer = Announcer::new(config, kernel, sources, &turn);
    let writer = Writer::new(api, subnets, &config.node_name);
    let start = async {
        serving::wait().await;
        serves.send_replace(true);
        pending().await
    };
    tokio::select! {
        never = api.watch::<ServiceObject>(&services) => never,
        never = watch_slices(api, services_seen.clone(), &slices) => never,
        never = announcer.run() => never,
        never = writer.run(services_seen.clone(), turn_seen) => never,
        never = start => never,
    }
}

/// Keeps the slices while a service needs them: in a cluster with many pods, they change often.
async fn watch_slices(
    api: &Api<'_>,
    mut services: Receiver<Option<Services>>,
    slices: &Sender<Option<Slices>>,
) -> Infallible {
    let some_local = |services: &Option<Services>| {
        services.as_ref().is_some_and(|services| services.values().any(|service| service.local))
    };
    loop {
        if services.wait_for(some_local).await.is_err() {
            return pending().await;
        }
        tokio::select! {
            never = api.watch::<SliceObject>(slices) => match never {},
            _ = services.wait_for(|services| !some_local(services)) => {}
        }
        slices.send_replace(None);
    }
}
