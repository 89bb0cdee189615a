//! The socket at which the CNI plugin waits until the rules of a new pod are in place.

use std::convert::Infallible;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::spec::Policies;
use crate::log::Failures;

/// Name of the socket in the agent's run directory.
pub(crate) const SOCKET: &str = "agent.sock";
/// The longest request, bytes: a name, a few IDs and addresses.
const MAX_REQUEST: u64 = 4096;
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The request of the plugin, in one line of JSON. The answer is the line `ok`, once it is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// ID of the pod; empty if the runtime did not give it.
    pub(crate) uid: String,
    /// ID of the sandbox.
    pub(crate) container: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// What has happened to the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Command {
    Add,
    Del,
}

/// A message to the enforcer.
#[derive(Debug)]
pub(crate) enum Call {
    /// From now on, each change of a pod is a request; earlier changes are in the records.
    Open,
    /// A request, and the channel for its answer.
    Request(Request, oneshot::Sender<()>),
}

/// Answers forever. There is no socket before the policies are known: a pod that may start without them does not wait.
pub(crate) async fn serve(
    run: &Path,
    mut policies: watch::Receiver<Option<Policies>>,
    calls: &mpsc::Sender<Call>,
) -> Infallible {
    super::wait_until(&mut policies, |_| true).await;
    let mut failures = Failures::default();
    loop {
        match listen(run) {
            Ok(listener) => {
                let _ = calls.send(Call::Open).await;
                let error = accept(&listener, calls).await;
                failures.report(format!("gate: {error}"));
            }
            Err(error) => failures.report(format!("gate: cannot listen in `{}`: {error}", run.display())),
        }
        sleep(RETRY_PAUSE).await;
    }
}

fn listen(run: &Path) -> std::io::Result<UnixListener> {
    fs::create_dir_all(run)?;
    let path = run.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

async fn accept(listener: &UnixListener, calls: &mpsc::Sender<Call>) -> std::io::Error {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    open.spawn(answer(stream, calls.clone()));
                }
                Err(error) => return error,
            },
            Some(_) = open.join_next() => {}
        }
    }
}

/// A caller that goes away early is not a failure of the agent, so it is not reported.
async fn answer(stream: UnixStream, calls: mpsc::Sender<Call>) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let read = BufReader::new(reader.take(MAX_REQUEST)).read_line(&mut line).await;
    let answer = match serde_json::from_str(&line) {
        Ok(request) if read.is_ok() => {
            let (sender, done) = oneshot::channel();
            if calls.send(Call::Request(request, sender)).await.is_ok() && done.await.is_ok() { "ok\n" } else { return }
        }
        _ => "not understood\n",
    };
    let _ = writer.write_all(answer.as_bytes()).await;
}
