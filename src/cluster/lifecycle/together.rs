//! All that is wrong with a configuration in one message, although it is found in several places: in the text, on this host,
//! in the lists of the node images, and in the files and images that it names.

use crate::cluster::contents;
use crate::cluster::lifecycle::checks::Subject;
use crate::cluster::lifecycle::upstream;
use crate::config::upstream::Written;
use crate::config::{self, ClusterConfig};
use crate::engine::Engine;
use crate::error::{Code, Error, Problem};
use crate::host::checks::Severity;
use crate::node_image::choose;
use crate::plan::{ProxySettings, labels};

/// Adds to an error about a configuration whatever else is wrong with it, as far as that is found without making or pulling
/// anything. `cluster` is what could be read of it, and `local` whether the engine is on this host.
pub async fn with_the_rest(
    engine: &dyn Engine,
    cluster: &ClusterConfig,
    written: &Written,
    local: bool,
    error: Error,
) -> Error {
    if error.code() != Code::ConfigInvalid || error.problems().is_empty() {
        return error;
    }
    let mut problems = error.problems().to_vec();
    let found = [
        of_host(engine, cluster, local).await,
        upstream::look(engine, cluster, written).await.map(|(problems, _)| problems).unwrap_or_default(),
        of_contents(engine, cluster, local).await,
    ];
    for problem in found.into_iter().flatten() {
        if !problems.iter().any(|known| (&known.place, &known.message) == (&problem.place, &problem.message)) {
            problems.push(problem);
        }
    }
    if problems.len() == error.problems().len() {
        return error;
    }
    config::invalid(&written.file, problems).with_hints(error.hints())
}

/// What this host and the engine cannot give.
async fn of_host(engine: &dyn Engine, cluster: &ClusterConfig, local: bool) -> Vec<Problem> {
    let Ok(info) = engine.info().await else { return Vec::new() };
    let proxy = ProxySettings::default();
    let Ok(subject) = Subject::look(engine, &info, cluster, &proxy, local).await else { return Vec::new() };
    let checks = subject.checks();
    let failures = checks.iter().filter_map(|check| check.failure(Severity::Error));
    failures.filter(|error| error.code() == Code::ConfigInvalid).flat_map(Error::problems).cloned().collect()
}

/// What is wrong with the manifests and images.
async fn of_contents(engine: &dyn Engine, cluster: &ClusterConfig, local: bool) -> Vec<Problem> {
    let labels = choose::labels_of(engine, cluster.image.as_deref()).await.ok().and_then(|(_, labels)| labels);
    let version = labels.and_then(|labels| labels.get(labels::VERSION).cloned()).unwrap_or_default();
    match contents::check(engine, cluster, &version, None, local).await {
        Err(error) if error.code() == Code::ConfigInvalid => error.problems().to_vec(),
        Err(error) if error.code() == Code::ImageMissing => {
            vec![Problem { place: "images".to_owned(), message: error.message().to_owned(), snippet: None }]
        }
        _ => Vec::new(),
    }
}
