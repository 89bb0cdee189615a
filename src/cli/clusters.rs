//! Commands that are about one cluster or all of them: which, and what became of each.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::options::PositionalName;
use crate::cluster;
use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::error::{Code, Error, Result};

/// Which clusters.
#[derive(Debug, Clone, Args)]
pub(super) struct ClustersOption {
    #[command(flatten)]
    name: PositionalName,
    /// Apply to all clusters
    #[arg(long, short = 'A')]
    all: bool,
}

impl ClustersOption {
    /// The names of the clusters.
    async fn names(&self, context: &Context, engine: &SharedEngine) -> Result<Vec<ClusterName>> {
        if !self.all {
            return Ok(vec![self.name.get()?]);
        }
        if self.name.is_typed() {
            return Err(Error::new(Code::UsageInvalid, "`--all` cannot be combined with a name")
                .hint("omit one of them: a name selects one cluster, `--all` selects all"));
        }
        let clusters = cluster::list(&**engine).await?;
        if clusters.is_empty() {
            context.ui.note("There are no clusters");
        }
        Ok(clusters.into_iter().map(|cluster| cluster.name).collect())
    }

    /// Does `work` for each cluster. A failure does not keep the other clusters from it, and none is silent.
    pub(super) async fn each<W>(
        &self,
        context: &Context,
        engine: &SharedEngine,
        work: impl Fn(ClusterName) -> W,
    ) -> Result<()>
    where
        W: Future<Output = Result<Value>>,
    {
        let (mut done, mut failed) = (Vec::new(), None);
        for name in self.names(context, engine).await? {
            match work(name.clone()).await {
                Ok(value) => done.push(value),
                Err(error) if matches!(error.code(), Code::Interrupted | Code::Terminated) => return Err(error),
                Err(error) if failed.is_none() => failed = Some(error),
                Err(error) => context.ui.warn(format!("cluster `{name}`: {error}")),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        context.ui.result(&json!({ "clusters": done }));
        Ok(())
    }
}

/// The hint of an interrupted command that can be repeated.
pub(super) fn resumable(error: Error, command: &str) -> Error {
    if error.code() == Code::Interrupted {
        return error.hint(format!("`{command}` continues where this ended"));
    }
    error
}
