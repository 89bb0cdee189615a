//! Pods that still run what a tag meant before, and how they get what it means now.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::image::{self, NodeContainer, Reference};
use crate::kubernetes::{Client, Failure, manifest, title, workload};
use crate::ui::Ui;

/// What `kubectl rollout restart` sets, so that `kubectl rollout history` tells both alike.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// Why a container waits that may have got its image just now.
const WAITING: &[&str] = &["ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff"];

/// What names of images mean in nodes now.
#[derive(Debug, Clone, Default)]
pub struct Meaning {
    /// The nodes.
    pub nodes: Vec<String>,
    /// Image IDs by full name.
    pub names: BTreeMap<String, String>,
}

/// What was rolled, and what could not be.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rolled {
    /// Workloads with new pods, such as ``Deployment `default/web` ``.
    pub workloads: Vec<String>,
    /// Pods with the old image that no workload makes anew.
    pub pods: Vec<String>,
}

impl Meaning {
    /// What this text, in a pod, means now; `None` for images that are not concerned.
    fn of(&self, text: &str) -> Option<&str> {
        let name: Reference = text.parse().ok()?;
        self.names.get(&name.to_string()).map(String::as_str)
    }
}

/// How many pods run an image that their name of it no longer means.
pub async fn outdated_pods(engine: &dyn Engine, meaning: &Meaning) -> Result<usize> {
    let containers = latest(image::node_containers(engine, &meaning.nodes).await?);
    let outdated = containers.values().filter(|one| meaning.of(&one.name).is_some_and(|id| id != one.image));
    Ok(outdated.map(|one| one.pod_uid.as_str()).collect::<BTreeSet<_>>().len())
}

/// The last container of each that a pod has, by the pod's UID and the container's name.
fn latest(containers: Vec<(String, NodeContainer)>) -> BTreeMap<(String, String), NodeContainer> {
    let mut latest: BTreeMap<(String, String), NodeContainer> = BTreeMap::new();
    for (_, container) in containers {
        let key = (container.pod_uid.clone(), container.container.clone());
        if latest.get(&key).is_none_or(|other| other.attempt <= container.attempt) {
            latest.insert(key, container);
        }
    }
    latest
}

/// Rolls the workloads whose pods run an old image, or wait for one that is there now, and waits for the new pods.
pub async fn restart(
    engine: &dyn Engine,
    cluster: &Cluster,
    meaning: &Meaning,
    deadline: Instant,
    ui: &Ui,
) -> Result<Rolled> {
    let client = access::client(engine, cluster).await?;
    let (containers, pods) = tokio::join!(image::node_containers(engine, &meaning.nodes), client.get("/api/v1/pods"));
    let (containers, pods) = (latest(containers?), pods?);
    let mut rolled = Rolled::default();
    let mut owners: BTreeMap<String, Value> = BTreeMap::new();
    for pod in pods["items"].as_array().into_iter().flatten().filter(|pod| is_outdated(pod, meaning, &containers)) {
        match owner(&client, pod).await? {
            Some(owner) => drop(owners.insert(title(&owner), owner)),
            None => rolled.pods.push(pod_name(pod)),
        }
    }
    let mut objects = Vec::new();
    for (title, owner) in owners {
        if owner["spec"]["paused"] == true {
            ui.warn(format!("{title} is paused, and its pods stay: `kubectl rollout resume` lets them go"));
            continue;
        }
        warn_of_pulls(&title, &owner, meaning, ui);
        objects.push(roll(&client, &owner).await?);
        rolled.workloads.push(title);
    }
    if objects.is_empty() {
        return Ok(rolled);
    }
    let step = ui.step(format!("Restarting {}", rolled.workloads.join(", ")));
    let said = |what: &str| step.detail("waiting for", what);
    manifest::wait(&client, &objects, deadline, said).await.map_err(|at| at.error)?;
    step.finish();
    Ok(rolled)
}

fn pod_name(pod: &Value) -> String {
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

/// Whether a pod runs something else than its names mean now, or waits for an image of such a name.
fn is_outdated(pod: &Value, meaning: &Meaning, containers: &BTreeMap<(String, String), NodeContainer>) -> bool {
    let ended = ["Succeeded", "Failed"].map(|phase| pod["status"]["phase"] == phase).contains(&true);
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if ended || !pod["metadata"]["deletionTimestamp"].is_null() || !meaning.nodes.iter().any(|one| one == node) {
        return false;
    }
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    workload::containers(&pod["spec"]).any(|container| {
        let text = |key: &str| container[key].as_str().unwrap_or_default();
        let Some(now) = meaning.of(text("image")) else { return false };
        match containers.get(&(uid.to_owned(), text("name").to_owned())) {
            Some(running) => running.image != now,
            None => waits(pod, text("name")),
        }
    })
}

fn waits(pod: &Value, container: &str) -> bool {
    let statuses = ["initContainerStatuses", "containerStatuses"];
    let mut statuses = statuses.iter().filter_map(|field| pod["status"][*field].as_array()).flatten();
    statuses.any(|status| {
        let reason = status["state"]["waiting"]["reason"].as_str().unwrap_or_default();
        status["name"] == container && WAITING.contains(&reason)
    })
}

/// The workload that makes a pod anew when its template changes.
async fn owner(client: &Client, pod: &Value) -> Result<Option<Value>> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let mut object = pod.clone();
    // A pod's owner may be a ReplicaSet, whose owner is a Deployment.
    for _ in 0..2 {
        let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let Some(owner) = owners.into_iter().find(|owner| owner["controller"] == true) else { return Ok(None) };
        let (Some(kind), Some(name)) = (owner["kind"].as_str(), owner["name"].as_str()) else { return Ok(None) };
        let plural = match (owner["apiVersion"].as_str(), kind) {
            (Some("apps/v1"), "ReplicaSet") => "replicasets",
            (Some("apps/v1"), "Deployment") => "deployments",
            (Some("apps/v1"), "StatefulSet") => "statefulsets",
            (Some("apps/v1"), "DaemonSet") => "daemonsets",
            _ => return Ok(None),
        };
        object = match client.get(&format!("/apis/apps/v1/namespaces/{namespace}/{plural}/{name}")).await {
            Ok(object) => object,
            // Deleted just now: its pods follow.
            Err(Failure::Status(404, ..)) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        if kind != "ReplicaSet" {
            return Ok(Some(object));
        }
    }
    Ok(None)
}

/// With the policy `Always` the kubelet asks a registry, and what was loaded does not count.
fn warn_of_pulls(title: &str, owner: &Value, meaning: &Meaning, ui: &Ui) {
    let always = |container: &&Value| {
        container["imagePullPolicy"] == "Always"
            && container["image"].as_str().is_some_and(|name| meaning.of(name).is_some())
    };
    if let Some(container) = workload::containers(&owner["spec"]["template"]["spec"]).find(always) {
        let name = container["image"].as_str().unwrap_or_default();
        ui.warn(format!(
            "{title} has `imagePullPolicy: Always` for `{name}`, so that the kubelet asks a registry for it; `IfNotPresent` \
             uses what is in the node"
        ));
    }
}

async fn roll(client: &Client, owner: &Value) -> Result<Value> {
    let title = title(owner);
    let failed = |cause: String| Error::new(Code::ApiFailed, format!("cannot restart {title}")).because(cause);
    let now = time::OffsetDateTime::now_utc()
        .format(&time::format_description::well_known::Rfc3339)
        .map_err(|source| failed(source.to_string()))?;
    let change = json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}});
    let text = |key: &str| owner["metadata"][key].as_str().unwrap_or_default();
    let kind = owner["kind"].as_str().unwrap_or_default().to_lowercase();
    let path =
        format!("/apis/apps/v1/namespaces/{}/{kind}s/{}?fieldManager=kubectl-rollout", text("namespace"), text("name"));
    client
        .send(Method::PATCH, &path, "application/merge-patch+json", Some(&change))
        .await
        .map_err(|failure| failed(failure.text().to_owned()))
}

/// Every image that pods and workloads of a cluster name.
pub async fn named_images(engine: &dyn Engine, cluster: &Cluster) -> Result<BTreeSet<String>> {
    const LISTS: [&str; 6] = [
        "/api/v1/pods",
        "/apis/apps/v1/deployments",
        "/apis/apps/v1/statefulsets",
        "/apis/apps/v1/daemonsets",
        "/apis/batch/v1/jobs",
        "/apis/batch/v1/cronjobs",
    ];
    let client = access::client(engine, cluster).await?;
    let lists =
        futures_util::future::try_join_all(LISTS.iter().map(|path| client.get(path))).await.map_err(|failure| {
            Error::new(Code::ApiFailed, "cannot ask the cluster which images it needs")
                .because(failure.text())
                .hint(format!("`coracle status --name {}` says how it does", cluster.name))
        })?;
    let objects = lists.iter().filter_map(|list| list["items"].as_array()).flatten();
    let images = objects.flat_map(workload::images).map(str::to_owned);
    Ok(images.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(pod: &str, name: &str, image: &str, attempt: u64) -> (String, NodeContainer) {
        let container = NodeContainer {
            image: image.to_owned(),
            name: "app:1".to_owned(),
            pod: format!("default/{pod}"),
            pod_uid: pod.to_owned(),
            container: name.to_owned(),
            attempt,
        };
        ("a".to_owned(), container)
    }

    fn meaning() -> Meaning {
        let names = BTreeMap::from([("docker.io/library/app:1".to_owned(), "sha256:new".to_owned())]);
        Meaning { nodes: vec!["a".to_owned()], names }
    }

    fn pod(uid: &str, node: &str) -> Value {
        let spec = json!({
            "nodeName": node,
            "initContainers": [{"name": "first", "image": "docker.io/app:1"}],
            "containers": [{"name": "main", "image": "other"}],
        });
        json!({"metadata": {"uid": uid, "namespace": "default", "name": uid}, "spec": spec, "status": {"phase": "Running"}})
    }

    #[test]
    fn a_pod_is_outdated_when_its_last_container_has_an_image_of_before() {
        let containers = latest(vec![
            container("old", "first", "sha256:old", 0),
            container("back", "first", "sha256:new", 1),
            container("back", "first", "sha256:old", 0),
        ]);
        let is_outdated = |pod: &Value| is_outdated(pod, &meaning(), &containers);
        assert!(is_outdated(&pod("old", "a")));
        assert!(!is_outdated(&pod("old", "b")));
        assert!(!is_outdated(&pod("back", "a")));
        let mut ended = pod("old", "a");
        ended["status"]["phase"] = json!("Succeeded");
        assert!(!is_outdated(&ended));
        let mut going = pod("old", "a");
        going["metadata"]["deletionTimestamp"] = json!("2026-11-21T12:00:00Z");
        assert!(!is_outdated(&going));
    }

    #[test]
    fn a_pod_that_waits_for_the_image_is_outdated() {
        let containers = BTreeMap::new();
        let mut waiting = pod("new", "a");
        assert!(!is_outdated(&waiting, &meaning(), &containers));
        let state = json!({"waiting": {"reason": "ImagePullBackOff"}});
        waiting["status"]["initContainerStatuses"] = json!([{"name": "first", "state": state}]);
        assert!(is_outdated(&waiting, &meaning(), &containers));
    }
}
