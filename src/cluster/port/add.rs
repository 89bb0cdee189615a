//! Opening ports.

use std::time::Duration;

use coracle_shared::forward::PROGRAM;
use futures_util::future::{join_all, try_join_all};
use serde::Serialize;
use tokio::time::timeout;

use crate::agent;
use crate::cluster::found::Cluster;
use crate::cluster::ownership;
use crate::cluster::port::nodes;
use crate::cluster::port::resolve::{existing, openings};
use crate::cluster::run::Run;
use crate::cluster::upload::write_files;
use crate::engine::Engine;
use crate::engine::spec::{Labels, Protocol};
use crate::error::{Code, Error, Reason, Result};
use crate::host::ports;
use crate::plan::beside::port::{Ground, Opening};
use crate::plan::labels;
use crate::plan::ownership::Names;
use crate::plan::subnet::{DNS, service_address};

/// How long it may take until a forwarder knows whether something answers.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines of a forwarder's output that are shown when it does not run.
const LINES: u32 = 10;

/// A port that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    pub host_address: String,
    pub host_port: u16,
    pub protocol: Protocol,
    /// Where it leads: a port of the nodes, or of a Service.
    pub target: String,
    pub container: String,
    /// It was open before.
    pub unchanged: bool,
    /// Whether something answers; `None` if that is not known.
    pub answers: Option<bool>,
    /// The node by which it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// Opens ports, all or none: after a failure the caller removes what has the label of the run.
pub async fn add(run: &Run, cluster: &Cluster, texts: &[String], namespace: &str, local: bool) -> Result<Vec<Opened>> {
    let engine = &*run.engine;
    // Where no node runs, nothing could be looked up and nothing would answer.
    cluster.require_api()?;
    let node = cluster.nodes.first().ok_or_else(|| Error::new(Code::NotFound, "the cluster has no node"))?;
    let openings = openings(engine, cluster, texts, namespace, local).await?;
    let dns = cluster.configuration(engine).await?;
    let dns = dns.and_then(|found| service_address(&found.networking, DNS));
    let ground = Ground {
        cluster: cluster.name.to_string(),
        image: node.container.image.clone(),
        run: run.id.clone(),
        nodes: nodes::of(cluster),
        dns: dns
            .ok_or_else(|| Error::new(Code::NotFound, format!("cluster `{}` was never completed", cluster.name)))?,
    };
    let mut plans = openings.iter().map(|opening| opening.plan(&ground)).collect::<Result<Vec<_>>>()?;
    // They end with the cluster.
    for plan in &mut plans {
        plan.spec.labels.extend(cluster.expires.map(|expiry| (labels::EXPIRES.to_owned(), expiry.to_string())));
    }
    let is_own =
        |labels: &Labels| labels.contains_key(labels::TARGET) && labels.get(labels::CLUSTER) == Some(&ground.cluster);
    let names = Names::of(plans.iter().map(|plan| &plan.spec));
    ownership::require_free(engine, &names, (Code::NameTaken, None), is_own).await?;
    let made = openings.iter().zip(&plans).map(async |(opening, plan)| {
        let Some(forwarder) = existing(cluster, opening) else {
            let id = engine.create_container(&plan.spec).await?;
            let program = agent::tar(PROGRAM)
                .map_err(|source| Error::new(Code::StepFailed, "cannot pack the forwarder").with_cause(&source))?;
            engine.upload(&id, program).await?;
            write_files(engine, &id, &plan.files).await?;
            start(engine, &id, opening, local).await?;
            return Ok::<_, Error>((id, false));
        };
        if !forwarder.is_running() {
            start(engine, &forwarder.id, opening, local).await?;
        }
        Ok((forwarder.id.clone(), true))
    });
    // Every one is awaited, even after a failure: nothing may be made any more while the clean-up looks for it.
    let made = join_all(made).await.into_iter().collect::<Result<Vec<_>>>()?;
    let opened = openings.iter().zip(plans).zip(made).map(async |((opening, plan), (id, unchanged))| {
        let said = check(engine, &id).await?;
        Ok::<_, Error>(opened(opening, plan.spec.name, unchanged, said))
    });
    try_join_all(opened).await
}

/// Starts a forwarder; someone may have taken its port meanwhile.
async fn start(engine: &dyn Engine, id: &str, opening: &Opening, local: bool) -> Result<()> {
    let Err(error) = engine.start_container(id).await else { return Ok(()) };
    if error.code() != Code::PortTaken || !local {
        return Err(error);
    }
    let containers = engine.containers(&[]).await?;
    Err(match ports::obstacle(opening.host, opening.protocol, &containers) {
        Some(obstacle) => error.because(obstacle),
        None => error,
    })
}

/// What a forwarder says when it is asked: the node by which something answers, or why nothing does; `None` if it takes long.
async fn check(engine: &dyn Engine, id: &str) -> Result<Option<Result<String, String>>> {
    let command = [PROGRAM, "forward", "check"];
    let Ok(output) = timeout(CHECK_TIMEOUT, engine.exec(id, &command, None)).await else { return Ok(None) };
    let output = match output {
        Ok(output) => output,
        Err(error) if error.reason() == Some(Reason::NotRunning) => {
            let text = engine.logs(id, Some(LINES)).await?;
            let text = String::from_utf8_lossy(&text);
            return Err(Error::new(Code::StepFailed, "the forwarder does not run").with_lines(text.lines()));
        }
        Err(error) => return Err(error),
    };
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(Some(if output.exit_code == 0 { Ok(said) } else { Err(said) }))
}

fn opened(opening: &Opening, container: String, unchanged: bool, said: Option<Result<String, String>>) -> Opened {
    let (answers, node, cause) = match said {
        // A node lives; whether a datagram is answered cannot be known without speaking its language.
        Some(Ok(node)) => ((opening.protocol != Protocol::Udp).then_some(true), Some(node), None),
        Some(Err(cause)) => (Some(false), None, Some(cause)),
        None => (None, None, Some(format!("no answer within {} s", CHECK_TIMEOUT.as_secs()))),
    };
    Opened {
        host_address: opening.host.ip().to_string(),
        host_port: opening.host.port(),
        protocol: opening.protocol,
        target: opening.label(),
        container,
        unchanged,
        answers,
        node,
        cause,
    }
}
