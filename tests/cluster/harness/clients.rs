//! Clients that write without a pause while something breaks, and remember what they were told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coracle::cluster::access;
use coracle::kubernetes::{Client, Failure};
use coracle::plan::Credentials;
use http::Method;
use serde_json::{Value, json};

use super::cluster::{Cluster, json};
use super::run::{docker_output, ensure, eventually};

/// The label of everything that they write.
const LABEL: &str = "written-by";
/// Between two requests of a client, and before the same one is made again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an attempt may take at most: longer than what the scenarios call too long.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a cluster may take to be itself again after a fault.
const SETTLED: Duration = Duration::from_secs(10);

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A new connection for each request, which is made again after a second without an answer.
    Hurried,
    /// A new connection for each request, which waits as long as it takes.
    Fresh,
    /// One connection for all requests, until it breaks.
    Kept,
    /// Reads, with a new connection each time.
    Reader,
}

impl Kind {
    fn patience(self) -> Duration {
        if self == Self::Hurried { Duration::from_secs(1) } else { ATTEMPT_TIMEOUT }
    }
}

/// One request on its way.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub kind: Kind,
    /// When its client first made this request.
    pub first: Instant,
    pub began: Instant,
    /// When it ended; `None` while it is under way.
    pub ended: Option<Instant>,
    /// Why it failed.
    pub failure: Option<String>,
}

#[derive(Default)]
struct Record {
    attempts: Vec<Attempt>,
    acknowledged: BTreeSet<String>,
}

/// Four clients that write, and one that reads, until this value is dropped.
pub struct Clients {
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    namespace: String,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts them, each with what the user's kubeconfig has.
    pub fn start(cluster: &Cluster, namespace: &str) -> Result<Self, String> {
        make_namespace(cluster, namespace)?;
        let kubeconfig = cluster.coracle(&["get", "kubeconfig"])?;
        let credentials = access::parse(kubeconfig.as_bytes()).map_err(|error| error.to_string())?;
        let mut clients =
            Self { record: Arc::default(), stop: Arc::default(), namespace: namespace.to_owned(), threads: Vec::new() };
        for (index, kind) in [Kind::Hurried, Kind::Hurried, Kind::Fresh, Kind::Kept, Kind::Reader].iter().enumerate() {
            let one = One {
                kind: *kind,
                name: format!("w{index}"),
                path: format!("/api/v1/namespaces/{namespace}/configmaps"),
                credentials: credentials.clone(),
                record: Arc::clone(&clients.record),
                stop: Arc::clone(&clients.stop),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            clients.threads.push(std::thread::spawn(move || runtime.block_on(one.run())));
        }
        Ok(clients)
    }

    /// The attempts that had not ended at this moment, or began later.
    pub fn since(&self, moment: Instant) -> Vec<Attempt> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.attempts.iter().filter(|attempt| attempt.ended.is_none_or(|ended| ended >= moment)).cloned().collect()
    }

    /// Ends the clients, and returns how many writes were acknowledged; all of them must be there.
    pub fn finish(mut self, cluster: &Cluster) -> Result<usize, String> {
        self.end();
        let list = cluster.kubectl(&[
            "get",
            "configmaps",
            "--namespace",
            &self.namespace,
            "--selector",
            LABEL,
            "--output=jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}",
        ])?;
        let there: BTreeSet<&str> = list.lines().collect();
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let lost: Vec<&str> =
            record.acknowledged.iter().map(String::as_str).filter(|name| !there.contains(name)).collect();
        ensure(lost.is_empty(), || format!("acknowledged and lost: {}", lost.join(", ")))?;
        Ok(record.acknowledged.len())
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes the namespace. A scenario before may have ended a fault a moment ago, and the load balancer may then cut one more
/// connection; what it said is printed, so that a cut without a reason is seen.
fn make_namespace(cluster: &Cluster, namespace: &str) -> Result<(), String> {
    eventually(SETTLED, || {
        let made = cluster.kubectl(&["create", "namespace", namespace]);
        made.map(drop).or_else(|error| {
            if error.contains("AlreadyExists") {
                return Ok(());
            }
            let balancer = format!("{}-load-balancer", cluster.name);
            let said = docker_output(&["logs", "--timestamps", "--since=20s", &balancer])?;
            println!("        {error}; the load balancer said: {}{}", said.stdout, said.stderr);
            Err(error)
        })
    })
}

struct One {
    kind: Kind,
    name: String,
    path: String,
    credentials: Credentials,
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
}

impl One {
    async fn run(self) {
        let mut kept = None;
        for number in 1.. {
            let name = format!("{}-{number}", self.name);
            let first = Instant::now();
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let failed = self.attempt(&name, first, &mut kept).await;
                tokio::time::sleep(PAUSE).await;
                if !failed {
                    break;
                }
            }
        }
    }

    /// Whether an attempt failed; it is noted.
    async fn attempt(&self, name: &str, first: Instant, kept: &mut Option<Client>) -> bool {
        let attempt = Attempt { kind: self.kind, first, began: Instant::now(), ended: None, failure: None };
        let index = {
            let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            record.attempts.push(attempt);
            record.attempts.len() - 1
        };
        let failure = self.request(name, kept).await.err();
        if failure.is_some() || self.kind != Kind::Kept {
            *kept = None;
        }
        let failed = failure.is_some();
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = &mut record.attempts[index];
        (attempt.ended, attempt.failure) = (Some(Instant::now()), failure);
        if !failed && self.kind != Kind::Reader {
            record.acknowledged.insert(name.to_owned());
        }
        failed
    }

    async fn request(&self, name: &str, kept: &mut Option<Client>) -> Result<(), String> {
        let client = match kept.take() {
            Some(client) => client,
            None => Client::connect(&self.credentials).map_err(|error| error.to_string())?.patient(),
        };
        let body: Value = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {LABEL: self.name}},
        });
        let read = format!("{}/kube-root-ca.crt", self.path);
        let request = async {
            match self.kind {
                Kind::Reader => client.send(Method::GET, &read, "application/json", None).await,
                _ => client.send(Method::POST, &self.path, "application/json", Some(&body)).await,
            }
        };
        let answer = tokio::time::timeout(self.kind.patience(), request).await;
        let answer = answer.map_err(|_| "no answer in time".to_owned())?;
        *kept = Some(client);
        match answer {
            // It exists where an attempt before had no answer, and was carried out.
            Ok(_) | Err(Failure::Status(409, ..)) => Ok(()),
            Err(failure) => Err(failure.text().to_owned()),
        }
    }
}

/// What `coracle status -o json` has of its parts: the nodes, and the load balancer.
pub fn parts(status: &str) -> Result<Vec<Value>, String> {
    let status = json(status)?;
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    Ok(nodes.into_iter().chain(std::iter::once(status["balancer"].clone())).collect())
}
