//! Keeps the kernel's rules equal to those of the API.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::compile::{Cluster, compile};
use super::gate::{Call, Command, Request};
use super::objects::{Namespaces, Pods};
use super::records::{self, Record, Records};
use super::render::{self, Family};
use super::rules::RuleSet;
use super::spec::Policies;
use crate::config::Config;
use crate::log::{self, Failures};
use crate::nft;
use crate::object::NamespacedName;

/// Changes come in groups, such as the pods of a Deployment.
const SETTLE: Duration = Duration::from_millis(20);
/// The pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often the table is checked; `nft flush ruleset` may have removed it.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The state of the API, as far as it is known.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) policies: watch::Receiver<Option<Policies>>,
    /// Unknown while there is no policy.
    pub(crate) pods: watch::Receiver<Option<Pods>>,
    pub(crate) namespaces: watch::Receiver<Option<Namespaces>>,
}

/// A pod that waits for its rules.
#[derive(Debug)]
struct Waiting {
    pod: NamespacedName,
    uid: String,
    done: oneshot::Sender<()>,
}

pub(crate) struct Enforcer<'a> {
    node: &'a str,
    run: &'a Path,
    families: Vec<Family>,
    sources: Sources,
    calls: mpsc::Receiver<Call>,
    records: Records,
    waiting: Vec<Waiting>,
    /// The rules in the kernel; `None` if they are not known.
    applied: Option<RuleSet>,
    /// The numbers that were last logged.
    told: (usize, usize),
    failures: Failures,
}

impl<'a> Enforcer<'a> {
    /// Does not touch anything yet.
    pub(crate) fn new(config: &'a Config, sources: Sources, calls: mpsc::Receiver<Call>) -> Self {
        Self {
            node: &config.node_name,
            run: &config.run_directory,
            families: render::families(&config.pod_subnets),
            sources,
            calls,
            records: Records::new(),
            waiting: Vec::new(),
            applied: None,
            told: (0, 0),
            failures: Failures::default(),
        }
    }

    /// Until the complete input of the rules is known, the rules of an earlier agent stay in force.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.load();
        loop {
            let failed = match self.enforce().await {
                Ok(()) => {
                    self.failures.clear();
                    false
                }
                Err(error) => {
                    self.failures.report(format!("policy: {error}"));
                    true
                }
            };
            tokio::select! {
                () = changed(&mut self.sources) => sleep(SETTLE).await,
                Some(call) = self.calls.recv() => self.called(call),
                _ = check.tick() => self.check().await,
                () = sleep(RETRY_PAUSE), if failed => {}
            }
        }
    }

    fn load(&mut self) {
        match records::load(self.run) {
            Ok(records) => self.records = records,
            Err(error) => self.failures.report(format!("policy: cannot read `{}`: {error}", self.run.display())),
        }
    }

    fn called(&mut self, call: Call) {
        let (request, done) = match call {
            Call::Open => return self.load(),
            Call::Request(request, done) => (request, done),
        };
        let Request { command, namespace, name, uid, container, addresses } = request;
        let pod = NamespacedName { namespace, name };
        match command {
            Command::Add => {
                self.records.insert(pod.clone(), Record { container, addresses });
                self.waiting.push(Waiting { pod, uid, done });
            }
            Command::Del => {
                if self.records.get(&pod).is_some_and(|record| record.container == container) {
                    self.records.remove(&pod);
                }
                let _ = done.send(());
            }
        }
    }

    /// Updates the rules in the kernel, and lets the pods start that have theirs.
    async fn enforce(&mut self) -> Result<(), String> {
        let Some(rules) = self.compile() else { return Ok(()) };
        let script = match &self.applied {
            Some(applied) if *applied == rules => String::new(),
            Some(applied) if !applied.is_empty() && !rules.is_empty() => {
                render::update(applied, &rules, &self.families)
            }
            _ => render::full(&rules, &self.families),
        };
        if !script.is_empty() {
            // If this fails, the rules in the kernel are unknown, and the next attempt writes all of them.
            self.applied = None;
            nft::run(&script).await?;
            self.tell(&rules);
            self.applied = Some(rules);
        }
        self.release();
        Ok(())
    }

    /// `None` until everything is known.
    fn compile(&mut self) -> Option<RuleSet> {
        let policies = self.sources.policies.borrow_and_update();
        let pods = self.sources.pods.borrow_and_update();
        let namespaces = self.sources.namespaces.borrow_and_update();
        let policies = policies.as_ref()?;
        if policies.is_empty() {
            return Some(RuleSet::default());
        }
        let (pods, namespaces) = (pods.as_ref()?, namespaces.as_ref()?);
        Some(compile(&Cluster { node: self.node, policies, pods, namespaces, records: &self.records }))
    }

    /// Answers for the pods whose rules are set: those whose labels are known, or all if there is no policy.
    fn release(&mut self) {
        let policies = self.sources.policies.borrow();
        let pods = self.sources.pods.borrow();
        let no_policy = policies.as_ref().is_some_and(Policies::is_empty);
        let is_known = |waiting: &Waiting| {
            let pod = pods.as_ref().and_then(|pods| pods.get(&waiting.pod));
            pod.is_some_and(|pod| pod.node == self.node && (waiting.uid.is_empty() || pod.uid == waiting.uid))
        };
        let (released, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiting| no_policy || is_known(waiting));
        // A caller that has given up needs no answer.
        self.waiting = waiting.into_iter().filter(|waiting| !waiting.done.is_closed()).collect();
        for waiting in released {
            let _ = waiting.done.send(());
        }
    }

    async fn check(&mut self) {
        if self.applied.as_ref().is_none_or(RuleSet::is_empty) {
            return;
        }
        match nft::call(&["list", "tables"], "").await {
            Ok(tables) if tables.matches(render::TABLE).count() >= self.families.len() => {}
            Ok(_) => self.applied = None,
            Err(error) => self.failures.report(format!("policy: {error}")),
        }
    }

    fn tell(&mut self, rules: &RuleSet) {
        let numbers = (rules.ingress.len(), rules.egress.len());
        if std::mem::replace(&mut self.told, numbers) != numbers {
            let (ingress, egress) = numbers;
            log::line(format_args!(
                "policy: {ingress} addresses of this node are isolated for ingress, {egress} for egress"
            ));
        }
    }
}

/// Waits for a change of the sources.
async fn changed(sources: &mut Sources) {
    // The senders live as long as the agent, so none of these fails.
    tokio::select! {
        _ = sources.policies.changed() => {}
        _ = sources.pods.changed() => {}
        _ = sources.namespaces.changed() => {}
    }
}
