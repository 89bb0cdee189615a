//! The Kubernetes API: lists and watches that continue whatever happens to the API server.

use std::cell::RefCell;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use coracle_shared::api::{self, Failure, Lines, Status};
use http::{Method, Request};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch::Sender;
use tokio::time::{sleep, timeout};

use crate::config::Endpoint;
use crate::log::{self, Failures};
use crate::object::{Metadata, Object, Objects};

/// Where the kubelet mounts the service account's token and the cluster's certificate authority.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long the server keeps one watch open, in seconds.
const WATCH_SECONDS: u32 = 290;
/// The API server sends a bookmark each minute: if nothing arrives for this long, the connection is dead.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(150);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Deserialize)]
struct List<T> {
    metadata: Metadata,
    items: Vec<T>,
}

/// What a watch tells.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
enum Event<O> {
    Added(O),
    Modified(O),
    Deleted(O),
    Bookmark(Bookmark),
    Error(Status),
}

/// How far the watch has come although nothing was changed.
#[derive(Debug, Deserialize)]
struct Bookmark {
    metadata: Metadata,
}

/// A client of one endpoint.
struct Client {
    client: api::Client,
    /// The file with the token that proves who the agent is: the kubelet renews it.
    token: Option<PathBuf>,
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

/// The cluster's API at any of its endpoints, with one client for all watches of an endpoint.
pub(crate) struct Api<'a> {
    endpoints: &'a [Endpoint],
    /// The current client of each endpoint; it is replaced after a failure, because its connections may be dead.
    clients: RefCell<Vec<Option<Rc<Client>>>>,
    failures: RefCell<Failures>,
}

impl<'a> Api<'a> {
    /// Nothing is connected yet.
    pub(crate) fn new(endpoints: &'a [Endpoint]) -> Self {
        let clients = RefCell::new(vec![None; endpoints.len()]);
        Self { endpoints, clients, failures: RefCell::default() }
    }

    /// Keeps `objects` equal to those of the API, forever; the endpoints take turns while none answers.
    ///
    /// It is `None` until the first list, and keeps its content while the API cannot be reached.
    pub(crate) async fn watch<O: Object>(&self, objects: &Sender<Option<Objects<O>>>) -> Infallible {
        let mut backoff = Backoff(Backoff::FIRST);
        loop {
            for index in 0..self.endpoints.len() {
                let mut listed = false;
                let result = self.follow::<O>(index, objects, &mut listed).await;
                if listed {
                    backoff = Backoff(Backoff::FIRST);
                }
                if let Err(error) = result {
                    self.failures.borrow_mut().report(format!("api {}: {error}", self.endpoints[index].url));
                }
                if listed {
                    break;
                }
            }
            sleep(backoff.next()).await;
        }
    }

    /// Lists once and then watches until something fails.
    async fn follow<O: Object>(
        &self,
        index: usize,
        objects: &Sender<Option<Objects<O>>>,
        listed: &mut bool,
    ) -> Result<(), String> {
        let client = self.client(index)?;
        let result = self.list_and_watch::<O>(&client, &self.endpoints[index].url, objects, listed).await;
        if result.is_err() {
            self.discard(index, &client);
        }
        result
    }

    async fn list_and_watch<O: Object>(
        &self,
        client: &Client,
        url: &str,
        objects: &Sender<Option<Objects<O>>>,
        listed: &mut bool,
    ) -> Result<(), String> {
        // Version 0 is answered from the API server's cache, without etcd.
        let selector = match O::FIELD_SELECTOR {
            "" => String::new(),
            selector => format!("&fieldSelector={selector}"),
        };
        let list = client.read(&format!("{}?resourceVersion=0{selector}", O::PATH)).await?;
        let list: List<O> = serde_json::from_slice(&list).map_err(|error| chain(&error))?;
        let mut version = list.metadata.resource_version;
        let entries = list.items.into_iter().map(Object::into_entry);
        let known: Objects<O> = entries.filter_map(|(key, value)| Some((key, value?))).collect();
        self.failures.borrow_mut().clear();
        *listed = true;
        log::line(format_args!("api {url}: watching {} {}", known.len(), kind::<O>()));
        publish(objects, known);
        loop {
            let query = format!(
                "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}{selector}",
                O::PATH
            );
            let mut lines = client.lines(&query).await?;
            loop {
                let line =
                    timeout(SILENCE_TIMEOUT, lines.next()).await.map_err(|_| "the watch became silent".to_owned())?;
                let Some(line) = line.map_err(|error| chain(&*error))? else { break };
                match serde_json::from_slice(&line).map_err(|error| chain(&error))? {
                    Event::Added(object) | Event::Modified(object) => {
                        version.clone_from(&object.metadata().resource_version);
                        put(objects, object);
                    }
                    Event::Deleted(object) => {
                        version.clone_from(&object.metadata().resource_version);
                        remove(objects, object);
                    }
                    Event::<O>::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                    // The version is too old for the server: the caller lists again, so this is no failure.
                    Event::Error(status) if status.code == 410 => return Ok(()),
                    Event::Error(status) => return Err(status.message),
                }
            }
        }
    }

    /// Reads one object; the endpoints take turns while none answers.
    pub(crate) async fn read(&self, path: &str) -> Result<Value, String> {
        let mut failure = "no endpoint".to_owned();
        for index in 0..self.endpoints.len() {
            match self.client(index)?.read(path).await {
                Ok(object) => return serde_json::from_slice(&object).map_err(|error| chain(&error)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Sends a write; the endpoints take turns while none answers. 404 and 409 are results: another
    /// program was faster.
    pub(crate) async fn write(&self, method: Method, path: &str, body: &Value) -> Result<u16, String> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let mut failure = "no endpoint".to_owned();
        for index in 0..self.endpoints.len() {
            let client = self.client(index)?;
            let request = client.request(method.clone(), path)?.header("Content-Type", kind);
            let request = request.body(body.to_string().into_bytes()).map_err(|error| chain(&error))?;
            failure = match timeout(ANSWER_TIMEOUT, client.client.read(request)).await {
                Ok(Ok(_)) => return Ok(200),
                Ok(Err(Failure::Status(status))) if [404, 409].contains(&status.code) => return Ok(status.code),
                Ok(Err(failure)) => text(failure),
                Err(_) => "no answer".to_owned(),
            };
        }
        Err(failure)
    }

    fn client(&self, index: usize) -> Result<Rc<Client>, String> {
        if let Some(client) = &self.clients.borrow()[index] {
            return Ok(Rc::clone(client));
        }
        let client = Rc::new(Client::connect(&self.endpoints[index])?);
        self.clients.borrow_mut()[index] = Some(Rc::clone(&client));
        Ok(client)
    }

    /// If several watches see the client fail, only the first one replaces it.
    fn discard(&self, index: usize, failed: &Rc<Client>) {
        let slot = &mut self.clients.borrow_mut()[index];
        if slot.as_ref().is_some_and(|client| Rc::ptr_eq(client, failed)) {
            *slot = None;
        }
    }
}

/// The last word of the path, for the log.
fn kind<O: Object>() -> &'static str {
    O::PATH.rsplit('/').next().unwrap_or(O::PATH)
}

/// Stores a whole list; wakes the receivers only if it differs.
fn publish<T: PartialEq>(objects: &Sender<Option<T>>, listed: T) {
    objects.send_if_modified(|current| {
        let changed = current.as_ref() != Some(&listed);
        if changed {
            *current = Some(listed);
        }
        changed
    });
}

/// Stores one object; wakes the receivers only if the fields that matter have changed: kubelets write statuses often.
fn put<O: Object>(objects: &Sender<Option<Objects<O>>>, object: O) {
    let (key, value) = object.into_entry();
    objects.send_if_modified(|current| {
        let current = current.get_or_insert_default();
        match value {
            Some(value) if current.get(&key) == Some(&value) => false,
            Some(value) => {
                current.insert(key, value);
                true
            }
            None => current.remove(&key).is_some(),
        }
    });
}

fn remove<O: Object>(objects: &Sender<Option<Objects<O>>>, object: O) {
    let (key, _) = object.into_entry();
    objects.send_if_modified(|current| current.as_mut().is_some_and(|current| current.remove(&key).is_some()));
}

impl Client {
    fn connect(endpoint: &Endpoint) -> Result<Self, String> {
        // Without TLS (`kubectl proxy`), no one can be trusted with the token.
        let secure = endpoint.url.starts_with("https:");
        let authority = if secure {
            let file = secret("ca.crt")?;
            std::fs::read(&file).map_err(|error| format!("cannot read `{}`: {error}", file.display()))?
        } else {
            Vec::new()
        };
        let client = api::Client::new(&api::Server {
            url: &endpoint.url,
            authority: &authority,
            identity: None,
            name: endpoint.server_name,
            connect_timeout: CONNECT_TIMEOUT,
        });
        let token = if secure { Some(secret("token")?) } else { None };
        Ok(Self { client: client.map_err(|error| chain(&*error))?, token })
    }

    fn request(&self, method: Method, path: &str) -> Result<http::request::Builder, String> {
        let request = Request::builder().method(method).uri(path);
        let Some(file) = &self.token else { return Ok(request) };
        let token = std::fs::read_to_string(file);
        let token = token.map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
        Ok(request.header("Authorization", format!("Bearer {}", token.trim())))
    }

    /// Reads what is at a path.
    async fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let request = self.request(Method::GET, path)?.body(Vec::new()).map_err(|error| chain(&error))?;
        let answer = timeout(ANSWER_TIMEOUT, self.client.read(request)).await.map_err(|_| "no answer".to_owned())?;
        answer.map(Into::into).map_err(text)
    }

    /// Reads what is at a path line by line, while it arrives.
    async fn lines(&self, path: &str) -> Result<Lines, String> {
        let request = self.request(Method::GET, path)?.body(Vec::new()).map_err(|error| chain(&error))?;
        let answer = timeout(ANSWER_TIMEOUT, self.client.send(request)).await.map_err(|_| "no answer".to_owned())?;
        answer.map(Lines::of).map_err(text)
    }
}

fn secret(name: &str) -> Result<PathBuf, String> {
    let path = Path::new(SERVICE_ACCOUNT).join(name);
    if path.is_file() { Ok(path) } else { Err(format!("there is no `{}`", path.display())) }
}

fn text(failure: Failure) -> String {
    match failure {
        Failure::Status(status) => status.message,
        Failure::Transport(error) => chain(&*error),
    }
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
    use tokio::sync::watch;

    use super::*;
    use crate::nodes::{Node, NodeObject};

    fn node(name: &str, address: &str) -> NodeObject {
        let status = format!(r#"{{"addresses":[{{"type":"InternalIP","address":"{address}"}}]}}"#);
        serde_json::from_str(&format!(r#"{{"metadata":{{"name":"{name}"}},"status":{status}}}"#)).unwrap()
    }

    #[test]
    fn pauses_grow_from_a_tenth_of_a_second_to_five() {
        let mut backoff = Backoff(Backoff::FIRST);
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn receivers_wake_only_for_what_is_new() {
        let (sender, mut receiver) = watch::channel::<Option<Objects<NodeObject>>>(None);
        let mut woken = || {
            let changed = receiver.has_changed().unwrap();
            receiver.mark_unchanged();
            changed
        };
        publish(&sender, Objects::<NodeObject>::new());
        assert!(woken(), "an empty list is an answer too");
        put(&sender, node("a", "172.30.0.2"));
        assert!(woken());
        put(&sender, node("a", "172.30.0.2"));
        assert!(!woken());
        put(&sender, node("a", "172.30.0.3"));
        assert!(woken());
        remove(&sender, node("b", "172.30.0.4"));
        assert!(!woken());
        remove(&sender, node("a", "172.30.0.3"));
        assert!(woken());
        assert_eq!(*sender.borrow(), Some(Objects::<NodeObject>::new()));
        publish(&sender, Objects::<NodeObject>::from([("a".to_owned(), Node::default())]));
        assert!(woken());
    }
}
