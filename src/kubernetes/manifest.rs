//! Objects of a manifest: applied in their order, awaited until they do what they are for, removed.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::error::{Code, Error, Result};
use crate::kubernetes::apply::{PAUSE, patch, retry};
use crate::kubernetes::resources::Resources;
use crate::kubernetes::workload::{self, State};
use crate::kubernetes::{Client, Failure, title};

/// Pause between two looks at an object that is awaited or removed.
const LOOK: Duration = Duration::from_millis(200);
/// How long a kind may be unknown: its definition may have come just before.
const NEW_KIND: Duration = Duration::from_secs(20);

/// What failed, and at which of the objects.
#[derive(Debug)]
pub struct At {
    /// Index of the object.
    pub index: usize,
    /// What failed.
    pub error: Error,
}

/// Applies objects one after the other: name spaces first, then definitions of kinds, then the others as they come.
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
        one(client, &resources, object, deadline).await.map_err(|error| At { index, error })?;
    }
    Ok(())
}

async fn one(client: &Client, resources: &Resources<'_>, object: &Value, deadline: Instant) -> Result<()> {
    let failed = |cause: &str| Error::new(Code::ApiFailed, format!("cannot apply {}", title(object))).because(cause);
    let unknown_until = deadline.min(Instant::now() + NEW_KIND);
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

/// Waits until all objects that run something, or serve something, do so.
pub async fn wait(client: &Client, objects: &[Value], deadline: Instant, said: impl Fn(&str)) -> Result<(), At> {
    let resources = Resources::new(client);
    let mut awaited: Vec<(usize, &Value)> =
        objects.iter().enumerate().filter(|(_, object)| workload::is_awaited(object)).collect();
    // What serves an API last: whoever waits for it in vain wants to know of its pods.
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
            said(&format!("{} ({cause})", title(&now)));
            if Instant::now() >= deadline {
                let error = Error::new(Code::NotReady, format!("{} is not ready", title(&now)));
                return Err(failed(with_pod(client, &now, error.because(cause)).await));
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Adds what keeps the pods of a workload.
async fn with_pod(client: &Client, object: &Value, error: Error) -> Error {
    let Some(path) = workload::pods_path(object) else { return error };
    match client.get(&path).await {
        Ok(list) => error.lines(workload::troubles(&list)),
        Err(_) => error,
    }
}

/// Removes those of the objects that have the label (and are there), and waits until they are gone.
pub async fn remove(client: &Client, objects: &[Value], label: (&str, &str), deadline: Instant) -> Result<usize> {
    let resources = Resources::new(client);
    let mut paths = Vec::new();
    for object in objects.iter().rev() {
        let Some(path) = retry(deadline, || resources.path(object)).await? else { continue };
        match retry(deadline, || client.get(&path)).await {
            Ok(found) if found["metadata"]["labels"][label.0] == label.1 => paths.push((path, title(object))),
            // Somebody put another one in its place, which stays.
            Ok(_) | Err(Failure::Status(404, ..)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"});
    for (path, title) in &paths {
        let removed = retry(deadline, || client.send(Method::DELETE, path, "application/json", Some(&options))).await;
        match removed {
            Ok(_) | Err(Failure::Status(404, ..)) => {}
            Err(failure) => {
                return Err(Error::new(Code::ApiFailed, format!("cannot remove {title}")).because(failure.text()));
            }
        }
    }
    for (path, title) in &paths {
        while !matches!(client.get(path).await, Err(Failure::Status(404, ..))) {
            if Instant::now() >= deadline {
                return Err(Error::new(Code::NotReady, format!("{title} is still there"))
                    .because("something keeps it, such as a finalizer or a pod that does not end"));
            }
            sleep(LOOK).await;
        }
    }
    Ok(paths.len())
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
