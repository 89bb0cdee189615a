//! Pods that still run the previous image of a tag, and how they get the current one.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::access;
use crate::cluster::found::Cluster;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::image::{self, NodeContainer, Reference};
use crate::kubernetes::object::{self, title};
use crate::kubernetes::{Client, Failure, manifest, workload};
use crate::ui::Ui;

/// What `kubectl rollout restart` sets, so that `kubectl rollout history` shows both alike.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// Reasons of containers that wait for an image, which may have been loaded since.
const WAITING: &[&str] = &["ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff"];

/// The images that names refer to in nodes now.
#[derive(Debug, Clone, Default)]
pub struct ImageNames {
    pub nodes: Vec<String>,
    /// Image IDs by full name.
    pub names: BTreeMap<String, String>,
}

/// What was restarted, and what could not be.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rolled {
    /// Workloads with new pods, such as ``Deployment `default/web` ``.
    pub workloads: Vec<String>,
    /// Pods with the old image that have no controller to recreate them.
    pub pods: Vec<String>,
}

impl ImageNames {
    /// The image that this name in a pod refers to now; `None` for other images.
    fn of(&self, text: &str) -> Option<&str> {
        let name: Reference = text.parse().ok()?;
        self.names.get(&name.to_string()).map(String::as_str)
    }
}

/// How many pods run an image to which its name no longer refers.
pub async fn outdated_pods(engine: &dyn Engine, images: &ImageNames) -> Result<usize> {
    let containers = latest(image::node_containers(engine, &images.nodes).await?);
    let outdated =
        containers.values().filter(|container| images.of(&container.name).is_some_and(|id| id != container.image));
    Ok(outdated.map(|container| container.pod_uid.as_str()).collect::<BTreeSet<_>>().len())
}

/// The latest attempt of each container, by the pod's UID and the container's name.
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

/// Restarts the workloads whose pods run an old image, or wait for one that has been loaded, and waits for the new pods.
pub async fn restart(
    engine: &dyn Engine,
    cluster: &Cluster,
    images: &ImageNames,
    deadline: Instant,
    ui: &Ui,
) -> Result<Rolled> {
    let client = access::client(engine, cluster).await?;
    let (containers, pods) = tokio::join!(image::node_containers(engine, &images.nodes), client.get("/api/v1/pods"));
    let (containers, pods) = (latest(containers?), pods?);
    let mut rolled = Rolled::default();
    let mut owners: BTreeMap<String, Value> = BTreeMap::new();
    for pod in object::items(&pods).iter().filter(|pod| is_outdated(pod, images, &containers)) {
        match owner(&client, pod).await? {
            Some(owner) => drop(owners.insert(title(&owner), owner)),
            None => rolled.pods.push(object::key(pod)),
        }
    }
    let mut objects = Vec::new();
    for (title, owner) in owners {
        if owner["spec"]["paused"] == true {
            ui.warn(format!("{title} is paused, so its pods were not replaced; run `kubectl rollout resume` first"));
            continue;
        }
        warn_of_pulls(&title, &owner, images, ui);
        objects.push(roll(&client, &owner).await?);
        rolled.workloads.push(title);
    }
    if objects.is_empty() {
        return Ok(rolled);
    }
    let step = ui.step(format!("Restarting {}", rolled.workloads.join(", ")));
    let progress = |what: &str| step.detail("waiting for", what);
    manifest::wait(&client, &objects, deadline, progress).await.map_err(|at| at.error)?;
    step.finish();
    Ok(rolled)
}

/// Whether a pod runs another image than its names refer to now, or waits for an image of such a name.
fn is_outdated(pod: &Value, images: &ImageNames, containers: &BTreeMap<(String, String), NodeContainer>) -> bool {
    let ended = ["Succeeded", "Failed"].map(|phase| pod["status"]["phase"] == phase).contains(&true);
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if ended || !pod["metadata"]["deletionTimestamp"].is_null() || !images.nodes.iter().any(|other| other == node) {
        return false;
    }
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    workload::containers(&pod["spec"]).any(|container| {
        let text = |key: &str| container[key].as_str().unwrap_or_default();
        let Some(now) = images.of(text("image")) else { return false };
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

/// The workload that replaces a pod when its template changes.
async fn owner(client: &Client, pod: &Value) -> Result<Option<Value>> {
    let namespace = object::namespace(pod).unwrap_or_default();
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
            // Just deleted: its pods follow.
            Err(Failure::Status(404, ..)) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        if kind != "ReplicaSet" {
            return Ok(Some(object));
        }
    }
    Ok(None)
}

/// With the policy `Always` the kubelet pulls from a registry, and ignores what was loaded.
fn warn_of_pulls(title: &str, owner: &Value, images: &ImageNames, ui: &Ui) {
    let always = |container: &&Value| {
        container["imagePullPolicy"] == "Always"
            && container["image"].as_str().is_some_and(|name| images.of(name).is_some())
    };
    if let Some(container) = workload::containers(&owner["spec"]["template"]["spec"]).find(always) {
        let name = container["image"].as_str().unwrap_or_default();
        ui.warn(format!(
            "{title} has `imagePullPolicy: Always` for `{name}`, so the kubelet pulls it from a registry; `IfNotPresent` uses the \
             image in the node"
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
    let (namespace, name) = (object::namespace(owner).unwrap_or_default(), object::name(owner));
    let kind = owner["kind"].as_str().unwrap_or_default().to_lowercase();
    let path = format!("/apis/apps/v1/namespaces/{namespace}/{kind}s/{name}?fieldManager=kubectl-rollout");
    client
        .send(Method::PATCH, &path, "application/merge-patch+json", Some(&change))
        .await
        .map_err(|failure| failed(failure.text().to_owned()))
}

/// All images that pods and workloads of a cluster name.
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
            Error::new(Code::ApiFailed, "cannot find out which images the cluster needs")
                .because(failure.text())
                .hint(format!("`coracle status --name {}` shows its health", cluster.name))
        })?;
    let objects = lists.iter().flat_map(object::items);
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
            ..NodeContainer::default()
        };
        ("a".to_owned(), container)
    }

    fn image_names() -> ImageNames {
        let names = BTreeMap::from([("docker.io/library/app:1".to_owned(), "sha256:new".to_owned())]);
        ImageNames { nodes: vec!["a".to_owned()], names }
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
    fn a_pod_is_outdated_if_its_last_container_has_an_old_image() {
        let containers = latest(vec![
            container("old", "first", "sha256:old", 0),
            container("back", "first", "sha256:new", 1),
            container("back", "first", "sha256:old", 0),
        ]);
        let is_outdated = |pod: &Value| is_outdated(pod, &image_names(), &containers);
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
        assert!(!is_outdated(&waiting, &image_names(), &containers));
        let state = json!({"waiting": {"reason": "ImagePullBackOff"}});
        waiting["status"]["initContainerStatuses"] = json!([{"name": "first", "state": state}]);
        assert!(is_outdated(&waiting, &image_names(), &containers));
    }
}
