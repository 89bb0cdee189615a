//! What a shell completes: commands and options, and the names of what exists at this moment.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use tokio::time::timeout;

use crate::catalog;
use crate::cli::namespace;
use crate::cluster::found::{self, Cluster};
use crate::cluster::{logs, registry, service, target};
use crate::config::ClusterName;
use crate::engine::SharedEngine;
use crate::engine::address::Environment;
use crate::engine::connect::connect;
use crate::error::Result;

/// The variable in which the script of a shell asks for completions.
pub(super) const VARIABLE: &str = "CORACLE_COMPLETE";
/// How long a shell waits for names at most: who presses Tab sees nothing meanwhile.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Answers a shell that asks, and ends the process.
pub(super) fn answer(grammar: fn() -> clap::Command) {
    CompleteEnv::with_factory(grammar).var(VARIABLE).complete();
}

/// Names of clusters.
pub(super) fn clusters() -> ArgValueCandidates {
    ArgValueCandidates::new(|| ask(async |engine| Ok(named_clusters(&found::list(&*engine).await?))))
}

fn named_clusters(clusters: &[Cluster]) -> Vec<CompletionCandidate> {
    clusters.iter().map(|cluster| candidate(cluster.name.as_str(), cluster.state().as_str())).collect()
}

/// Names of nodes, of the cluster that is named or of all.
pub(super) fn nodes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| ask(async |engine| Ok(named_nodes(&some(&engine, &words()).await?))))
}

fn named_nodes(clusters: &[Cluster]) -> Vec<CompletionCandidate> {
    let nodes = clusters.iter().flat_map(|cluster| &cluster.nodes);
    nodes.map(|node| candidate(&node.name, node.state().as_str())).collect()
}

/// Names of nodes and of what stands beside them.
pub(super) fn containers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| ask(async |engine| Ok(named_containers(&some(&engine, &words()).await?))))
}

fn named_containers(clusters: &[Cluster]) -> Vec<CompletionCandidate> {
    let containers = clusters.iter().flat_map(Cluster::containers);
    containers.map(|container| candidate(&container.name, container.state.as_str())).collect()
}

/// What a node has logs of, by its name in the words before.
pub(super) fn unit_or_pod() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        ask(async |engine| {
            let words = words();
            let clusters = some(&engine, &words).await?;
            let is_named = |name: &str| words.iter().any(|word| word == name);
            let mut containers = clusters.iter().flat_map(Cluster::containers);
            let Some(container) = containers.find(|container| is_named(&container.name)) else { return Ok(Vec::new()) };
            let target = target::find(&*engine, None, &container.name).await?;
            let names = logs::names(&*engine, &target).await?;
            Ok(names.into_iter().map(CompletionCandidate::new).collect())
        })
    })
}

/// Images of the engine.
pub(super) fn images() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        ask(async |engine| {
            let images = engine.images().await?;
            let names = images.into_iter().flat_map(|image| image.tags).filter(|name| !name.contains("<none>"));
            Ok(names.map(CompletionCandidate::new).collect())
        })
    })
}

/// Services of the namespace that is named, or of the context's.
pub(super) fn services() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        ask(async |engine| {
            let words = words();
            let Ok(name) = cluster_name(&words).parse() else { return Ok(Vec::new()) };
            let cluster = found::get(&*engine, &name).await?;
            let namespace = value(&words, &["--namespace"]).unwrap_or_else(|| namespace::of_context(&cluster));
            let names = service::names::names(&*engine, &cluster, &namespace).await?;
            Ok(names.iter().map(|(name, kind)| candidate(name, kind)).collect())
        })
    })
}

/// Add-ons that this version has.
pub(super) fn addons() -> ArgValueCandidates {
    ArgValueCandidates::new(|| catalog::names().into_iter().map(CompletionCandidate::new).collect())
}

/// Registries on this host.
pub(super) fn registries() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        ask(async |engine| {
            let found = registry::list(&*engine).await?;
            Ok(found.iter().map(|found| candidate(&found.registry.name, found.state.as_str())).collect())
        })
    })
}

/// Paths of this host, and nodes with the colon that a path follows.
pub(super) fn places() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut found = PathCompleter::any().complete(current);
        let begun = current.to_string_lossy();
        if !begun.contains(['/', ':']) {
            let nodes = ask(async |engine| Ok(named_containers(&some(&engine, &words()).await?)));
            let names = nodes.iter().map(|node| format!("{}:", node.get_value().to_string_lossy()));
            found.extend(names.filter(|name| name.starts_with(&*begun)).map(CompletionCandidate::new));
        }
        found
    })
}

fn candidate(name: &str, about: &str) -> CompletionCandidate {
    CompletionCandidate::new(name).help(Some(about.to_owned().into()))
}

/// The words of the command line that a shell completes.
fn words() -> Vec<String> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let words = words.into_iter().map(|word| word.to_string_lossy().into_owned());
    words.skip_while(|word| word != "--").skip(1).collect()
}

/// The value of an option with one of these names.
fn value(words: &[String], names: &[&str]) -> Option<String> {
    words.iter().enumerate().find_map(|(at, word)| {
        if names.contains(&word.as_str()) {
            return words.get(at + 1).cloned();
        }
        let (name, value) = word.split_once('=')?;
        names.contains(&name).then(|| value.to_owned())
    })
}

/// The cluster that is named in the words or the environment, or the default one.
fn cluster_name(words: &[String]) -> String {
    let variable = || std::env::var("CORACLE_CLUSTER_NAME").ok().filter(|name| !name.is_empty());
    value(words, &["--name", "-n"]).or_else(variable).unwrap_or_else(|| ClusterName::DEFAULT.to_owned())
}

/// The cluster that is named in the words, or all.
async fn some(engine: &SharedEngine, words: &[String]) -> Result<Vec<Cluster>> {
    let mut clusters = found::list(&**engine).await?;
    if let Some(name) = value(words, &["--name", "-n"]) {
        clusters.retain(|cluster| cluster.name.as_str() == name);
    }
    Ok(clusters)
}

/// Names that the engine is asked for; none if there is a problem or no time: a shell has no place for errors.
fn ask(work: impl AsyncFnOnce(SharedEngine) -> Result<Vec<CompletionCandidate>>) -> Vec<CompletionCandidate> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let names = async {
        let (engine, _) = connect(&Environment::from_process()).await?;
        work(engine).await
    };
    let names = runtime.block_on(async { timeout(TIMEOUT, names).await });
    runtime.shutdown_background();
    names.ok().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_is_the_one_in_the_words() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cluster_name(&words("coracle url --name dev")), "dev");
        assert_eq!(cluster_name(&words("coracle url --name=dev x")), "dev");
        assert_eq!(value(&words("coracle url x"), &["--namespace"]), None);
        assert_eq!(value(&words("coracle url --namespace"), &["--namespace"]), None);
    }
}
