//! `NetworkPolicy`: who may connect to the pods of this node, and to whom they may connect.
//!
//! `compile` turns the cluster's objects into rules, and `render` turns two states of the rules into a script for nft; both
//! are pure. `enforce` keeps the kernel equal to the API; `gate` lets a pod start when its rules are set.

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

/// The largest number of requests that wait for the enforcer.
const MAX_QUEUED: usize = 16;

/// Keeps the policies of the node in force, forever; another pod network handles policies itself.
pub(crate) async fn run(api: &Api<'_>, config: &Config) -> Infallible {
    if !config.pod_network {
        return std::future::pending().await;
    }
    let (policy_sender, policies) = watch::channel(None);
    let (pod_sender, pods) = watch::channel(None);
    let (namespace_sender, namespaces) = watch::channel(None);
    let (requests, received) = mpsc::channel(MAX_QUEUED);
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

/// Waits until the policies are known and meet the condition.
async fn wait_until(policies: &mut watch::Receiver<Option<Policies>>, is_met: impl Fn(&Policies) -> bool) {
    let met = policies.wait_for(|policies| policies.as_ref().is_some_and(&is_met)).await.is_ok();
    // The sender lives as long as the agent; without it there is nothing left to wait for.
    if !met {
        std::future::pending::<()>().await;
    }
}
