//! What a new cluster contains from the start: images, add-ons and manifests of its configuration.

use crate::catalog::Addon;
use crate::cluster::addon::{self, Target};
use crate::cluster::contents::manifests::Document;
use crate::cluster::health::wait::conditions;
use crate::cluster::registry;
use crate::cluster::run::Run;
use crate::config::{ClusterConfig, LocalRegistry};
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::image::{check_source, load_docker_images};
use crate::kubernetes::Client;
use crate::plan::facts::Registry;
use crate::plan::node::credentials::Login;
use crate::plan::{Layout, labels};

mod manifests;
mod services;

/// What will be put into the cluster, read and checked.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    documents: Vec<Document>,
    addons: Vec<Addon>,
    registry: Option<Registry>,
}

/// Checks all that can be known before something is made, builds the images of add-ons and starts the registry.
pub(crate) async fn prepare(
    run: &Run,
    cluster: &ClusterConfig,
    version: &str,
    registry: Option<&Registry>,
    local: bool,
) -> Result<Contents> {
    let (documents, warnings) = check(&*run.engine, cluster, version, registry, local).await?;
    for warning in warnings {
        run.ui.warn(warning);
    }
    let addons = addon::prepare(run, &cluster.addons, None).await?;
    if let Some(directory) = cluster.persist.as_ref().filter(|_| local) {
        std::fs::create_dir_all(directory).map_err(|source| {
            Error::new(Code::FileFailed, format!("cannot create the directory `{directory}` for volumes"))
                .with_cause(&source)
        })?;
    }
    // A registry that the file does not name stays as it is, even if it is stopped.
    if let Some(registry) = registry.filter(|_| cluster.registry.is_some()) {
        let new = registry::ensure(run, registry, local).await?;
        // As with `registry create`, the existing clusters share it.
        if new && registry.name == LocalRegistry::DEFAULT {
            let clusters = registry::users(&*run.engine, &registry.name).await?;
            registry::report(registry::attach_all(run, registry, &clusters).await, registry, &run.ui);
        }
    }
    Ok(Contents { documents, addons, registry: registry.cloned() })
}

/// Checks without making anything, and reads the manifests; also returns warnings about them.
pub(crate) async fn check(
    engine: &dyn Engine,
    cluster: &ClusterConfig,
    version: &str,
    registry: Option<&Registry>,
    local: bool,
) -> Result<(Vec<Document>, Vec<String>)> {
    check_source()?;
    if let Some(registry) = registry.filter(|_| cluster.registry.is_some()) {
        registry::check(engine, registry, local).await?;
    }
    if let Some(directory) = &cluster.persist {
        let users = engine.containers(&[format!("{}={directory}", labels::PERSIST)]).await?;
        if let Some(node) = users.first() {
            return Err(Error::new(Code::ClusterExists, format!("the volumes in `{directory}` are in use"))
                .because(format!("another cluster uses them; one of its nodes is `{}`", node.name))
                .hint("delete that cluster, or give this one another directory in `persist`"));
        }
    }
    manifests::check(engine, cluster, version).await
}

/// Puts everything into a cluster, and waits until it works, if that `is_awaited`.
///
/// Everything is applied before something is awaited: a manifest may bring the network that add-ons need.
pub(crate) async fn install(
    run: &Run,
    client: &Client,
    layout: &Layout,
    contents: &Contents,
    logins: &[Login],
    is_awaited: bool,
) -> Result<()> {
    let cluster = &layout.cluster;
    if let Some(registry) = &contents.registry {
        let attached = registry::attach(run, client, registry, &cluster.name).await;
        attached.or_else(|error| optional(run, cluster, registry, error))?;
    }
    let target = target(run, client, layout);
    let nodes = target.node_names();
    registry::push_credentials(&*run.engine, &nodes, logins).await?;
    if !cluster.images.is_empty() {
        let step = run.ui.step(format!("Loading {}", cluster.images.join(", ")));
        let progress = |_: &str, done: u64, total: u64| step.bytes(done, total);
        load_docker_images(&run.engine, &nodes, &cluster.images, &progress).await?;
        step.finish();
    }
    let applied = addon::apply(&target, &contents.addons, &cluster.addons).await?;
    // Without a network no pod starts until the user installs one.
    let has_network = conditions(cluster).1.is_empty() || !contents.documents.is_empty();
    if !contents.documents.is_empty() {
        let step = run.ui.step("Applying manifests");
        manifests::apply(client, &contents.documents, run.deadline).await?;
        step.finish();
    }
    if !is_awaited {
        return Ok(());
    }
    if has_network {
        addon::wait(&target, &applied).await?;
    }
    if !contents.documents.is_empty() {
        let step = run.ui.step("Waiting for the workloads of the manifests");
        manifests::wait(client, &contents.documents, run.deadline, &step).await?;
        for told in services::wait(run, client, &cluster.name, &contents.documents).await? {
            run.ui.warn(told);
        }
        step.finish();
    }
    Ok(())
}

/// A registry that the configuration does not ask for may be gone meanwhile: no reason to give up a cluster.
fn optional(run: &Run, cluster: &ClusterConfig, registry: &Registry, error: Error) -> Result<()> {
    if cluster.registry.is_some() || error.code() == Code::Interrupted {
        return Err(error);
    }
    let again = format!("`coracle registry create --name {}` connects it", registry.name);
    run.ui.warn(format!("registry `{}` was not connected: {error}; {again}", registry.name));
    Ok(())
}

/// The new cluster as add-ons see it.
fn target<'a>(run: &'a Run, client: &'a Client, layout: &Layout) -> Target<'a> {
    let nodes = layout.nodes.iter().map(|node| {
        let ports = node.config.extra_port_mappings.iter().map(|mapping| mapping.container_port);
        (node.name.clone(), ports.collect())
    });
    Target { run, client, nodes: nodes.collect() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::engine::SharedEngine;
    use crate::engine::fake::FakeEngine;
    use crate::ui::{Ui, UiOptions};

    #[test]
    fn only_a_registry_that_was_asked_for_is_needed() {
        let engine: SharedEngine = Arc::new(FakeEngine::new(&[]));
        let (ui, shown) = Ui::captured(UiOptions::default());
        let run = Run::new(&engine, &ui, "run", Duration::ZERO);
        let registry = Registry { name: "coracle-registry".to_owned(), port: 5001 };
        let gone = || Error::new(Code::NotFound, "registry `coracle-registry` does not exist");
        let mut cluster = ClusterConfig::new("t-one".parse().unwrap());
        optional(&run, &cluster, &registry, gone()).unwrap();
        assert!(shown.stderr().contains("registry `coracle-registry` was not connected"), "{}", shown.stderr());
        let interrupted = Error::new(Code::Interrupted, "interrupted");
        assert_eq!(optional(&run, &cluster, &registry, interrupted).unwrap_err().code(), Code::Interrupted);
        cluster.registry = Some(LocalRegistry::Named("coracle-registry".to_owned()));
        assert_eq!(optional(&run, &cluster, &registry, gone()).unwrap_err().code(), Code::NotFound);
    }
}
