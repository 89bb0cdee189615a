//! The Kubernetes API: a list and a watch that go on whatever happens to the API server.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt;
use http::{Request, Uri};
use kube::Client;
use kube::core::WatchEvent;
use serde::Deserialize;
use tokio::sync::watch::Sender;
use tokio::time::{sleep, timeout};

use crate::config::Endpoint;
use crate::log::{self, Failures};
use crate::nodes::{Metadata, NodeObject, Nodes};

/// Where the kubelet mounts the service account's token and the cluster's certificate authority.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const NODES: &str = "/api/v1/nodes";
/// How long the server keeps one watch open, in seconds.
const WATCH_SECONDS: u32 = 290;
/// The API server sends a bookmark each minute: when nothing came for this long, the connection is dead.
const SILENCE: Duration = Duration::from_secs(150);
const ANSWER: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Deserialize)]
struct List<T> {
    metadata: Metadata,
    items: Vec<T>,
}

/// Pause between attempts: 100 ms at first, doubling up to 5 s.
#[derive(Debug)]
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(5);

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LAST);
        pause
    }
}

/// Keeps `nodes` as the API has them, for ever; the endpoints take turns while none answers.
pub(crate) async fn watch_nodes(endpoints: &[Endpoint], nodes: &Sender<Option<Nodes>>) -> Infallible {
    let mut backoff = Backoff(Backoff::FIRST);
    let mut failures = Failures::default();
    loop {
        for endpoint in endpoints {
            let mut listed = false;
            let result = follow(endpoint, nodes, &mut listed).await;
            if listed {
                backoff = Backoff(Backoff::FIRST);
                failures.clear();
            }
            if let Err(error) = result {
                failures.report(format!("api {}: {error}", endpoint.url));
            }
            if listed {
                break;
            }
        }
        sleep(backoff.next()).await;
    }
}

/// Lists once and then watches until something fails; each attempt connects anew.
async fn follow(endpoint: &Endpoint, nodes: &Sender<Option<Nodes>>, listed: &mut bool) -> Result<(), String> {
    let client = connect(endpoint)?;
    // Version 0 is answered from the API server's cache, without etcd.
    let list = client.request::<List<NodeObject>>(get(&format!("{NODES}?resourceVersion=0"))?);
    let list = timeout(ANSWER, list).await.map_err(|_| "no answer".to_owned())?.map_err(|error| chain(&error))?;
    let mut version = list.metadata.resource_version;
    let mut known: Nodes = list.items.into_iter().map(NodeObject::into_node).collect();
    publish(nodes, &known);
    if !*listed {
        log::line(format_args!("api {}: watching {} node(s)", endpoint.url, known.len()));
    }
    *listed = true;
    loop {
        let query = format!(
            "{NODES}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
        );
        let events = client.request_events::<NodeObject>(get(&query)?);
        let events = timeout(ANSWER, events).await.map_err(|_| "no answer".to_owned())?;
        let mut events = std::pin::pin!(events.map_err(|error| chain(&error))?);
        loop {
            let event = timeout(SILENCE, events.try_next()).await.map_err(|_| "the watch fell silent".to_owned())?;
            let Some(event) = event.map_err(|error| chain(&error))? else { break };
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version.clone_from(&object.metadata.resource_version);
                    let (name, node) = object.into_node();
                    known.insert(name, node);
                }
                WatchEvent::Deleted(object) => {
                    version.clone_from(&object.metadata.resource_version);
                    known.remove(&object.metadata.name);
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                // The version is too old for the server: the caller lists again, which is no failure.
                WatchEvent::Error(status) if status.code == 410 => return Ok(()),
                WatchEvent::Error(status) => return Err(status.message),
            }
            publish(nodes, &known);
        }
    }
}

/// Wakes the receiver only when something that matters is new: kubelets write their status often.
fn publish(nodes: &Sender<Option<Nodes>>, known: &Nodes) {
    nodes.send_if_modified(|current| {
        let changed = current.as_ref() != Some(known);
        if changed {
            *current = Some(known.clone());
        }
        changed
    });
}

fn connect(endpoint: &Endpoint) -> Result<Client, String> {
    let url: Uri = endpoint.url.parse().map_err(|_| "not a URL".to_owned())?;
    let secure = url.scheme_str() == Some("https");
    let mut config = kube::Config::new(url);
    config.connect_timeout = Some(CONNECT);
    config.default_retry = false;
    // Without TLS (`kubectl proxy`) there is nobody to trust with the token.
    if secure {
        config.root_cert_file = Some(secret("ca.crt")?);
        let token = secret("token")?;
        config.auth_info.token_file = Some(token.to_string_lossy().into_owned());
        config.tls_server_name = endpoint.server_name.map(str::to_owned);
    }
    Client::try_from(config).map_err(|error| chain(&error))
}

fn secret(name: &str) -> Result<PathBuf, String> {
    let path = Path::new(SERVICE_ACCOUNT).join(name);
    if path.is_file() { Ok(path) } else { Err(format!("there is no `{}`", path.display())) }
}

fn get(path: &str) -> Result<Request<Vec<u8>>, String> {
    Request::get(path).body(Vec::new()).map_err(|error| chain(&error))
}

/// The error with its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = source.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_a_tenth_of_a_second_to_five() {
        let mut backoff = Backoff(Backoff::FIRST);
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
