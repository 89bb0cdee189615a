//! What every command works with, and how an interruption ends it.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::expired;
use crate::cluster::found::Cluster;
use crate::engine::SharedEngine;
use crate::engine::address::{Address, Environment};
use crate::engine::finishing::{interrupted, run_to_end};
use crate::error::Result;
use crate::host::{check, docker_config};
use crate::ui::Ui;

/// The user, the engine when it is asked for, and the interruption.
pub(crate) struct Context {
    pub(super) ui: Ui,
    /// Every command and option, for completion scripts.
    pub(super) grammar: fn() -> clap::Command,
    /// Cancelled by Ctrl-C, SIGTERM and SIGHUP.
    pub(super) stop: CancellationToken,
    /// Work that cleans up after an interruption and is waited for; any other work is dropped.
    pub(super) cleaning: TaskTracker,
    /// Whether clusters whose time is over are removed when the engine is asked for.
    pub(super) sweeps: bool,
    /// What is said where a list is empty, if it is not what coracle says.
    pub(super) nothing: Option<String>,
    /// The name by which the shell calls the command.
    pub(super) program: &'static str,
}

impl Context {
    pub(super) fn new(ui: Ui, grammar: fn() -> clap::Command) -> Self {
        Self {
            ui,
            grammar,
            stop: CancellationToken::new(),
            cleaning: TaskTracker::new(),
            sweeps: false,
            nothing: None,
            program: "coracle",
        }
    }

    /// Connects to the engine; the second value is whether files and ports of this host are its own.
    pub(super) async fn engine(&self) -> Result<(SharedEngine, bool)> {
        let (engine, _) = self.connect(&Environment::from_process()).await?;
        let local = engine.place().is_host();
        Ok((engine, local))
    }

    /// Connects to the engine that the environment names; the second value is where it is.
    pub(super) async fn connect(&self, environment: &Environment) -> Result<(SharedEngine, Address)> {
        // As `docker` does: the engine may be another one than the file names.
        if let Some(damage) = docker_config::damage(environment.docker_config.as_deref()) {
            self.ui.warn(check::sentence(&damage));
        }
        let (engine, address) = crate::engine::connect::connect(environment).await?;
        if self.sweeps {
            // Boxed: every command has this inside.
            Box::pin(expired::sweep(&self.ui, &engine)).await;
        }
        Ok((engine, address))
    }

    /// Runs a command until it ends or is interrupted. What began inside [`Self::clean_up_after`] still ends then.
    pub(super) async fn run(&self, command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
        let interruption = async {
            self.stop.cancelled().await;
            self.cleaning.close();
            self.cleaning.wait().await;
        };
        tokio::select! {
            // Work that ends in spite of the interruption may show its result.
            biased;
            result = command => result,
            () = interruption => Err(interrupted()),
        }
    }

    /// Does work that notices an interruption by itself and then removes what it made.
    pub(super) async fn clean_up_after<T>(&self, work: impl Future<Output = T>) -> T {
        self.cleaning.track_future(work).await
    }

    /// Does work that makes things in the engine: an interruption ends it, but lets engine calls that began end first.
    pub(super) async fn run_to_end<T, W>(
        &self,
        engine: &SharedEngine,
        work: impl FnOnce(SharedEngine) -> W,
    ) -> Result<T>
    where
        W: Future<Output = Result<T>>,
    {
        self.clean_up_after(run_to_end(engine, &self.stop, work)).await
    }

    /// Warns of the nodes that are left out.
    pub(super) fn warn_of_stopped(&self, cluster: &Cluster) {
        for node in cluster.nodes.iter().filter(|node| !node.is_running()) {
            self.ui.warn(format!("skipping node {}, because it is not running", node.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::error::Code;
    use crate::ui::UiOptions;

    fn context() -> Context {
        Context::new(Ui::captured(UiOptions::default()).0, clap::Command::default)
    }

    #[tokio::test]
    async fn an_interruption_drops_work_that_has_nothing_to_clean_up() {
        let context = context();
        context.stop.cancel();
        let error = context.run(std::future::pending()).await.unwrap_err();
        assert_eq!(error.code(), Code::Interrupted);
    }

    #[tokio::test]
    async fn work_that_an_interruption_could_not_stop_has_its_result() {
        for _ in 0..50 {
            let context = context();
            let command = async {
                context.clean_up_after(async { context.stop.cancel() }).await;
                Ok(ExitCode::SUCCESS)
            };
            context.run(command).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_interruption_waits_for_work_that_cleans_up() {
        let (context, cleaned) = (context(), AtomicBool::new(false));
        let command = async {
            let work = async {
                context.stop.cancel();
                tokio::task::yield_now().await;
                cleaned.store(true, Ordering::SeqCst);
                Err(interrupted())
            };
            context.clean_up_after(work).await
        };
        assert_eq!(context.run(command).await.unwrap_err().code(), Code::Interrupted);
        assert!(cleaned.load(Ordering::SeqCst));
    }
}
