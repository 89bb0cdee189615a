//! Objects of a manifest: applied in order, awaited until they work, deleted.

use std::time::Duration;

use futures_util::future::try_join_all;
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::error::{Code, Error, Result};
use crate::kubernetes::apply::patch;
use crate::kubernetes::client::{Client, Failure};
use crate::kubernetes::object::title;
use crate::kubernetes::resources::Resources;
use crate::kubernetes::retry::{PAUSE, retry};
use crate::kubernetes::workload::{self, State};

/// Pause between two looks at an object that is awaited or deleted.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long a kind may be unknown: its definition may just have been applied.
const NEW_KIND_TIMEOUT: Duration = Duration::from_secs(20);

/// An error, and the object that it is about.
#[derive(Debug)]
pub struct At {
    /// Index of the object.
    pub index: usize,
    /// The error.
    pub error: Error,
}

/// Applies objects one after the other: namespaces first, then definitions of kinds, then the others in their order.
pub async fn apply(client: &Client, objects: &[Value], deadline: Instant) -> Result<(), At> {
    let resources = Resources::new(client);
    let rank = |object: &Value| match object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("CustomResourceDefinition") => 1,
        _ => 2,
    };
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.sort_by_key(|index| objects.get(*index).map(rank));
    for index in order {
        let Some(object) = objects.get(index) else { continue };
        apply_object(client, &resources, object, deadline).await.map_err(|error| At { index, error })?;
    }
    Ok(())
}

async fn apply_object(client: &Client, resources: &Resources<'_>, object: &Value, deadline: Instant) -> Result<()> {
    let failed = |cause: &str| Error::new(Code::ApiFailed, format!("cannot apply {}", title(object))).because(cause);
    let unknown_until = deadline.min(Instant::now() + NEW_KIND_TIMEOUT);
    let path = loop {
        match retry(deadline, || resources.path(object)).await.map_err(|failure| failed(failure.text()))? {
            Some(path) => break path,
            None if Instant::now() < unknown_until => sleep(PAUSE).await,
            None => {
                let (kind, version) = (&object["kind"], &object["apiVersion"]);
                return Err(failed(&format!("the cluster does not serve the kind {kind} of {version}")));
            }
        }
    };
    patch(client, &path, object, deadline).await.map(drop).map_err(|failure| failed(failure.text()))
}

/// Waits until all objects that run or serve something do so.
pub async fn wait(client: &Client, objects: &[Value], deadline: Instant, progress: impl Fn(&str)) -> Result<(), At> {
    let resources = Resources::new(client);
    let mut awaited: Vec<(usize, &Value)> =
        objects.iter().enumerate().filter(|(_, object)| workload::is_awaited(object)).collect();
    // APIs last: if one does not come up, the reason is with its pods, which are awaited before it.
    awaited.sort_by_key(|(_, object)| object["kind"] == "APIService");
    for (index, object) in awaited {
        let failed = |error: Error| At { index, error };
        let of_api = |failure: Failure| failed(Error::from(failure));
        let Some(path) = retry(deadline, || resources.path(object)).await.map_err(of_api)? else { continue };
        loop {
            let now = retry(deadline, || client.get(&path)).await.map_err(of_api)?;
            let cause = match workload::state(&now) {
                State::Ready => break,
                State::Waiting(cause) => cause,
                State::Failed(cause) => {
                    let error = Error::new(Code::NotReady, format!("{} failed", title(&now)));
                    return Err(failed(with_pod(client, &now, error.because(cause)).await));
                }
            };
            progress(&format!("{} ({cause})", title(&now)));
            if Instant::now() >= deadline {
                let error = Error::new(Code::NotReady, format!("{} is not ready", title(&now)));
                return Err(failed(with_pod(client, &now, error.because(cause)).await));
            }
            sleep(POLL_INTERVAL).await;
        }
    }
    Ok(())
}

/// Adds the reasons why the pods of a workload are not ready.
async fn with_pod(client: &Client, object: &Value, error: Error) -> Error {
    let Some(path) = workload::pods_path(object) else { return error };
    match client.get(&path).await {
        Ok(list) => error.with_lines(workload::troubles(&list)),
        Err(_) => error,
    }
}

/// An object, if it exists. A namespace that is not there is an answer here, and not one that comes soon.
async fn find(client: &Client, path: &str, deadline: Instant) -> Result<Option<Value>> {
    let ask = || async {
        match client.get(path).await {
            Err(Failure::Status(404, ..)) => Ok(None),
            other => other.map(Some),
        }
    };
    retry(deadline, ask).await.map_err(Error::from)
}

/// Those of the objects that exist without this label, by kind and name: someone else made them.
pub async fn unlabelled(client: &Client, objects: &[Value], label: &str, deadline: Instant) -> Result<Vec<String>> {
    let resources = Resources::new(client);
    let look = async |object: &Value| {
        // A kind that is not there yet has no objects.
        let Some(path) = retry(deadline, || resources.path(object)).await? else { return Ok(None) };
        let found = find(client, &path, deadline).await?;
        Ok::<_, Error>(found.filter(|found| found["metadata"]["labels"][label].is_null()).map(|_| title(object)))
    };
    let found = try_join_all(objects.iter().map(look)).await?;
    Ok(found.into_iter().flatten().collect())
}

/// Deletes those of the objects that exist and have the label, and waits until they are gone.
pub async fn delete(client: &Client, objects: &[Value], label: (&str, &str), deadline: Instant) -> Result<usize> {
    let resources = Resources::new(client);
    let mut paths = Vec::new();
    for object in objects.iter().rev() {
        let Some(path) = retry(deadline, || resources.path(object)).await? else { continue };
        // Another object that has taken its place stays.
        let found = find(client, &path, deadline).await?;
        if found.is_some_and(|found| found["metadata"]["labels"][label.0] == label.1) {
            paths.push((path, title(object)));
        }
    }
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"});
    for (path, title) in &paths {
        let deleted = retry(deadline, || client.send(Method::DELETE, path, "application/json", Some(&options))).await;
        match deleted {
            Ok(_) | Err(Failure::Status(404, ..)) => {}
            Err(failure) => {
                return Err(Error::new(Code::ApiFailed, format!("cannot delete {title}")).because(failure.text()));
            }
        }
    }
    for (path, title) in &paths {
        while !matches!(client.get(path).await, Err(Failure::Status(404, ..))) {
            if Instant::now() >= deadline {
                return Err(Error::new(Code::NotReady, format!("{title} still exists"))
                    .because("something holds it back, such as a finalizer or a pod that does not terminate"));
            }
            sleep(POLL_INTERVAL).await;
        }
    }
    Ok(paths.len())
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
