//! `coracle logs`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::command::Run;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::options::{OneNode, duration};
use crate::cluster::logs::{self, Options};
use crate::error::Result;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  coracle logs dev-worker                          what the kubelet and containerd say
  coracle logs -f --since 5m dev-worker kubelet    the kubelet only, following its log
  coracle logs dev-control-plane kube-apiserver    works even when the API does not answer")]
pub(crate) struct Logs {
    #[command(flatten)]
    node: OneNode,
    /// Unit of systemd, pod or container on the node [default: the units `kubelet` and `containerd`]
    #[arg(value_name = "UNIT|POD", add = complete::unit_or_pod())]
    of: Option<String>,
    /// Keep printing new lines as they are written
    #[arg(long, short)]
    follow: bool,
    /// Print only lines newer than this, such as `90s`, `5m` or `1h`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// Print only this many of the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Print the log of the container's previous run
    #[arg(long, short, conflicts_with = "follow")]
    previous: bool,
}

impl Run for Logs {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let (engine, _) = context.engine().await?;
        let target = self.node.find(&*engine).await?;
        let options = Options {
            follow: self.follow,
            since: self.since.map(|since| since.as_secs()),
            tail: self.tail,
            previous: self.previous,
        };
        let show = |bytes: &[u8]| context.ui.bytes(bytes);
        logs::read(&*engine, &target, self.of.as_deref(), options, &show).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self) -> bool {
        false
    }
}
