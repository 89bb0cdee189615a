//! `NetworkPolicy`: who may connect to the pods of this node, and to whom they may connect.
//!
//! `compile` makes rules of the cluster's objects, `render` makes a script for nft of two states of the rules, both
//! pure; `enforce` keeps the kernel at what the API says; `gate` lets a pod start when its rules are in place.

#[cfg(test)]
mod bench;
mod compile;
mod enforce;
mod gate;
mod objects;
pub(crate) mod records;
mod render;
mod rules;
mod selector;
mod spec;

use std::convert::Infallible;

use tokio::sync::{mpsc, watch};

use crate::api::Api;
use crate::config::Config;
use enforce::{Enforcer, Sources};
pub(crate) use gate::{Command, Request, SOCKET};
use objects::{NamespaceObject, Namespaces, PodObject, Pods};
use spec::{Policies, PolicyObject};

/// Requests that wait for the enforcer to look at them.
const QUEUE: usize = 16;

/// Keeps the policies of the node in force, for ever; with another pod network they are that one's business.
pub(crate) async fn run(api: &Api<'_>, config: &Config) -> Infallible {
    if !config.pod_network {
        return std::future::pending().await;
    }
    let (policy_sender, policies) = watch::channel(None);
    let (pod_sender, pods) = watch::channel(None);
    let (namespace_sender, namespaces) = watch::channel(None);
    let (requests, received) = mpsc::channel(QUEUE);
    let sources = Sources { policies: policies.clone(), pods, namespaces };
    let enforcer = Enforcer::new(config, sources, received);
    tokio::select! {
        never = api.watch::<PolicyObject>(&policy_sender) => match never {},
        never = watch_peers(api, policies.clone(), &pod_sender, &namespace_sender) => match never {},
        never = gate::serve(&config.run_directory, policies, &requests) => match never {},
        never = enforcer.run() => match never {},
    }
}

/// Watches pods and namespaces while there is a policy: a cluster without one pays for one quiet watch.
async fn watch_peers(
    api: &Api<'_>,
    mut policies: watch::Receiver<Option<Policies>>,
    pods: &watch::Sender<Option<Pods>>,
    namespaces: &watch::Sender<Option<Namespaces>>,
) -> Infallible {
    loop {
        wait_until(&mut policies, |policies| !policies.is_empty()).await;
        tokio::select! {
            never = api.watch::<PodObject>(pods) => match never {},
            never = api.watch::<NamespaceObject>(namespaces) => match never {},
            () = wait_until(&mut policies, Policies::is_empty) => {}
        }
        pods.send_replace(None);
        namespaces.send_replace(None);
    }
}

/// Waits until the policies are known and like this.
async fn wait_until(policies: &mut watch::Receiver<Option<Policies>>, is_met: impl Fn(&Policies) -> bool) {
    let met = policies.wait_for(|policies| policies.as_ref().is_some_and(&is_met)).await.is_ok();
    // The sender lives as long as the agent; without it there is nothing left to wait for.
    if !met {
        std::future::pending::<()>().await;
    }
}
