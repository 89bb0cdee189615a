//! The Services of `manifests:`, which shall answer when `create` is done.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::contents::manifests::Document;
use crate::cluster::found;
use crate::cluster::run::Run;
use crate::cluster::service::urls::Sight;
use crate::cluster::service::wait::settled;
use crate::config::ClusterName;
use crate::error::Result;
use crate::kubernetes::{Client, object};

/// How long a Service may need when its pods are ready: kube-proxy and the agent make it reachable within a second or two.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until the Services that have pods among the documents answer, and returns what is to be said of the others. A
/// cluster whose pods are all ready is not removed because a Service leads nowhere.
pub(super) async fn wait(
    run: &Run,
    client: &Client,
    cluster: &ClusterName,
    documents: &[Document],
) -> Result<Vec<String>> {
    let names = with_pods(documents);
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let sight = &Sight::new(&run.engine.info().await?, run.engine.place());
    let cluster = found::get(&*run.engine, cluster).await?;
    let deadline = run.deadline.min(Instant::now() + TIMEOUT);
    let waits = names.iter().map(|(namespace, name)| settled(client, &cluster, (namespace, name), sight, deadline));
    Ok(join_all(waits).await.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect())
}

/// Namespace and name of the Services that select pods of a workload among the documents.
fn with_pods(documents: &[Document]) -> Vec<(&str, &str)> {
    let place = |object: &Value| object::namespace(object).unwrap_or("default").to_owned();
    let services = documents.iter().map(|document| &document.object).filter(|object| object["kind"] == "Service");
    let has_pods = |service: &&Value| {
        let selector = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty());
        selector.is_some_and(|selector| {
            documents.iter().map(|document| &document.object).any(|workload| {
                let labels = if workload["kind"] == "Pod" {
                    &workload["metadata"]["labels"]
                } else {
                    &workload["spec"]["template"]["metadata"]["labels"]
                };
                let has_all = selector.iter().all(|(key, value)| labels[key] == *value);
                has_all && workload["spec"]["replicas"] != 0 && place(workload) == place(service)
            })
        })
    };
    let name = |service| (object::namespace(service).unwrap_or("default"), object::name(service));
    services.filter(has_pods).map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_services_with_pods_among_the_manifests_are_awaited() {
        let document = |object: Value| Document { file: "a".into(), number: 1, line: 1, object };
        let service = |name: &str, namespace: Option<&str>, app: &str| {
            let metadata = json!({"name": name, "namespace": namespace});
            document(json!({"kind": "Service", "metadata": metadata, "spec": {"selector": {"app": app}}}))
        };
        let deployment = |app: &str, replicas: u64| {
            let template = json!({"metadata": {"labels": {"app": app, "tier": "web"}}});
            document(
                json!({"kind": "Deployment", "metadata": {"name": app}, "spec": {"replicas": replicas, "template": template}}),
            )
        };
        let pod = document(json!({"kind": "Pod", "metadata": {"name": "p", "labels": {"app": "pod"}}}));
        let documents = [
            service("web", Some("default"), "web"),
            service("elsewhere", Some("n"), "web"),
            service("later", None, "later"),
            service("none", None, "none"),
            service("pod", None, "pod"),
            document(json!({"kind": "Service", "metadata": {"name": "outside"}, "spec": {}})),
            deployment("web", 2),
            deployment("none", 0),
            pod,
        ];
        assert_eq!(with_pods(&documents), [("default", "web"), ("default", "pod")]);
    }
}
