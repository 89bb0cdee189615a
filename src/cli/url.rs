//! `coracle url`.

use std::cell::OnceCell;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use crate::cli::command::Run;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::options::{NameOption, NamespaceOption, duration};
use crate::cli::output::{Printed, ValueOption};
use crate::cluster;
use crate::cluster::service::urls::{self, Sight};
use crate::cluster::service::wait::{accepting, answering};
use crate::error::Result;
use crate::ui::Step;

/// How long a wait stays silent.
const NOTICE_DELAY: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Url {
    /// Name of the Service
    #[arg(value_name = "SERVICE", add = complete::services())]
    service: String,
    #[command(flatten)]
    namespace: NamespaceOption,
    #[command(flatten)]
    name: NameOption,
    /// Print every URL instead of the best one of each port
    #[arg(long)]
    all: bool,
    /// How long to wait until the Service answers, such as `30s` [default: a moment]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// Print only URLs that need no route to the nodes, as if the engine ran in a virtual machine
    #[arg(long, hide = true)]
    no_nodes: bool,
    #[command(flatten)]
    output: ValueOption,
}

impl Run for Url {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let name = self.name.get()?;
        let cluster = cluster::get(&*engine, &name).await?;
        let mut sight = Sight::new(&engine.info().await?, engine.place());
        sight.nodes &= !self.no_nodes;
        let namespace = self.namespace.get(&cluster);
        let found = match self.wait {
            None => urls::urls(&*engine, &cluster, &namespace, &self.service, &sight).await?,
            Some(wait) => {
                let (begun, step) = (Instant::now(), OnceCell::new());
                let progress = |cause: &str| {
                    // Scripts need the URL, and people a reason only if it takes its time.
                    if begun.elapsed() > NOTICE_DELAY {
                        let name = || context.ui.step(format!("Waiting for Service {}", self.service));
                        step.get_or_init(name).detail("waiting", cause);
                    }
                };
                let (service, deadline) = ((namespace.as_str(), self.service.as_str()), Instant::now() + wait);
                let found = answering(&*engine, &cluster, service, &sight, deadline, progress).await?;
                step.into_inner().into_iter().for_each(Step::finish);
                found
            }
        };
        for port in &found.silent {
            context.ui.warn(format!("no pod of Service `{}` accepts connections on port `{port}`", self.service));
        }
        let mut urls = found.all;
        if !self.all {
            // The first one of each port is the best one.
            urls.dedup_by(|next, kept| next.port == kept.port);
        }
        let names: Vec<&str> = urls.iter().map(|service| service.url.as_str()).collect();
        if self.wait.is_none() && !self.all {
            accepting(&names).await;
        }
        let text = |_| names.iter().flat_map(|name| [name, "\n"]).collect::<String>();
        let printed = Printed { value: json!(urls), names: names.clone(), text: &text };
        context.ui.data(&printed.render(self.output.output)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
