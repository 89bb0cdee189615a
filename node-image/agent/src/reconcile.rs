//! Keeps the node in the state that the cluster asks for: after each change, and at intervals.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::config::Config;
use crate::kernel::Kernel;
use crate::log::{self, Failures};
use crate::nodes::Nodes;
use crate::routes::{self, Change};
use crate::{cni, masquerade};

/// Routes disappear without a message when a link goes down, so they are checked at intervals.
const ROUTES_INTERVAL: Duration = Duration::from_secs(10);
/// Checking the masquerading starts a process, so it is done less often.
const MASQUERADE_INTERVAL: Duration = Duration::from_secs(60);
/// Several routes may disappear at once; one check is enough.
const SETTLE: Duration = Duration::from_millis(50);
/// That of Ethernet, used if the node has no default route.
const DEFAULT_MTU: u32 = 1500;

/// The state of the node that the agent maintains.
#[derive(Debug)]
pub(crate) struct Reconciler<'a> {
    config: &'a Config,
    kernel: Kernel,
    /// The pod subnets for which the CNI configuration was last checked.
    cni_written: Vec<ipnet::IpNet>,
    masquerade_checked: Option<Instant>,
    cni_failures: Failures,
    route_failures: Failures,
    masquerade_failures: Failures,
}

impl<'a> Reconciler<'a> {
    /// Does not touch anything yet.
    pub(crate) fn new(config: &'a Config, kernel: Kernel) -> Self {
        Self {
            config,
            kernel,
            cni_written: Vec::new(),
            masquerade_checked: None,
            cni_failures: Failures::default(),
            route_failures: Failures::default(),
            masquerade_failures: Failures::default(),
        }
    }

    /// Maintains the node, forever.
    pub(crate) async fn run(
        mut self,
        mut nodes: Receiver<Option<Nodes>>,
        removals: impl Stream<Item = ()>,
    ) -> Infallible {
        let mut removals = std::pin::pin!(removals);
        if !self.config.pod_network {
            // The routes do not matter, but reports of them would accumulate.
            while removals.next().await.is_some() {}
            return pending().await;
        }
        let mut tick = interval(ROUTES_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The masquerading needs nothing from the API: it is set before the first answer.
            self.masquerade().await;
            let current = nodes.borrow_and_update().clone();
            if let Some(current) = current {
                self.cni(&current).await;
                self.routes(&current).await;
            }
            tokio::select! {
                _ = nodes.changed() => {}
                Some(()) = removals.next() => sleep(SETTLE).await,
                _ = tick.tick() => {}
            }
        }
    }

    async fn masquerade(&mut self) {
        let subnets = &self.config.pod_subnets;
        let first = self.masquerade_checked.is_none();
        if self.masquerade_checked.is_some_and(|checked| checked.elapsed() < MASQUERADE_INTERVAL) {
            return;
        }
        // The first time, the rules are always written: those of an earlier agent may be for other subnets.
        if !first && masquerade::is_applied(subnets).await {
            self.masquerade_checked = Some(Instant::now());
            return;
        }
        match masquerade::apply(subnets, &self.config.service_subnets).await {
            Ok(()) => {
                self.masquerade_checked = Some(Instant::now());
                self.masquerade_failures.clear();
                let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
                log::line(format_args!("masquerade: set for {}", subnets.join(", ")));
            }
            Err(error) => self.masquerade_failures.report(format!("masquerade: {error}")),
        }
    }

    /// Writes the CNI configuration once the node has its pod subnets, unless another one exists.
    async fn cni(&mut self, nodes: &Nodes) {
        let Some(node) = nodes.get(&self.config.node_name) else { return };
        // A node that was registered again has other subnets for a moment; `registration` is about to give it its own.
        let is_passing = !node.labelled && self.config.registration_file.exists();
        if node.pod_cidrs.is_empty() || is_passing || self.cni_written == node.pod_cidrs {
            return;
        }
        match self.write_cni(&node.pod_cidrs).await {
            Ok(()) => self.cni_written.clone_from(&node.pod_cidrs),
            Err(error) => self.cni_failures.report(format!("cni: {error}")),
        }
    }

    async fn write_cni(&self, pod_cidrs: &[ipnet::IpNet]) -> Result<(), String> {
        let failed = |error| format!("cannot write to `{}`: {error}", self.config.cni_directory.display());
        let directory = &self.config.cni_directory;
        if cni::is_configured(directory).map_err(failed)? && !cni::is_stale(directory, pod_cidrs) {
            log::line(format_args!("cni: already configured"));
            return Ok(());
        }
        let mtu = self.kernel.uplink_mtu().await?.unwrap_or(DEFAULT_MTU);
        cni::write(&self.config.cni_directory, &cni::render(pod_cidrs, mtu)).map_err(failed)?;
        log::line(format_args!("cni: wrote {} with mtu {mtu}", cni::FILE));
        Ok(())
    }

    async fn routes(&mut self, nodes: &Nodes) {
        let Some(desired) = routes::desired(nodes, &self.config.node_name) else {
            self.route_failures.report(format!("routes: the API has no node `{}`", self.config.node_name));
            return;
        };
        let present = match self.kernel.own_routes().await {
            Ok(present) => present,
            Err(error) => return self.route_failures.report(format!("routes: {error}")),
        };
        let mut failed = None;
        for change in routes::diff(&desired, &present) {
            let text = match &change {
                Change::Remove(route) => format!("route: remove {}", route.destination),
                Change::Set(destination, gateway) => format!("route: {destination} via {gateway}"),
            };
            match self.kernel.apply(&change).await {
                Ok(()) => log::line(format_args!("{text}")),
                Err(error) => failed = Some(format!("{text}: {error}")),
            }
        }
        match failed {
            Some(failure) => self.route_failures.report(failure),
            None => self.route_failures.clear(),
        }
    }
}
