//! `start`: the same containers again, with all they had.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use crate::cluster::health::back;
use crate::cluster::health::wait::conditions;
use crate::cluster::lifecycle::bindings;
use crate::cluster::lifecycle::moving::{self, Moved};
use crate::cluster::lifecycle::parts::Parts;
use crate::cluster::run::Run;
use crate::cluster::{access, astray, found, leads, registry};
use crate::config::{ClusterName, Registry, Role};
use crate::engine::files::read_file;
use crate::engine::spec::{Container, State};
use crate::engine::{Engine, REPLACED};
use crate::error::{Code, Error, Result};
use crate::host::credentials;
use crate::plan::CLUSTER_CONFIG;
use crate::plan::node::credentials::Login;
use crate::ui::Step;

/// Gives what is about to start other ports in the place of those that someone has taken meanwhile, and all kubeconfigs that
/// have the cluster's entry its new address. Returns the ports, and those files that could not be corrected.
pub async fn move_ports(engine: &dyn Engine, name: &ClusterName) -> Result<(Vec<Moved>, Vec<(PathBuf, Error)>)> {
    let mut parts = Parts::of_cluster(engine, name).await?;
    if moving::complete(engine, &parts).await? {
        parts = Parts::of_cluster(engine, name).await?;
    }
    require_complete(engine, &parts).await?;
    let moved = moving::move_taken(engine, &parts).await?;
    // Also where nothing moves now: an earlier command may have ended between the two.
    let cluster = found::get(engine, name).await?;
    let left = leads::correct(engine, &cluster).await?;
    Ok((moved, left))
}

/// Starts what does not run of the parts, and returns the names of those containers.
pub async fn start(engine: &dyn Engine, parts: &Parts, step: &Step) -> Result<Vec<String>> {
    require_complete(engine, parts).await?;
    let completed = moving::take_over(engine, parts).await?;
    let parts = completed.as_ref().unwrap_or(parts);
    bindings::require_free(engine, parts).await?;
    astray::reconnect(engine, &parts.cluster, parts.to_start()).await?;
    let start = async |container: &Container| match start_container(engine, container, step).await {
        Ok(()) => Ok(container.name.clone()),
        Err(error) => Err(error.on_node(&container.name)),
    };
    join_all(parts.to_start().map(start)).await.into_iter().collect()
}

/// Fails for what a `create` or a move of ports that was killed has left: a node without its files would never be one.
async fn require_complete(engine: &dyn Engine, parts: &Parts) -> Result<()> {
    if let Some(half) = parts.to_start().find(|container| container.name.ends_with(REPLACED)) {
        let name = &parts.cluster.name;
        return Err(Error::new(Code::StepFailed, format!("the ports of cluster `{name}` were never moved completely"))
            .because(format!("the container `{}` is still to be replaced", half.name))
            .hint(format!("`coracle start {name} --move-ports` completes it")));
    }
    for container in parts.to_start().filter(|container| container.state == State::Created) {
        let is_plane = |node: &&found::Node| node.name == container.name && node.role == Role::ControlPlane;
        if parts.cluster.nodes.iter().any(|node| is_plane(&node))
            && read_file(engine, &container.id, CLUSTER_CONFIG).await?.is_none()
        {
            let name = &parts.cluster.name;
            return Err(Error::new(Code::StepFailed, format!("cluster `{name}` was never completed"))
                .because(format!("`{}` has no files", container.name))
                .hint(format!("delete it: `coracle delete cluster --name {name}`")));
        }
    }
    Ok(())
}

async fn start_container(engine: &dyn Engine, container: &Container, step: &Step) -> Result<()> {
    step.detail(&container.name, "starting");
    if container.state == State::Paused {
        engine.unpause_container(&container.id).await?;
    } else {
        engine.start_container(&container.id).await?;
    }
    step.detail(&container.name, "started");
    Ok(())
}

/// Gives the running nodes of the parts this host's credentials for the registries that they had some for: they were only in
/// the nodes' memory. Returns those registries, and how it went; without credentials, everything else still works.
pub async fn log_in(engine: &dyn Engine, parts: &Parts, docker_config: Option<&Path>) -> Result<Vec<Login>> {
    let cluster = found::get(engine, &parts.cluster.name).await?;
    let hosts = registry::known_hosts(engine, &cluster).await?;
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let configured = registry::configured(engine, &cluster).await?;
    let entry = |host: &String| {
        let known = configured.iter().find(|registry| registry.host == *host).cloned();
        Registry { login: true, ..known.unwrap_or_else(|| Registry::new(host)) }
    };
    let wanted: Vec<Registry> = hosts.iter().map(entry).collect();
    let logins = credentials::of_registries(docker_config, &wanted).await?;
    let nodes: Vec<String> = cluster
        .running()
        .map(|node| node.name.clone())
        .filter(|name| parts.nodes.is_empty() || parts.nodes.contains(name))
        .collect();
    registry::push_credentials(engine, &nodes, &logins).await?;
    Ok(logins)
}

/// Waits until what was started is usable again: by what it says now, and not by what it said before it was stopped.
///
/// `false` if there is no one to ask, because only some nodes of a stopped cluster were started.
pub async fn until_usable(run: &Run, parts: &Parts) -> Result<bool> {
    let engine = &*run.engine;
    let cluster = found::get(engine, &parts.cluster.name).await?;
    if !parts.nodes.is_empty() && cluster.require_api().is_err() {
        return Ok(false);
    }
    let client = access::client(engine, &cluster).await?.patient();
    let step = run.ui.step("Waiting until the cluster is usable");
    let config = cluster.configuration(engine).await?;
    let is_complete = config.is_none_or(|config| conditions(&config).1.is_empty());
    let nodes: Vec<String> = cluster
        .running()
        .map(|node| node.name.clone())
        .filter(|name| parts.nodes.is_empty() || parts.nodes.contains(name))
        .collect();
    let needed = back::Needed { nodes: &nodes, is_complete, dns: parts.nodes.is_empty() };
    back::until_back(run, &client, &needed, &step).await?;
    step.finish();
    Ok(true)
}
