//! A client of the Kubernetes API, for requests whose bodies are plain JSON.

use std::net::SocketAddr;
use std::time::Duration;

use coracle_shared::api;
use http::{Method, Request};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{Code, Error, Result};
use crate::plan::Credentials;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take when a person waits for what a running cluster says.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a request may take while a cluster starts: the API server's own limit. A request that is given up earlier is
/// still carried out by a slow server, beside the next attempt.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a read whose connection broke is repeated, and the pause between.
const READ_AGAIN: Duration = Duration::from_secs(3);
const READ_PAUSE: Duration = Duration::from_millis(100);

/// The first pause before a request is made again that the server had no room for; each is twice as long as the one before.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A client of one cluster's API.
#[derive(Clone)]
pub struct Client {
    inner: api::Client,
    /// Its URL.
    server: String,
    timeout: Duration,
}

/// Why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// The API answered with a status: code, reason and message.
    Status(u16, String, String),
    /// The request did not reach the API server.
    Transport(String),
    /// The request reached it, or may have, and no answer came: whether it was carried out is unknown.
    Lost(String),
}

/// What a failure says about another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It may succeed: the API server is starting, is busy or lacks something that is on its way.
    Passes,
    /// It lacks something that the control plane makes by itself in its first seconds, or that no one ever makes.
    Settles,
    /// It fails in the same way.
    Never,
    /// The answer was lost, and the attempt may have succeeded.
    Unknown,
}

/// Internal errors with these words are about the object that was sent: server-side apply reports fields that do not exist,
/// and list items that exist twice, as if they were the server's fault.
const OF_THE_OBJECT: [&str; 3] =
    ["failed to create typed patch object", "field not declared in schema", "duplicate entries"];

/// Refusals with these words are of a cluster's first seconds: the range of Services, the ServiceAccount of a new namespace
/// and the two classes of Kubernetes itself are made by controllers. They are also the answer to a mistake in an object.
const OF_THE_FIRST_SECONDS: [&str; 5] = [
    "does not match the current range",
    // The API server is making the same Service at the same moment: `default/kubernetes`.
    "provided IP is already allocated",
    "allocator not ready",
    "error looking up service account",
    "no PriorityClass with name",
];

impl Failure {
    /// The message to show.
    pub fn text(&self) -> &str {
        match self {
            Self::Status(_, _, message) | Self::Transport(message) | Self::Lost(message) => message,
        }
    }

    /// The connection broke on its way or before; a server that no one runs refuses it instead, and another server has another
    /// certificate.
    fn is_broken_connection(&self) -> bool {
        match self {
            Self::Status(..) => false,
            Self::Transport(text) => !text.contains("refused") && !text.contains("certificate"),
            Self::Lost(_) => true,
        }
    }

    /// Whether another attempt may succeed, by the reason of the status where there is one.
    pub fn outlook(&self) -> Outlook {
        let passes = match self {
            Self::Transport(_) => true,
            Self::Lost(_) => return Outlook::Unknown,
            Self::Status(400..500, _, message) if OF_THE_FIRST_SECONDS.iter().any(|words| message.contains(words)) => {
                return Outlook::Settles;
            }
            Self::Status(code, reason, message) => match reason.as_str() {
                // Its kind is known, but its namespace does not exist yet.
                "NotFound" => message.contains("namespaces"),
                // Authorization and admission are not complete yet.
                "Forbidden" => message.contains("not yet ready") || message.contains("unable to create new content"),
                // Upstream gives what is wrong with an applied object no reason at all.
                "InternalError" | "" if *code == 500 => !OF_THE_OBJECT.iter().any(|words| message.contains(words)),
                // The server knows no user before it has read its files.
                "Unauthorized" | "TooManyRequests" | "ServerTimeout" | "Timeout" | "ServiceUnavailable"
                | "Conflict" => true,
                "Invalid"
                | "BadRequest"
                | "AlreadyExists"
                | "MethodNotAllowed"
                | "NotAcceptable"
                | "UnsupportedMediaType"
                | "RequestEntityTooLarge"
                | "Gone"
                | "Expired" => false,
                _ => *code == 401 || *code == 429 || *code >= 500,
            },
        };
        if passes { Outlook::Passes } else { Outlook::Never }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::new(Code::ApiFailed, "the Kubernetes API rejected a request").because(failure.text())
    }
}

/// JSON that reads the same as YAML, as which the API server reads what is applied: there, three more characters end a line.
fn as_yaml(value: &Value) -> Vec<u8> {
    let text = serde_json::to_string(value).unwrap_or_default();
    let breaks = [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    breaks
        .iter()
        .fold(text, |text, (c, escaped)| if text.contains(*c) { text.replace(*c, escaped) } else { text })
        .into()
}

impl Client {
    /// A client of the API server with these credentials.
    pub fn connect(credentials: &Credentials) -> Result<Self> {
        Self::with(&api::Server {
            url: &credentials.server,
            authority: credentials.authority.as_bytes(),
            identity: Some((credentials.certificate.as_bytes(), credentials.key.as_bytes())),
            name: None,
            connect_timeout: CONNECT_TIMEOUT,
        })
    }

    /// A client without credentials, of a server without TLS.
    #[cfg(test)]
    pub(crate) fn anonymous(server: &str) -> Self {
        let server =
            api::Server { url: server, authority: b"", identity: None, name: None, connect_timeout: CONNECT_TIMEOUT };
        Self::with(&server).unwrap()
    }

    fn with(server: &api::Server<'_>) -> Result<Self> {
        let client = api::Client::new(server).map_err(|source| {
            Error::new(Code::ApiFailed, "cannot create a client of the Kubernetes API").with_cause(&*source)
        })?;
        Ok(Self { inner: client, server: server.url.to_owned(), timeout: REQUEST_TIMEOUT })
    }

    /// The address of the server, if its URL has one and no name.
    pub fn address(&self) -> Option<SocketAddr> {
        let (_, rest) = self.server.split_once("://")?;
        rest.trim_end_matches('/').replace("localhost", "127.0.0.1").parse().ok()
    }

    /// The same client, with as much time for a request as the API server itself takes at most.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { timeout: PATIENT_TIMEOUT, ..self }
    }

    /// Sends a request with a JSON body and returns the JSON answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let bytes = body.map(as_yaml).unwrap_or_default();
        let deadline = Instant::now() + self.timeout;
        let mut pause = BUSY_PAUSE;
        loop {
            let request = Request::builder()
                .method(&method)
                .uri(path)
                .header("Content-Type", content_type)
                .body(bytes.clone())
                .map_err(|source| Failure::Transport(source.to_string()))?;
            match timeout_at(deadline, Box::pin(self.inner.read(request))).await {
                Err(_) => return Err(Failure::Lost(format!("no answer within {} s", self.timeout.as_secs()))),
                // Health endpoints answer with plain text.
                Ok(Ok(body)) => return Ok(serde_json::from_slice(&body).unwrap_or_else(|_| text(&body))),
                Ok(Err(api::Failure::Status(status))) if is_busy(&status) && Instant::now() + pause < deadline => {
                    sleep(pause).await;
                    pause *= 2;
                }
                Ok(Err(api::Failure::Status(status))) => {
                    return Err(Failure::Status(status.code, status.reason, status.message));
                }
                Ok(Err(api::Failure::Transport(source))) => return Err(transport(&*source)),
            }
        }
    }

    /// Reads an object or a list. Reading changes nothing: a connection that breaks is worth another attempt, for a moment.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        let begun = Instant::now();
        loop {
            let answer = self.send(Method::GET, path, "application/json", None).await;
            let Err(failure) = &answer else { return answer };
            if !failure.is_broken_connection() || begun.elapsed() >= READ_AGAIN {
                return answer;
            }
            sleep(READ_PAUSE).await;
        }
    }
}

/// Whether a server will answer soon. One that refuses an eviction because of a budget is not busy: it has answered; and so has
/// one that does not reach what a request is for.
fn is_busy(status: &api::Status) -> bool {
    let answers = ["Cannot evict pod", "error trying to reach service"];
    [429, 503, 504].contains(&status.code) && !answers.iter().any(|answer| status.message.starts_with(answer))
}

/// A request without an answer.
fn transport(source: &(dyn std::error::Error + 'static)) -> Failure {
    let error = Error::new(Code::ApiFailed, "").with_cause(source);
    let text = error.cause().unwrap_or_default().to_owned();
    // hyper names the phase in which it failed, and only this one is before the request is sent.
    if text.contains("(Connect)") { Failure::Transport(text) } else { Failure::Lost(text) }
}

fn text(body: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::pki::Pki;

    #[tokio::test]
    async fn a_client_is_made_of_credentials() {
        let pki = Pki::generate(time::OffsetDateTime::now_utc()).unwrap();
        let pair = &pki.kubernetes.pair;
        let credentials = Credentials {
            server: "https://127.0.0.1:1".to_owned(),
            authority: pair.certificate.clone(),
            certificate: pair.certificate.clone(),
            key: pair.key.clone(),
        };
        assert!(Client::connect(&credentials).is_ok());
        let without_server = Credentials { server: String::new(), ..credentials };
        assert_eq!(Client::connect(&without_server).err().unwrap().code(), Code::ApiFailed);
    }
}
