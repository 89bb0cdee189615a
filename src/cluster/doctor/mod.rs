//! `doctor`: every check of the list, on the engine, this host, the kubeconfig, a configuration and the clusters that exist.

mod beforehand;
mod clusters;
mod entries;
mod finding;
mod fix;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::{ClusterConfig, Overrides, load};
use crate::engine::SharedEngine;
use crate::error::{Code, Error, Result};
use crate::host::check::{Check, each, odd};
use crate::host::checks::Id;
use crate::host::{advice, docker_config, kubectl};
use crate::kubeconfig::Location;
use crate::node_image;
use crate::plan::ProxySettings;

pub use finding::Finding;
pub use fix::Fix;

/// How long the engine may take for all that it is asked.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is looked at.
pub struct Request {
    /// The engine that the environment selects.
    pub engine: Result<SharedEngine>,
    /// The configuration to be checked as well; without one, what every cluster needs is.
    pub config: Option<Result<ClusterConfig>>,
    pub kubeconfig: Result<Location>,
    /// The directory of the Docker client's configuration.
    pub docker_config: Option<PathBuf>,
    /// Proxy settings for nodes.
    pub proxy: ProxySettings,
}

/// Looks at everything; the findings are in the order of the list.
pub async fn examine(request: &Request) -> Vec<Finding> {
    let mut findings = here(request);
    let config = configuration(request, &mut findings);
    findings.extend(of_engine(request, config.as_ref()).await);
    findings.sort_by_key(|finding| finding.check.id);
    findings
}

/// What needs no engine.
fn here(request: &Request) -> Vec<Finding> {
    let mut checks = Vec::new();
    match kubectl::cache() {
        Ok(directory) => checks.push(advice::cache(&directory)),
        Err(error) => checks.push(Check::unless(Id::Cache, error)),
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    checks.extend(docker_config::checks(request.docker_config.as_deref(), &path));
    let mut findings: Vec<Finding> = checks.into_iter().map(Finding::from).collect();
    match &request.kubeconfig {
        Ok(location) => findings.extend(entries::of_file(location)),
        Err(error) => findings.push(Check::unless(Id::KubeconfigUnusable, error.clone()).into()),
    }
    findings
}

/// The configuration; without a file, or with one that is none, that of the default cluster.
fn configuration(request: &Request, findings: &mut Vec<Finding>) -> Option<ClusterConfig> {
    let config = match &request.config {
        None => load("", "", &Overrides::default()),
        Some(config) => config.clone(),
    };
    let warnings = config.as_ref().map(crate::config::warnings).unwrap_or_default();
    if request.config.is_some() {
        findings.push(Check::new(Id::ConfigInvalid, config.as_ref().map(|_| ()).map_err(Clone::clone)).into());
        let odd = warnings.into_iter().map(|text| Error::new(Code::StepFailed, text));
        findings.extend(each(Id::ConfigOdd, odd).into_iter().map(Finding::from));
    }
    config.or_else(|_| load("", "", &Overrides::default())).ok()
}

async fn of_engine(request: &Request, config: Option<&ClusterConfig>) -> Vec<Finding> {
    let engine = match &request.engine {
        Ok(engine) => engine,
        Err(error) => return vec![unusable(error).into()],
    };
    let mut findings: Vec<Finding> =
        [Id::EngineAddress, Id::EngineUnreachable, Id::EnginePermission, Id::EngineUnsupported]
            .map(|id| Finding::from(Check::new(id, Ok(()))))
            .into();
    let looked = timeout(ENGINE_TIMEOUT, async {
        let mut found = beforehand::findings(engine, request, config).await?;
        found.extend(clusters::findings(engine, request.kubeconfig.as_ref().ok(), node_image::abandoned()).await?);
        Ok::<_, Error>(found)
    });
    match looked.await {
        Ok(Ok(found)) => findings.extend(found),
        Ok(Err(error)) => {
            findings.retain(|finding| finding.check.id != unusable(&error).id);
            findings.push(unusable(&error).into());
        }
        Err(_) => {
            findings.retain(|finding| finding.check.id != Id::EngineUnreachable);
            findings.push(Check::unless(Id::EngineUnreachable, silent()).into());
        }
    }
    findings
}

/// The check that an error of the engine belongs to.
fn unusable(error: &Error) -> Check {
    let id = match error.code() {
        Code::EnginePermission => Id::EnginePermission,
        Code::EngineUnsupported => Id::EngineUnsupported,
        Code::EngineUnreachable | Code::EngineFailed => Id::EngineUnreachable,
        _ => Id::EngineAddress,
    };
    Check::unless(id, error.clone())
}

fn silent() -> Error {
    odd("the engine stopped answering", "on the engine's machine: `sudo systemctl restart docker`")
        .with_code(Code::EngineUnreachable)
        .because(format!("it did not answer all questions within {} s", ENGINE_TIMEOUT.as_secs()))
}

#[cfg(test)]
mod tests;
